import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import RESOLUTION, halved, noise, real_data, write_pyramid, write_tiff

from uga.errors import SlideError, SpacingError
from uga.geometry import GridRegion
from uga.slide import open_slide
from uga.slide import slide as slide_module


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """The same odd-sized pyramid as OpenSlide (fractional downsample) and as tifffile (SubIFDs) read it."""
    folder = tmp_path_factory.mktemp("slides")
    pixels = noise(403, 317)
    levels = [pixels, halved(pixels, 2), halved(pixels, 4)]
    paths = (
        write_pyramid(folder / "pages.tif", levels),
        write_pyramid(folder / "sub.tif", levels, subifds=True, tile=None, rowsperstrip=7),
    )
    opened = [open_slide(path) for path in paths]
    yield opened
    for slide in opened:
        slide.close()


def test_both_readers_are_meant(slides):
    assert [slide.reader for slide in slides] == ["openslide", "tifffile"]
    for slide in slides:
        assert [level.scale_x for level in slide.levels] == [1, 2, 4]
        assert slide.mpp.x == pytest.approx(0.5)


@settings(max_examples=60)
@given(
    spacing_um=st.floats(0.5, 4.5),
    x=st.integers(-30, 330),
    y=st.integers(-30, 420),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    which=st.integers(0, 1),
)
def test_a_region_is_a_crop_of_the_whole(slides, spacing_um, x, y, width, height, which):
    slide = slides[which]
    grid = slide.grid(spacing_um)
    whole = slide.read(grid, grid.region)
    assert whole.shape == (grid.height, grid.width, 3)
    wanted = np.full((height, width, 3), 255, np.uint8)
    region = GridRegion(x, y, width, height)
    inside = region.intersection(grid.region)
    if inside:
        wanted[inside.y - y : inside.y_end - y, inside.x - x : inside.x_end - x] = whole[
            inside.y : inside.y_end, inside.x : inside.x_end
        ]
    assert np.array_equal(slide.read(grid, region), wanted)


@pytest.mark.parametrize("spacing_um", [0.5, 0.73, 1.0, 2.0])
def test_blocks_leave_no_trace(slides, monkeypatch, spacing_um):
    for slide in slides:
        grid = slide.grid(spacing_um)
        whole = slide.read(grid, grid.region)
        monkeypatch.setattr(slide_module, "_BLOCK_PX", 23)
        assert np.array_equal(slide.read(grid, grid.region), whole)
        monkeypatch.undo()


@pytest.mark.parametrize("spacing_um", [0.5, 0.7, 0.9])
def test_both_readers_agree_on_level_0(slides, spacing_um):
    first, second = (slide.read(slide.grid(spacing_um), slide.grid(spacing_um).region) for slide in slides)
    assert np.array_equal(first, second)


