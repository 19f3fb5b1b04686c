from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from panimg.image_builders.tiff import image_builder_tiff

from uga.geometry import GridRegion, SpacingUm
from uga.output import ifd, tiff
from uga.output.maps import MapReader
from uga.output.tiff import PyramidWriter

UM = SpacingUm(1.0, 1.0)


def write(path, picture, kind, bands=(), **options):
    options = {"spacing_um": UM, "tile_px": 16} | options
    with PyramidWriter(path, width=picture.shape[1], height=picture.shape[0], kind=kind, **options) as writer:
        for band in np.split(picture, sorted(b for b in bands if b <= len(picture))):
            writer.append(band)
    return path


def levels(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


def halve_mean(picture):
    """2 x 2 mean, rounded half up, of the picture with its last row and column repeated to even size."""
    edges = [(0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)][: picture.ndim]
    padded = np.pad(picture, edges, mode="edge").astype(int)
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2] + 2) // 4


def read_with_openslide(path, level=0):
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))


label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=60), elements=st.integers(0, 3))
splits = st.lists(st.integers(0, 75), max_size=6)


@settings(max_examples=40)
@given(picture=label_maps, bands=splits, threads=st.integers(1, 3))
def test_labels_read_back_whatever_the_bands(tmp_path_factory, picture, bands, threads):
    folder = tmp_path_factory.mktemp("labels")
    whole = write(folder / "whole.tif", picture, "labels")
    banded = write(folder / "banded.tif", picture, "labels", bands, threads=threads)
    assert whole.read_bytes() == banded.read_bytes()
    expected = picture
    for level, pixels in enumerate(levels(whole)):
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(read_with_openslide(whole, level)[..., 1], expected)
        expected = expected[::2, ::2]
    assert max(pixels.shape) <= 16


def test_file_does_not_depend_on_the_number_of_threads(tmp_path):
    """Constant tiles between tiles that are still being encoded keep their place in the file."""
    labels = np.zeros((160, 160), np.uint8)
    labels[:64] = np.random.default_rng(3).integers(0, 3, (64, 160))
    labels[64:80, :16] = 1
    files = [write(tmp_path / f"{n}.tif", labels, "labels", threads=n).read_bytes() for n in (1, 2, 8)]
    assert files[0] == files[1] == files[2]


@settings(max_examples=25)
@given(
    picture=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=60)),
    bands=splits,
)
def test_gray_is_reduced_by_the_mean(tmp_path_factory, picture, bands):
    path = write(tmp_path_factory.mktemp("gray") / "gray.tif", picture, "gray", bands)
    expected = picture
    for pixels in levels(path):
        np.testing.assert_array_equal(pixels, expected)
        expected = halve_mean(expected)


@settings(max_examples=15)
@given(width=st.integers(1, 90), height=st.integers(1, 90), bands=splits, seed=st.integers(0, 99))
def test_rgb_is_the_same_file_whatever_the_bands(tmp_path_factory, width, height, bands, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("rgb")
    banded = write(folder / "banded.tif", picture, "rgb", bands, threads=3)
    assert write(folder / "whole.tif", picture, "rgb").read_bytes() == banded.read_bytes()
    with openslide.OpenSlide(banded) as slide:
        assert slide.level_dimensions[0] == (width, height)


@settings(max_examples=30)
@given(data=st.data(), kind=st.sampled_from(["labels", "rgb"]), width=st.sampled_from([5, 40, 65]))
def test_append_blank_is_append_of_one_colour(tmp_path_factory, data, kind, width):
    shape = (3,) if kind == "rgb" else ()
    parts = data.draw(st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0, 7, 255, None])), min_size=1))
    parts = [(n, value) for n, value in parts if n] or [(3, 7)]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (sum(n for n, _ in parts), width, *shape), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("blank")
    options = {"width": width, "height": len(noise), "spacing_um": UM, "kind": kind, "tile_px": 16}
    with (
        PyramidWriter(folder / "fast.tif", **options) as fast,
        PyramidWriter(folder / "slow.tif", **options) as slow,
    ):
        row = 0
        for n, value in parts:
            rows = noise[row : row + n].copy()
            row += n
            if value is None:
                fast.append(rows)
            else:
                rows[...] = value
                fast.append_blank(n, value)
            slow.append(rows)
    assert (folder / "fast.tif").read_bytes() == (folder / "slow.tif").read_bytes()


