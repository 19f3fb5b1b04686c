import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from uga.errors import UserError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.training.labels import DEMO_MAPPING
from uga.training.reference import BenignReference, MaskReference

WIDTH, HEIGHT = 150, 110


def _mask(rng_seed: int = 0) -> np.ndarray:
    return np.random.default_rng(rng_seed).integers(0, 3, (HEIGHT, WIDTH), np.uint8)


def _grid(width_px: int = WIDTH, height_px: int = HEIGHT, mpp: float = 1.0) -> Grid:
    return Grid.over(width_px, height_px, SpacingUm(mpp, mpp), 1.0)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "mask.tif"
    tifffile.imwrite(path, _mask(), tile=(32, 48), compression="zlib", photometric="minisblack")
    return path


@settings(max_examples=60)
@given(x=st.integers(-40, WIDTH), y=st.integers(-40, HEIGHT), w=st.integers(1, 90), h=st.integers(1, 90))
def test_region_equals_the_mask_there_and_background_outside(tiled, x, y, w, h):
    padded = np.zeros((HEIGHT + 260, WIDTH + 260), np.uint8)
    padded[100 : 100 + HEIGHT, 100 : 100 + WIDTH] = _mask() == 2
    with MaskReference(tiled, _grid(), DEMO_MAPPING) as reference:
        labels = reference.read(GridRegion(x, y, w, h))
    np.testing.assert_array_equal(labels, padded[100 + y : 100 + y + h, 100 + x : 100 + x + w])


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 7}, {"tile": (16, 16), "compression": "lzw"}])
def test_strips_and_tiles(tmp_path, options):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, _mask(), photometric="minisblack", **options)
    with MaskReference(path, _grid(), DEMO_MAPPING) as reference:
        np.testing.assert_array_equal(reference.read(_grid().region), _mask() == 2)


def test_finer_mask_is_read_by_nearest_neighbour(tmp_path):
    path = tmp_path / "m.tif"
    fine = np.kron(_mask(), np.ones((4, 4), np.uint8))
    tifffile.imwrite(path, fine, tile=(64, 64), photometric="minisblack")
    with MaskReference(path, _grid(4 * WIDTH, 4 * HEIGHT, 0.25), DEMO_MAPPING) as reference:
        np.testing.assert_array_equal(reference.read(GridRegion(11, 5, 60, 50)), _mask()[5:55, 11:71] == 2)


def test_pyramid_level_at_the_spacing_is_preferred(tmp_path):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8), tile=(32, 32), subifds=1, photometric="minisblack")
        tiff.write(_mask(), tile=(32, 32), subfiletype=1, photometric="minisblack")
    with MaskReference(path, _grid(2 * WIDTH, 2 * HEIGHT, 0.5), DEMO_MAPPING) as reference:
        np.testing.assert_array_equal(reference.read(_grid().region), _mask() == 2)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, _mask()[:, :50], photometric="minisblack")
    with pytest.raises(UserError, match="coarser than the slide"):
        MaskReference(path, _grid(), DEMO_MAPPING)
    tifffile.imwrite(path, _mask()[:50], photometric="minisblack")
    with pytest.raises(UserError, match="another shape"):
        MaskReference(path, _grid(), DEMO_MAPPING)
    tifffile.imwrite(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8), photometric="rgb")
    with pytest.raises(UserError, match="single-channel"):
        MaskReference(path, _grid(), DEMO_MAPPING)
    path.write_text("no TIFF")
    with pytest.raises(UserError, match="cannot be read"):
        MaskReference(path, _grid(), DEMO_MAPPING)


def test_benign_slide_needs_no_file():
    assert BenignReference().read(GridRegion(-3, 0, 5, 4)).shape == (4, 5)
