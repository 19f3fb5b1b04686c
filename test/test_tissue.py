import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import real_data, write_tiff

from uga.geometry import Grid, GridRegion
from uga.slide import open_slide
from uga.tissue import TissueMask, detect_tissue, tissue_in

GLASS, STAINED, DARK = (243, 241, 244), (200, 140, 185), (75, 50, 125)


def picture(colour=GLASS, height=150, width=200, sd=3.0, seed=0):
    """A noisy field of one colour, as seen at 8 um/px."""
    noise = np.random.default_rng(seed).normal(0, sd, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def masked(cells, cell_px=8, spare=3):
    """A mask whose last cells overhang the grid by ``spare`` pixels."""
    cells = np.asarray(cells, np.bool_)
    height, width = cells.shape[0] * cell_px - spare, cells.shape[1] * cell_px - spare
    return TissueMask(Grid(1.0, 2.0, 2.0, width, height), cell_px, cells)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 200),
    cell_px=st.integers(1, 9),
    x=st.integers(-20, 60),
    y=st.integers(-20, 60),
    width=st.integers(1, 50),
    height=st.integers(1, 50),
)
def test_mask_answers_agree_with_its_pixels(seed, cell_px, x, y, width, height):
    mask = masked(np.random.default_rng(seed).random((5, 6)) < 0.3, cell_px, spare=min(3, cell_px - 1))
    pixels = np.repeat(np.repeat(mask.cells, cell_px, 0), cell_px, 1)[: mask.grid.height, : mask.grid.width]
    around = np.pad(pixels, 120)
    wanted = around[120 + y : 120 + y + height, 120 + x : 120 + x + width]
    region = GridRegion(x, y, width, height)
    assert np.array_equal(mask.expand(region), wanted)
    assert mask.fraction(region) == wanted.sum() / (width * height)
    assert mask.covers(region) == wanted.any()


def test_cells_that_do_not_fit_the_grid_are_refused():
    with pytest.raises(ValueError, match="cells"):
        TissueMask(Grid(1.0, 2.0, 2.0, 30, 30), 8, np.ones((3, 4), np.bool_))


@pytest.mark.parametrize(
    ("colour", "sd"),
    [(GLASS, 2), (GLASS, 8), ((255, 255, 255), 0), ((245, 240, 225), 3), ((205, 205, 205), 3), ((0, 0, 0), 1)],
)
def test_a_slide_without_tissue_gives_an_empty_mask(colour, sd):
    assert not tissue_in(picture(colour, sd=sd), 8.0).any()


@pytest.mark.parametrize("colour", [STAINED, DARK, (228, 205, 226), (220, 130, 140), (150, 120, 190)])
def test_a_slide_that_is_all_tissue_stays_whole(colour):
    assert tissue_in(picture(colour, sd=6), 8.0).all()
    assert tissue_in(np.full((6, 6, 3), colour, np.uint8), 8.0).all()


def test_two_stained_parts_are_not_split_by_the_threshold():
    half = picture((225, 195, 220))
    half[:, 100:] = picture(DARK)[:, 100:]
    assert tissue_in(half, 8.0).all()


def test_a_piece_of_tissue_is_found_with_its_margin_and_without_specks():
    field = picture()
    cv2.circle(field, (80, 70), 30, STAINED, -1)
    cv2.circle(field, (80, 70), 10, DARK, -1)
    cv2.circle(field, (85, 55), 5, GLASS, -1)  # a fat cell or vessel
    field[20:23, 150:153] = STAINED  # dust
    found = tissue_in(field, 8.0)
    y, x = np.mgrid[: field.shape[0], : field.shape[1]]
    distance = np.hypot(x - 80, y - 70)
    assert found[distance <= 32].all()
    assert not found[distance > 37].any()


def faint(dense, pale=(233, 226, 240), sd=1.5):
    """A section of which a half is dense and the other paler, and a part that is pale alone, on noisy glass."""
    field = picture(sd=sd)
    field[40:110, 20:60] = picture(dense, sd=sd)[40:110, 20:60]
    field[40:110, 60:110] = picture(pale, sd=sd)[40:110, 60:110]
    field[40:110, 150:190] = picture(pale, sd=sd)[40:110, 150:190]
    return field


def test_a_pale_section_is_found_where_it_touches_what_is_found():
    found = tissue_in(faint((222, 206, 238)), 8.0)
    assert found[40:110, 20:110].all()
    assert not found[:, 118:].any()
    assert not found[:32].any()