def test_levels_lie_where_level_0_says(tmp_path):
    # A ramp that every level holds exactly: reading at 1, 2 and 4 times the spacing must give its block means.
    x = np.repeat(np.arange(0, 256, dtype=np.uint8), 8)[None, :]
    pixels = np.repeat(np.repeat(x, 70, axis=0)[..., None], 3, axis=2)
    pixels = np.concatenate([pixels, pixels[:, :3]], axis=1)  # 2051 wide: level sizes are rounded down
    for name, subifds in (("pages.tif", False), ("sub.tif", True)):
        path = write_pyramid(tmp_path / name, [pixels, halved(pixels, 2), halved(pixels, 4)], subifds=subifds)
        with open_slide(path) as slide:
            for factor in (2, 4):
                grid = slide.grid(0.5 * factor)
                got = slide.read(grid, GridRegion(0, 0, 2048 // factor, 68 // factor)).astype(int)
                wanted = halved(pixels[:68, :2048], factor)
                # OpenSlide itself places a level of fractional downsample within half a level-0 pixel.
                assert np.abs(got - wanted).max() <= (0 if subifds else 1)


def test_a_slide_smaller_than_the_window_is_white_around(tmp_path):
    pixels = noise(40, 30)
    with open_slide(write_tiff(tmp_path / "a.tif", pixels)) as slide:
        grid = slide.grid(0.5)
        got = slide.read(grid, GridRegion(-5, -10, 512, 512))
    assert np.array_equal(got[10:50, 5:35], pixels)
    got[10:50, 5:35] = 255
    assert got.min() == 255


def test_fully_outside_is_white(slides):
    for slide in slides:
        assert slide.read(slide.grid(1.0), GridRegion(5000, -400, 7, 5)).min() == 255


def test_coarser_than_the_spacing_is_refused_within_a_thousandth(slides):
    slide = slides[0]
    assert slide.grid(0.4997).width >= 317
    with pytest.raises(SpacingError, match="coarser"):
        slide.grid(0.499)


def test_threads_read_the_same_bytes(slides):
    for slide in slides:
        grid = slide.grid(0.8)
        regions = list(grid.region.tiles(37))
        alone = [slide.read(grid, region).tobytes() for region in regions]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(slide.read, [grid] * len(regions) * 3, regions * 3))
        assert [pixels.tobytes() for pixels in together] == alone * 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts /proc/self/fd")
def test_no_file_stays_open(tmp_path):
    good = [write_tiff(tmp_path / "a.tif", noise(70, 70)), write_tiff(tmp_path / "b.tif", noise(70, 70), tile=None)]
    bare = write_tiff(tmp_path / "c.tif", noise(70, 70), resolution=None, resolutionunit=None)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        for path in good:
            with open_slide(path) as slide:
                slide.thumbnail(20)
        with pytest.raises(SpacingError):
            open_slide(bare)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_reading_a_closed_slide_is_an_error_not_a_crash(tmp_path):
    slide = open_slide(write_tiff(tmp_path / "a.tif", noise(70, 70)))
    slide.close()
    slide.close()
    with pytest.raises(ValueError, match="closed"):
        slide.thumbnail(10)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": None},
        {"tile": None, "compression": None},
        {"tile": None, "compression": None, "rowsperstrip": 3},
        {"tile": None, "compression": "lzw", "predictor": 2, "rowsperstrip": 5},
        {"tile": (48, 32), "compression": "lzma"},
        {"tile": None, "compression": "packbits", "rowsperstrip": 11, "byteorder": ">"},
        {"tile": None, "compression": "deflate", "bigtiff": True},
    ],
)
def test_tiffs_that_openslide_refuses(tmp_path, options):
    pixels = noise(75, 83)
    with open_slide(write_tiff(tmp_path / "a.tif", pixels, **options)) as slide:
        assert slide.reader == "tifffile"
        assert slide.quickhash.startswith("sha256-ends:")
        grid = slide.grid(0.5)
        assert np.array_equal(slide.read(grid, grid.region), pixels)
        assert np.array_equal(slide.read(grid, GridRegion(13, 61, 40, 14)), pixels[61:75, 13:53])


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_planar_tiff(tmp_path, tile):
    pixels = noise(75, 83)
    path = write_tiff(tmp_path / "a.tif", np.moveaxis(pixels, 2, 0), planarconfig="separate", tile=tile)
    with open_slide(path) as slide:
        grid = slide.grid(0.5)
        assert np.array_equal(slide.read(grid, grid.region), pixels)


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.concatenate([noise(20, 40), np.full((20, 40, 1), 255, np.uint8)], axis=2)
    rgba[:, :10, 3] = 0
    path = write_tiff(tmp_path / "a.tif", rgba, tile=None, extrasamples=["unassalpha"])
    with open_slide(path) as slide:
        grid = slide.grid(0.5)
        got = slide.read(grid, grid.region)
    assert got[:, :10].min() == 255
    assert np.array_equal(got[:, 10:], rgba[:, 10:, :3])


