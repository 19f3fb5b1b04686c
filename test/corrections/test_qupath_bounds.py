"""Slides larger than what was scanned, such as MIRAX: QuPath counts from the corner of the scanned part."""

import json

import numpy as np
import pytest
from correction_helpers import (
    ENSEMBLE,
    REGION,
    SLIDE,
    WAYS,
    corrected,
    draw,
    feature,
    grid_of,
    predicted,
    read,
    square,
    write_features,
    write_package,
)

from uga.annotations.readers import read_shapes
from uga.annotations.writers import write_geojson
from uga.corrections.export import patch_shapes
from uga.geometry import LEVEL0_CORNER, Level0Point
from uga.slide.openslide_reader import _bounds

BOUNDS = Level0Point(700, 431)
BOUNDED = SLIDE.model_copy(update={"bounds_x": BOUNDS.x, "bounds_y": BOUNDS.y})


def points(file):
    shapes = json.loads(file.read_text())["features"]
    return np.array([point for each in shapes for ring in each["geometry"]["coordinates"] for point in ring])


def test_exported_outlines_begin_where_qupath_does(tmp_path):
    without = points(write_package(tmp_path / "without") / "annotation.geojson")
    within = points(write_package(tmp_path / "within", slide=BOUNDED) / "annotation.geojson")
    np.testing.assert_allclose(without - within, np.broadcast_to([BOUNDS.x, BOUNDS.y], without.shape), atol=1e-3)


def test_an_export_that_nobody_touched_is_unchanged(tmp_path):
    write_package(tmp_path, slide=BOUNDED)
    assert read(tmp_path).summary() == "0 used, 1 unchanged, 0 refused"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_of_correcting_gives_the_labels_that_were_drawn(tmp_path, way):
    package = write_package(tmp_path, slide=BOUNDED)
    file = draw(way, package, corrected(), BOUNDED)
    if way in ("annotation.geojson", "slide.geojson"):  # as QuPath would have it, who sees the scanned part alone
        shapes = patch_shapes(corrected(), REGION, grid_of(), ENSEMBLE)
        write_geojson(file, shapes, {}, qupath_origin=BOUNDS)
    found = read(tmp_path)
    assert found.summary() == "1 used, 0 unchanged, 0 refused"
    np.testing.assert_array_equal(found.used[0].labels, corrected())


def test_outlines_of_the_whole_plane_are_refused(tmp_path):
    """As QuPath writes them when a slide was opened with --no-crop."""
    package = write_package(tmp_path, slide=BOUNDED)
    draw("annotation.geojson", package, corrected(), SLIDE)
    found = read(tmp_path)
    assert found.summary() == "0 used, 0 unchanged, 1 refused"
    assert "lie elsewhere" in found.refused[0].reason


def test_shapes_come_back_as_they_went(tmp_path):
    shapes = patch_shapes(predicted(), REGION, grid_of(), ENSEMBLE)
    write_geojson(tmp_path / "a.geojson", shapes, {}, qupath_origin=BOUNDS)
    again = read_shapes(tmp_path / "a.geojson", qupath_origin=BOUNDS)
    for one, other in zip(shapes, again, strict=True):
        assert one.class_name == other.class_name
        for mine, theirs in zip(one.polygons, other.polygons, strict=True):
            for ring, same in zip(mine.rings, theirs.rings, strict=True):
                np.testing.assert_allclose(ring, same, atol=1e-3)
    moved = read_shapes(write_features(tmp_path / "b.geojson", feature(square(0, 0, 4))), qupath_origin=BOUNDS)
    assert moved[0].polygons[0].exterior.min(axis=0).tolist() == [BOUNDS.x, BOUNDS.y]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, LEVEL0_CORNER),
        ({"bounds-x": "700", "bounds-y": "431", "bounds-width": "10", "bounds-height": "20"}, BOUNDS),
        ({"bounds-x": "700", "bounds-y": "431"}, LEVEL0_CORNER),
        ({"bounds-x": "a", "bounds-y": "431", "bounds-width": "10", "bounds-height": "20"}, LEVEL0_CORNER),
    ],
)
def test_bounds_are_taken_as_openslide_states_them(stated, expected):
    assert _bounds({f"openslide.{name}": value for name, value in stated.items()}) == expected
