"""Tissue around a patch: of the right slide, at the right place, or none."""

import io
from pathlib import Path

import numpy as np
import openslide
import pytest
from output_helpers import record_of_file
from PIL import Image
from review_helpers import client_of, first_id, write_slide
from slide_files import write_tiff

from uga.errors import UserError
from uga.output.schema import SlideRecord
from uga.review.tiles import SlideTiles
from uga.slide import open_slide


def slide_of(path: Path) -> SlideRecord:
    with open_slide(path) as slide:
        return record_of_file(slide)


@pytest.fixture
def made(tmp_path):
    """A slide that OpenSlide reads, and packages of it."""
    yy, xx = np.mgrid[:2000, :1800]
    pixels = np.stack([xx * 255 // 1800, yy * 255 // 2000, np.full_like(xx, 90)], axis=-1).astype(np.uint8)
    path = tmp_path / "slides" / "s1.tif"
    path.parent.mkdir()
    write_tiff(path, pixels)
    record = slide_of(path)
    write_slide(tmp_path / "out", record, {1: 0.5})
    return path, record, tmp_path / "out"


def test_a_tile_is_the_slide_there(made):
    path, record, out = made
    client = client_of(out, tiles=SlideTiles.below(path.parent))
    identity = first_id(client)
    source = client.get(f"/api/patches/{identity}").json()["tiles"]
    stamp = source.pop("stamp")
    assert source == {"width": record.width, "height": record.height, "tile_px": 254, "overlap_px": 1}
    assert stamp
    assert record.quickhash.startswith(stamp), "browsers keep tiles; the address tells slides apart"
    levels = int(np.ceil(np.log2(max(record.width, record.height))))
    answer = client.get(f"/api/patches/{identity}/tiles/{levels}/1_2.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((254 - 1, 2 * 254 - 1), 0, (256, 256)).convert("RGB")).astype(int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected)[..., :2].max() < 16
    for place in (f"{levels}/99_0", f"{levels + 1}/0_0", "0/1_0"):
        assert client.get(f"/api/patches/{identity}/tiles/{place}.jpg").status_code == 404
    assert client.get(f"/api/patches/{identity}/tiles/-1/0_0.jpg").status_code == 404


@pytest.mark.parametrize("change", [{"quickhash": "other"}, {"width": 1799}, {"mpp_x": 0.3}, {"id": "s2"}])
def test_no_tiles_of_another_slide_or_of_pixels_that_are_not_square(made, change):
    path, record, _ = made
    tiles = SlideTiles.below(path.parent)
    changed = record.model_copy(update=change)
    assert tiles._generator(changed) is None
    assert tiles._generator(record) is not None


def test_a_slide_that_cannot_be_opened_leaves_the_patch(made):
    path, _, out = made
    path.write_bytes(b"II*\0 broken")
    client = client_of(out, tiles=SlideTiles.below(path.parent))
    identity = first_id(client)
    assert client.get(f"/api/patches/{identity}").json()["tiles"] is None
    assert client.get(f"/api/patches/{identity}/tiles/0/0_0.jpg").status_code == 404
    assert client.get(f"/api/patches/{identity}/image.png").status_code == 200


def test_a_slide_that_breaks_while_it_is_read(made, monkeypatch):
    path, record, _ = made
    tiles = SlideTiles.below(path.parent)
    generator = tiles._generator(record)

    def fail(*_):
        raise openslide.OpenSlideError("torn")

    monkeypatch.setattr(generator, "get_tile", fail)
    with pytest.raises(Exception, match="There is no such tile"):
        tiles.tile(record, 0, 0, 0)
    assert tiles._generator(record) is None


def test_only_so_many_slides_stay_open(tmp_path):
    records = []
    for number in range(6):
        path = tmp_path / f"s{number}.tif"
        write_tiff(path, np.full((300, 300 + number, 3), 40 * number, np.uint8))
        records.append(slide_of(path))
    tiles = SlideTiles.below(tmp_path)
    for record in (*records, records[0]):
        assert tiles._generator(record) is not None
        assert sum(generator is not None for generator in tiles._open.values()) <= 4


def test_no_slides(tmp_path):
    assert SlideTiles.below(None).files == {}
    with pytest.raises(UserError, match="name the folder with the slides by --slides"):
        SlideTiles.below(tmp_path / "none")
    with pytest.raises(UserError, match="No slide was found"):
        SlideTiles.below(tmp_path)