def test_jpeg_tiles_equal_openslides(tmp_path, monkeypatch):
    pixels = np.repeat(np.repeat(noise(30, 40), 8, axis=0), 8, axis=1)
    path = write_tiff(tmp_path / "a.tif", pixels, compression="jpeg", photometric="ycbcr")
    with open_slide(path) as slide:
        assert slide.reader == "openslide"
        grid = slide.grid(0.9)
        first = slide.read(grid, grid.region)
    monkeypatch.setattr(slide_module, "OpenSlideReader", slide_module.TiffReader)
    with open_slide(path) as slide:
        assert slide.reader == "tifffile"
        second = slide.read(grid, grid.region)
    assert np.abs(first.astype(int) - second).max() <= 2  # two JPEG decoders round differently


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("three_d", [False, True])
def test_mha(tmp_path, compressed, three_d):
    pixels = noise(45, 61)
    image = sitk.GetImageFromArray(pixels[None] if three_d else pixels, isVector=True)
    image.SetSpacing((0.0005, 0.0005, 1.0)[: 3 if three_d else 2])
    path = tmp_path / "slide.mha"
    sitk.WriteImage(image, str(path), compressed)
    with open_slide(path) as slide:
        assert slide.reader == "simpleitk"
        grid = slide.grid(0.5)
        assert np.array_equal(slide.read(grid, grid.region), pixels)
        assert np.array_equal(slide.read(grid, GridRegion(7, 3, 20, 11)), pixels[3:14, 7:27])


def test_mha_of_one_millimetre_states_no_spacing(tmp_path):
    path = tmp_path / "slide.mha"
    sitk.WriteImage(sitk.GetImageFromArray(noise(45, 61), isVector=True), str(path))
    with pytest.raises(SpacingError, match=r"does not state.*--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.mpp.x == 0.5


def test_thumbnail_keeps_the_proportions(slides):
    for slide in slides:
        assert slide.thumbnail(100).shape == (100, 79, 3)
        assert slide.thumbnail(10_000).shape == (403, 317, 3)


def test_names_may_be_anything_and_files_read_only(tmp_path):
    folder = tmp_path / "Schnitt Ä – 切片"
    folder.mkdir()
    for name, options in (("é ß.tif", {}), ("ж.v2.tif", {"tile": None})):
        path = write_tiff(folder / name, noise(70, 70), **options)
        path.chmod(0o444)
        with open_slide(path) as slide:
            assert slide.id == path.stem
            assert slide.thumbnail(10).shape == (10, 10, 3)


def bad_empty(path):
    path.write_bytes(b"")


def bad_text(path):
    path.write_text("this is not a slide\n" * 50)


def bad_truncated(path):
    write_tiff(path, noise(300, 300))
    os.truncate(path, path.stat().st_size // 2)


def bad_truncated_strips(path):
    write_tiff(path, noise(300, 300), tile=None)
    os.truncate(path, path.stat().st_size - 5)


def bad_header_only(path):
    path.write_bytes(b"II*\0\x08\0\0\0")


def bad_grey(path):
    tifffile.imwrite(path, noise(100, 100)[..., 0], tile=(64, 64), photometric="minisblack", **RESOLUTION)


def bad_grey_strips(path):
    tifffile.imwrite(path, noise(100, 100)[..., 0], photometric="minisblack", **RESOLUTION)


def bad_sixteen_bit(path):
    tifffile.imwrite(path, noise(100, 100).astype(np.uint16), photometric="rgb", **RESOLUTION)


def bad_sixteen_bit_tiles(path):
    write_tiff(path, noise(100, 100).astype(np.uint16))


def bad_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bad_empty, "is empty"),
        (bad_text, "not a slide"),
        (bad_truncated, "cut off"),
        (bad_truncated_strips, "cut off"),
        (bad_header_only, "TIFF"),
        (bad_grey, "RGB"),
        (bad_grey_strips, "RGB"),
        (bad_sixteen_bit, "RGB"),
        (bad_sixteen_bit_tiles, "RGB"),
        (bad_folder, "without .dcm files"),
    ],
)
@pytest.mark.parametrize("name", ["bad.svs", "bad.tif"])
def test_bad_files_are_refused_in_one_sentence(tmp_path, make, words, name):
    path = tmp_path / name
    make(path)
    with pytest.raises(SlideError, match=words) as caught:
        open_slide(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    assert "\n" not in message


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SlideError, match="cannot be read"):
        open_slide(tmp_path / "none.svs")