def test_beside_a_strong_stain_what_is_faint_is_no_tissue():
    found = tissue_in(faint(STAINED), 8.0)
    assert found[40:110, 20:60].all()
    assert not found[:, 68:].any()


@pytest.mark.parametrize("ink", [(40, 70, 170), (30, 130, 70), (35, 33, 38), (205, 35, 45), (20, 120, 150)])
def test_ink_is_not_tissue_but_the_tissue_beside_it_is(ink):
    field = picture()
    field[40:110, 20:90] = picture(STAINED)[40:110, 20:90]
    field[60:80, 30:50] = picture(DARK)[60:80, 30:50]
    wanted = np.zeros(field.shape[:2], np.bool_)
    wanted[40:110, 20:90] = True
    cv2.line(field, (120, 10), (180, 140), ink, 6)
    field = cv2.GaussianBlur(field, (0, 0), 1.0)
    found = tissue_in(field, 8.0)
    assert found[wanted].all()
    assert not found[:, 100:].any()


@pytest.mark.parametrize(
    ("stain", "tint"), [((190, 100, 105), (154, 62, 73)), ((115, 125, 180), (40, 70, 170))], ids=["warm", "cold"]
)
def test_single_pixels_of_an_inks_tint_punch_no_holes_in_a_stain_like_it(stain, tint):
    field = picture()
    field[20:130, 20:180] = picture(stain)[20:130, 20:180]
    rng = np.random.default_rng(1)
    field[rng.integers(25, 125, 150), rng.integers(25, 175, 150)] = tint  # red cells, pigment
    assert tissue_in(field, 8.0)[20:130, 20:180].all()
    cv2.line(field, (100, 0), (100, 149), tint, 9)
    found = tissue_in(field, 8.0)
    assert not found[20:130, 96:105].any()
    assert found[20:130, 20:85].all()
    assert found[20:130, 116:180].all()


def test_scanner_borders_are_not_tissue():
    field = picture()
    field[40:110, 20:90] = picture(STAINED)[40:110, 20:90]
    field[:10], field[:, 190:] = 2, 0
    found = tissue_in(field, 8.0)
    assert found[40:110, 20:90].all()
    assert not found[:30].any()
    assert not found[:, 110:].any()


def tissue_slide(path, box=(64, 130, 190, 250), size=(401, 517), **options):
    """A slide of 0.5 um/px with one stained box (x, y, x_end, y_end) in level-0 pixels."""
    pixels = np.full((*size, 3), 244, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = STAINED
    return write_tiff(path, pixels, **options)


def test_detected_cells_lie_on_the_grids_cells(tmp_path):
    with open_slide(tissue_slide(tmp_path / "a.tif")) as slide:
        for spacing_um, cell_px in ((0.5, 16), (1.0, 8), (1.3, 6), (10.0, 1)):
            grid = slide.grid(spacing_um)
            mask = detect_tissue(slide, grid)
            assert mask.cell_px == cell_px
            x, y = int(64 / grid.scale_x) + 1, int(130 / grid.scale_y) + 1
            stained = GridRegion(x, y, int(190 / grid.scale_x) - x, int(250 / grid.scale_y) - y)
            assert mask.fraction(stained) == 1.0
            margin = int(24 / spacing_um) + 2 * cell_px + 2
            right = GridRegion(stained.x_end + margin, 0, 10_000, 10_000)
            assert not mask.covers(right)


def test_strips_and_threads_leave_no_trace(tmp_path, monkeypatch):
    with open_slide(tissue_slide(tmp_path / "a.tif")) as slide:
        grid = slide.grid(1.0)
        whole = detect_tissue(slide, grid)
        monkeypatch.setattr("uga.tissue._STRIP_CELLS", 3)
        assert np.array_equal(detect_tissue(slide, grid).cells, whole.cells)


@pytest.mark.real
def test_the_real_slide_is_found_about_right():
    with open_slide(real_data() / "cmu-1-small-region" / "CMU-1-Small-Region.svs") as slide:
        grid = slide.grid(1.0)
        mask = detect_tissue(slide, grid)
        picture = slide.read(grid, grid.region)
    assert 0.40 < mask.cells.mean() < 0.50
    purple = (picture[..., 0].astype(int) - picture[..., 1] > 40).astype(np.uint8)
    solid = cv2.erode(purple, np.ones((9, 9), np.uint8)) > 0
    assert mask.expand(grid.region)[solid].mean() > 0.999