def smooth_colours(height, width):
    yy, xx = np.mgrid[:height, :width]
    picture = np.stack([255 * xx // width, 255 * yy // height, np.full_like(xx, 40)], axis=-1).astype(np.uint8)
    picture[: height // 3, : width // 3] = (220, 20, 60)
    return picture


def test_rgb_colours_are_right_in_every_reader(tmp_path):
    picture = smooth_colours(300, 411)
    path = write(tmp_path / "rgb.tif", picture, "rgb", [77, 200], spacing_um=SpacingUm(0.25, 0.5), tile_px=128)
    expected = picture
    for level, pixels in enumerate(levels(path)):
        # JPEG with 4:2:0 is soft at colour edges only; swapped channels would be off by about a hundred everywhere.
        assert np.abs(pixels.astype(int) - expected).mean() < 2
        rgba = read_with_openslide(path, level)
        assert (rgba[..., 3] == 255).all()
        assert np.abs(rgba[..., :3].astype(int) - pixels).max() <= 1
        expected = halve_mean(expected)
    (imported,) = image_builder_tiff(files={path})
    assert imported.color_space.value == "YCBCR"
    assert (imported.voxel_width_mm, imported.voxel_height_mm) == (0.00025, 0.0005)


@pytest.mark.parametrize("um", [0.25, 0.2431, 0.499, 1.0, 4 / 3])
def test_spacing_and_levels_are_seen_by_openslide(tmp_path, um):
    path = write(tmp_path / "map.tif", np.eye(100, 70, dtype=np.uint8), "labels", spacing_um=SpacingUm(um, 2 * um))
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((70, 100), (35, 50), (18, 25), (9, 13))
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(um, rel=1e-7)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(2 * um, rel=1e-7)
    with tifffile.TiffFile(path) as file:
        assert len(file.series[0].levels) == 4
        for level, page in enumerate(file.pages):
            assert page.subfiletype == (1 if level else 0)
            numerator, denominator = page.tags["XResolution"].value
            assert 10_000 * denominator / numerator == pytest.approx(um * 2**level, rel=1e-7)


def test_platform_accepts_segmentation_with_its_segments(tmp_path):
    labels = np.random.default_rng(1).integers(0, 3, (90, 120), dtype=np.uint8)
    path = write(tmp_path / "segmentation.tif", labels, "labels", value_range=(0, 2))
    (imported,) = image_builder_tiff(files={path})
    assert imported.segments == {0, 1, 2}
    assert (imported.voxel_width_mm, imported.voxel_height_mm) == (0.001, 0.001)
    assert (imported.width, imported.height, imported.resolution_levels) == (120, 90, 4)
    assert imported.color_space.value == "GRAY"
    np.testing.assert_array_equal(read_with_openslide(path)[..., 0], labels)


def test_platform_sees_no_segments_without_the_tags(tmp_path):
    (imported,) = image_builder_tiff(files={write(tmp_path / "bare.tif", np.eye(40, dtype=np.uint8), "labels")})
    assert imported.segments is None


def test_platform_accepts_a_slide_without_any_finding(tmp_path):
    path = tmp_path / "empty.tif"
    with PyramidWriter(path, width=50, height=60, spacing_um=UM, kind="labels", value_range=(0, 1)) as writer:
        writer.append_blank(60, 0)
    (imported,) = image_builder_tiff(files={path})
    assert imported.segments == {0, 1}


def test_maps_are_read_back_by_region(tmp_path):
    labels = np.random.default_rng(1).integers(0, 3, (90, 120), dtype=np.uint8)
    path = write(tmp_path / "segmentation.tif", labels, "labels", description="labels 0=background")
    with MapReader(path) as reader:
        np.testing.assert_array_equal(reader.read(GridRegion(30, 20, 64, 33)), labels[20:53, 30:94])
        overhanging = reader.read(GridRegion(100, 80, 30, 20))
    np.testing.assert_array_equal(overhanging[:10, :20], labels[80:, 100:])
    assert not overhanging[10:].any()
    assert not overhanging[:, 20:].any()


def test_blank_glass_is_nearly_free(tmp_path):
    path = tmp_path / "glass.tif"
    with PyramidWriter(path, width=60_000, height=100_000, spacing_um=UM, kind="rgb") as writer:
        writer.append_blank(100_000, (243, 242, 244))
    assert path.stat().st_size < 2_000_000
    with openslide.OpenSlide(path) as slide:
        corner = np.asarray(slide.read_region((59_990, 99_990), 0, (10, 10)))
        assert slide.level_dimensions[-1] == (235, 391)
    assert np.abs(corner[..., :3].astype(int) - (243, 242, 244)).max() <= 1


def test_bigtiff_is_read_by_everyone(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_CLASSIC_LIMIT_BYTES", 0)
    labels = np.random.default_rng(2).integers(0, 3, (90, 120), dtype=np.uint8)
    path = write(tmp_path / "big.tif", labels, "labels", value_range=(0, 2), description="µ")
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.pages[0].description == "µ"
    np.testing.assert_array_equal(read_with_openslide(path)[..., 0], labels)
    (imported,) = image_builder_tiff(files={path})
    assert imported.segments == {0, 1, 2}


def test_exception_leaves_nothing(tmp_path):
    path = tmp_path / "new" / "map.tif"

    def fail_half_way():
        with PyramidWriter(path, width=40, height=40, spacing_um=UM, kind="labels", tile_px=16) as writer:
            writer.append(np.eye(20, 40, dtype=np.uint8))
            assert [p.name for p in path.parent.iterdir()] == ["map.tif.partial"]
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_half_way()
    assert list(path.parent.iterdir()) == []


def test_missing_rows_leave_the_old_file(tmp_path):
    path = tmp_path / "map.tif"
    path.write_bytes(b"old")
    writer = PyramidWriter(path, width=40, height=40, spacing_um=UM, kind="labels")
    writer.append_blank(39, 0)
    with pytest.raises(ValueError, match="39 of 40 rows"):
        writer.close()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_file_is_not_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr(ifd, "header", lambda *_, **__: b"II*\0" + bytes(12))
    with pytest.raises((OSError, ValueError, IndexError)):
        write(tmp_path / "map.tif", np.eye(40, dtype=np.uint8), "labels")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("labels", np.zeros((3, 41), np.uint8)),
        ("labels", np.zeros((3, 40), np.int64)),
        ("labels", np.zeros((41, 40), np.uint8)),
        ("rgb", np.zeros((3, 40), np.uint8)),
        ("rgb", np.zeros((3, 40, 4), np.uint8)),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, kind, rows):
    writer = PyramidWriter(tmp_path / "map.tif", width=40, height=40, spacing_um=UM, kind=kind)
    with pytest.raises(ValueError, match=r"map\.tif"):
        writer.append(rows)
    writer.abort()


@pytest.mark.parametrize("change", [{"width": 0}, {"height": 0}, {"tile_px": 100}, {"spacing_um": SpacingUm(0, 1)}])
def test_impossible_pyramids_are_refused(tmp_path: Path, change):
    options = {"width": 40, "height": 40, "spacing_um": UM, "kind": "rgb", "tile_px": 16} | change
    with pytest.raises(ValueError, match=r"no pyramid"):
        PyramidWriter(tmp_path / "map.tif", **options)
    assert list(tmp_path.iterdir()) == []