def test_a_cut_off_mha_is_refused(tmp_path):
    path = tmp_path / "slide.mha"
    image = sitk.GetImageFromArray(noise(90, 90), isVector=True)
    image.SetSpacing((0.0005, 0.0005))
    for compressed in (False, True):
        sitk.WriteImage(image, str(path), compressed)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(SlideError, match="cut off"):
            open_slide(path)


@pytest.mark.parametrize("tile", [(64, 64), None])
def test_a_damaged_tile_is_an_error_when_read(tmp_path, tile):
    path = write_tiff(tmp_path / "a.tif", noise(300, 300), tile=tile)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 400)
    with open_slide(path) as slide, pytest.raises(SlideError, match="damaged"):
        slide.thumbnail(300)


def test_the_spacing_of_a_tiff_is_read_in_inches_too(tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(70, 70), tile=None, resolution=(50800, 25400), resolutionunit="INCH")
    with open_slide(path) as slide:
        assert (slide.mpp.x, slide.mpp.y) == (0.5, 1.0)
        assert slide.thumbnail(70).shape == (70, 35, 3)


def test_a_resolution_that_is_no_fraction_states_no_spacing(tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(70, 70), tile=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for code in (282, 283):
            tiff.pages[0].tags[code].overwrite(20000.0, dtype="f")
    with pytest.raises(SpacingError, match=r"does not state.*--mpp"):
        open_slide(path)


@pytest.mark.real
def test_xyc_cells_are_found_where_they_are():
    """Each 8 x 8 cell of the image is a glyph pair of its own position: any shift or swap of axes would show."""
    path = real_data() / "cmu-1-small-region" / "XYC-half-mpp.tiff"
    whole = tifffile.imread(path)
    cells = {whole[y : y + 8, x : x + 8].tobytes(): (x, y) for y in range(0, 512, 8) for x in range(0, 512, 8)}
    assert len(cells) == 64 * 64
    with open_slide(path) as slide:
        grid = slide.grid(0.5)
        for x, y in ((0, 0), (504, 0), (0, 504), (504, 504), (136, 328)):
            point = grid.to_level0(x, y)
            assert cells[slide.read(grid, GridRegion(x, y, 8, 8)).tobytes()] == (point.x, point.y) == (x, y)
        coarse = slide.grid(1.0)
        assert coarse.region == GridRegion(0, 0, 256, 256)
        for x, y in ((0, 0), (252, 0), (0, 252), (68, 164)):
            point = coarse.to_level0(x, y)
            wanted = halved(whole[point.y : point.y + 8, point.x : point.x + 8], 2)
            assert np.array_equal(slide.read(coarse, GridRegion(x, y, 4, 4)), wanted)


@pytest.mark.real
def test_the_real_slide_opens_and_the_real_bad_ones_do_not():
    folder = real_data()
    with open_slide(folder / "cmu-1-small-region" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.width_px, slide.height_px, slide.mpp.x) == (2220, 2967, 0.499)
        assert slide.id == "CMU-1-Small-Region"
        assert len(slide.quickhash) == 64
        grid = slide.grid(1.0)
        assert (grid.width, grid.height) == (1108, 1481)
    with pytest.raises(SpacingError, match=r"0\.00499.*--mpp"):
        open_slide(folder / "cmu-1-small-region" / "CMU-1-Small-Region.jpeg.tiff")
    with open_slide(folder / "cmu-1-small-region" / "CMU-1-Small-Region.jpeg.tiff", mpp=0.499) as slide:
        assert slide.mpp.x == 0.499
    for bad in (folder / "cmu-1-small-region" / "dicom-truncated", folder / "dicom-small" / "sm_image_grayscale.dcm"):
        with pytest.raises(SlideError, match="unsupported"):
            open_slide(bad)
    with pytest.raises(SlideError, match="3 DICOM series"):
        open_slide(folder / "dicom-small")
    with open_slide(folder / "dicom-small" / "sm_image.dcm") as slide:
        assert slide.reader == "openslide"
        assert slide.thumbnail(50).shape == (50, 50, 3)
