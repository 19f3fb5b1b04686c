"""Label maps to shapes to files and back."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, ranked_patch, slide_record

from uga.annotations.outlining import label_shapes
from uga.annotations.readers import read_annotation, read_shapes
from uga.annotations.reference import AnnotationReference
from uga.annotations.shapes import split_regions
from uga.annotations.writers import write_asap_xml, write_geojson, write_polygons
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter

VALUES = {"background": 0, "stroma": 1, "tumour": 2}
DRAWN = {"stroma": 1, "tumour": 2}
COLOURS = {"tumour": (0, 158, 115)}
FORMATS = ("geojson", "asap", "grand-challenge")
SPACINGS = [(1.0, 1.0), (0.5, 0.5), (0.499, 0.499), (0.2431, 0.2519), (1 / 3, 0.7)]

label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=11), elements=st.integers(0, 2))


def grid_of(mpp, extent_um=3000):
    return Grid.over(round(extent_um / mpp[0]), round(extent_um / mpp[1]), SpacingUm(*mpp), 1.0)


def through_file(shapes, file_format, path, mpp):
    spacing = SpacingUm(*mpp)
    if file_format == "geojson":
        write_geojson(path, shapes, COLOURS)
    elif file_format == "asap":
        write_asap_xml(path, shapes, COLOURS)
    else:
        write_polygons(path, shapes, spacing, "Areas")
    return read_annotation(path, spacing)


def check_round_trip(labels, x, y, mpp, file_format, folder):
    grid, region = grid_of(mpp), GridRegion(x, y, labels.shape[1], labels.shape[0])
    shapes = label_shapes(labels, region, grid, DRAWN)
    if shapes:
        read = through_file(shapes, file_format, folder / "areas", mpp)
        with AnnotationReference(read, grid, VALUES, unannotated=0, source="areas") as reference:
            np.testing.assert_array_equal(reference.read(region), labels)


@pytest.mark.parametrize("mpp", SPACINGS)
@pytest.mark.parametrize("file_format", FORMATS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=label_maps, x=st.integers(0, 2900), y=st.integers(0, 2900))
def test_label_map_comes_back(tmp_path, file_format, mpp, labels, x, y):
    check_round_trip(labels, x, y, mpp, file_format, tmp_path)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("values", [(2, 0, 2, 0, 2), (1, 0, 2, 1, 0), (2, 1, 0, 1, 2), (1, 2, 1, 2, 1)])
def test_islands_in_holes_in_islands(tmp_path, file_format, values):
    labels = np.full((15, 17), values[0], np.uint8)
    for depth, value in enumerate(values[1:], start=1):
        labels[depth:-depth, depth:-depth] = value
    check_round_trip(labels, 40, 7, (0.499, 0.499), file_format, tmp_path)


@pytest.mark.parametrize("mpp", SPACINGS)
def test_exported_package_is_the_prediction(tmp_path, mpp):
    grid, region = grid_of(mpp), GridRegion(1531, 777, 96, 96)
    image, labels, uncertainty = patch_arrays(3, 96)
    patch = ranked_patch(region, grid, image)
    writer = PackageWriter(tmp_path, slide_record(), MODEL, UNCERTAINTY, LABELS, "tumor", grid)
    package = writer.write(patch, region, image=image, prediction=labels, uncertainty=uncertainty)
    shapes, frames = split_regions(read_shapes(package / "annotation.geojson"))
    with AnnotationReference(shapes, grid, LABELS, unannotated=0, source="annotation.geojson") as reference:
        np.testing.assert_array_equal(reference.read(region), labels)
        assert not reference.read(GridRegion(region.x_end, region.y, 50, 96)).any(), "nothing reaches beyond the patch"
    (frame,) = frames
    with AnnotationReference(frames, grid, {"region*": 1}, unannotated=0, source="annotation.geojson") as judged:
        around = judged.read(GridRegion(region.x - 1, region.y - 1, 98, 98))
    assert around[1:-1, 1:-1].all()
    assert around.sum() == 96 * 96
    assert frame.number == 1


@pytest.mark.parametrize("file_format", FORMATS)
def test_far_corner_of_a_large_slide(tmp_path, file_format):
    """Where coordinates have six digits before the point."""
    mpp = (0.2431, 0.2519)
    grid = grid_of(mpp, extent_um=60_000)
    labels = np.random.default_rng(0).integers(0, 3, (20, 20), np.uint8)
    region = GridRegion(grid.width - 20, grid.height - 20, 20, 20)
    shapes = label_shapes(labels, region, grid, DRAWN)
    read = through_file(shapes, file_format, tmp_path / "areas", mpp)
    with AnnotationReference(read, grid, VALUES, unannotated=0, source="areas") as reference:
        np.testing.assert_array_equal(reference.read(region), labels)
