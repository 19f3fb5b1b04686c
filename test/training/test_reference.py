import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from uga.annotations.readers import read_shapes
from uga.annotations.writers import write_asap_xml
from uga.errors import UserError
from uga.geometry import Grid, GridRegion, Level0Point, SpacingUm
from uga.training.labels import DEFAULT_MAPPING, DEMO_MAPPING
from uga.training.reference import BenignReference, MaskReference, shape_reference

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


def _square(class_name: str, x: int, y: int, size: int) -> dict:
    ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": class_name}},
    }


def _labels(tmp_path, *features: dict, unannotated: int = 2) -> np.ndarray:
    path = tmp_path / "shapes.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with shape_reference(path, _grid(), DEFAULT_MAPPING, unannotated=unannotated) as reference:
        return reference.read(_grid().region)


def test_geojson_counts_from_what_was_scanned_and_asap_from_the_corner(tmp_path):
    path = tmp_path / "shapes.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [_square("Tumor", 10, 20, 30)]}))
    grid = replace(_grid(), qupath_origin=Level0Point(7, 5))
    shapes = read_shapes(path)
    write_asap_xml(tmp_path / "shapes.xml", shapes, {})
    for file, (x, y) in ((path, (17, 25)), (tmp_path / "shapes.xml", (10, 20))):
        with shape_reference(file, grid, DEFAULT_MAPPING, unannotated=0) as reference:
            rows, columns = np.nonzero(reference.read(grid.region) == 1)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == (x, y, x + 29, y + 29)


def test_outside_all_shapes_is_unannotated(tmp_path):
    labels = _labels(tmp_path, _square("Tumor", 10, 20, 30))
    expected = np.full((HEIGHT, WIDTH), 2, np.uint8)
    expected[20:50, 10:40] = 1
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(_labels(tmp_path, _square("Tumor", 10, 20, 30), unannotated=0))) == {0, 1}


@pytest.mark.parametrize("flip", [False, True])
def test_of_nested_shapes_the_smaller_shows_in_any_order(tmp_path, flip):
    nested = [_square("normal", 0, 0, 100), _square("Tumor", 10, 10, 50), _square("normal", 20, 20, 10)]
    labels = _labels(tmp_path, *(nested[::-1] if flip else nested))
    assert (labels[5, 5], labels[15, 15], labels[25, 25], labels[55, 55], labels[105, 105]) == (0, 1, 0, 1, 2)


def test_all_of_a_frame_was_judged(tmp_path):
    labels = _labels(tmp_path, _square("Tumor", 0, 0, 60), _square("Region*", 40, 40, 30))
    assert (labels[50, 50], labels[65, 65], labels[5, 5], labels[80, 80]) == (1, 0, 1, 2)


def test_camelyons_exclusions_are_holes_and_an_empty_file_is_refused(tmp_path):
    def square(group: str, start: int, size: int) -> str:
        corners = [(start, start), (start + size, start), (start + size, start + size), (start, start + size)]
        points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(corners))
        return (
            f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{points}</Coordinates></Annotation>"
        )

    def write(*annotations: str) -> None:
        path.write_text(
            f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(annotations)}</Annotations>'
            "<AnnotationGroups></AnnotationGroups></ASAP_Annotations>"
        )

    path = tmp_path / "tumor_001.xml"
    write(square("_2", 20, 10), square("_0", 10, 40))
    with shape_reference(path, _grid(), DEFAULT_MAPPING, unannotated=2) as reference:
        labels = reference.read(_grid().region)
    assert (labels[15, 15], labels[25, 25], labels[45, 45], labels[5, 5]) == (1, 0, 1, 2)
    write()
    with pytest.raises(UserError, match="holds no area"):
        shape_reference(path, _grid(), DEFAULT_MAPPING, unannotated=2)


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match="outside the slide"):
        _labels(tmp_path, _square("Tumor", 1000, 20, 30))
    with pytest.raises(UserError, match="Stroma"):
        _labels(tmp_path, _square("Stroma", 10, 20, 30))
