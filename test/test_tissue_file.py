import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image
from slide_files import write_tiff

from uga.errors import SlideError
from uga.slide import open_slide
from uga.tissue_file import read_tissue_mask


def blank_slide(path):
    """A slide of 517 x 401 px at 0.5 um/px; what it shows does not matter."""
    return write_tiff(path, np.full((401, 517, 3), 244, np.uint8))


def write_mask(path, mask, spacing_um=None):
    """Save a mask as its suffix says."""
    if path.suffix == ".png":
        Image.fromarray(mask).save(path)
    elif path.suffix == ".mha":
        image = sitk.GetImageFromArray(mask)
        if spacing_um:
            image.SetSpacing((spacing_um / 1000, spacing_um / 1000))
        sitk.WriteImage(image, str(path), True)
    else:
        unit = {"resolution": (1e4 / spacing_um,) * 2, "resolutionunit": "CENTIMETER"} if spacing_um else {}
        tifffile.imwrite(path, mask, tile=(32, 32), compression="deflate", photometric="minisblack", **unit)
    return path


def touched(mask, scale, grid, cell_px):
    """Cells that any mask pixel touches, by looping over the mask's pixels."""
    cells = np.zeros((-(-grid.height // cell_px), -(-grid.width // cell_px)), np.bool_)
    side_x, side_y = grid.scale_x * cell_px, grid.scale_y * cell_px
    for y, x in np.argwhere(mask):
        rows = slice(int(y * scale / side_y), int(np.ceil((y + 1) * scale / side_y)))
        columns = slice(int(x * scale / side_x), int(np.ceil((x + 1) * scale / side_x)))
        cells[rows, columns] = True
    return cells


@pytest.mark.parametrize(
    ("name", "scale"),
    [("m.tif", 1), ("m.tif", 4), ("m.tif", 40), ("m.mha", 2), ("m.mha", 40), ("m.png", 1), ("m.png", 2), ("m.png", 16)],
)
def test_a_users_mask_marks_every_cell_it_touches(tmp_path, name, scale):
    height, width = -(-401 // scale), -(-517 // scale)
    mask = (np.random.default_rng(0).random((height, width)) < 0.002 * scale**2 / 4).astype(np.uint8) * 3
    mask[-1, -1] = mask[0, 0] = 1
    path = write_mask(tmp_path / name, mask, 0.5 * scale)
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide:
        grid = slide.grid(1.0)
        got = read_tissue_mask(path, slide, grid)
    assert np.array_equal(got.cells, touched(mask, scale, grid, 8))
    assert 0 < got.cells.mean() < 1


def test_blocks_of_a_mask_leave_no_trace(tmp_path, monkeypatch):
    mask = (np.random.default_rng(0).random((401, 517)) < 0.001).astype(np.uint8)
    path = write_mask(tmp_path / "m.tif", mask, 0.5)
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide:
        grid = slide.grid(1.0)
        whole = read_tissue_mask(path, slide, grid)
        monkeypatch.setattr("uga.tissue_file._BLOCK_PX", 50)
        assert np.array_equal(read_tissue_mask(path, slide, grid).cells, whole.cells)


def test_never_written_tiles_of_a_mask_are_no_tissue(tmp_path):
    path = tmp_path / "m.tif"
    tiles = iter([np.ones((256, 256), np.uint8), None, None, None, None, None])
    options = {"tile": (256, 256), "compression": "deflate", "photometric": "minisblack"}
    tifffile.imwrite(path, tiles, shape=(401, 517), dtype=np.uint8, **options)
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide:
        mask = read_tissue_mask(path, slide, slide.grid(1.0))
    assert mask.cells[:16, :16].all()
    assert mask.cells.sum() == 256


def test_an_opaque_alpha_channel_is_no_tissue(tmp_path):
    rgba = np.zeros((401, 517, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[:100, :100, 1] = 7
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide:
        mask = read_tissue_mask(write_mask(tmp_path / "m.png", rgba), slide, slide.grid(1.0))
    assert mask.cells.sum() == 7 * 7


@pytest.mark.parametrize(
    ("name", "shape", "spacing_um", "words"),
    [
        ("m.tif", (100, 100), 1.0, "mm"),
        ("m.mha", (401, 400), 0.5, "mm"),
        ("m.png", (100, 100), None, "proportions"),
        ("m.tif", (517, 401), None, "proportions"),
    ],
)
def test_a_mask_of_something_else_is_refused(tmp_path, name, shape, spacing_um, words):
    path = write_mask(tmp_path / name, np.ones(shape, np.uint8), spacing_um)
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide, pytest.raises(SlideError, match=words) as caught:
        read_tissue_mask(path, slide, slide.grid(1.0))
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_mask_is_refused(tmp_path):
    path = tmp_path / "m.png"
    path.write_text("no picture")
    with open_slide(blank_slide(tmp_path / "a.tif")) as slide:
        for bad in (path, tmp_path / "none.tif"):
            with pytest.raises(SlideError, match=bad.name):
                read_tissue_mask(bad, slide, slide.grid(1.0))
