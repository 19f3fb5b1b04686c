import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uga.annotations import spans
from uga.annotations.reference import AnnotationReference
from uga.annotations.shapes import Polygon, Shape, ring_area
from uga.errors import UserError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.outline import fill

GRID = Grid.over(240, 200, SpacingUm(0.25, 0.2), 1.0)  # 60 x 40 grid pixels of 4 x 5 level-0 pixels
VALUES = {"tumour": 2, "Stroma": 1, "background": 0}
SPACINGS = st.sampled_from([(1.0, 1.0), (0.25, 0.25), (0.499, 0.499), (0.2431, 0.2519)])


def ring(*points):
    return np.array(points, np.float64)


def box(x, y, width, height):
    return ring((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def shape(exterior, *holes, name="tumour", number=1):
    return Shape((Polygon(exterior, holes),), name, number)


def labels_of(*shapes, grid=GRID, unannotated=9, region=None):
    with AnnotationReference(shapes, grid, VALUES, unannotated=unannotated, source="a.xml") as reference:
        return reference.read(region or grid.region)


@st.composite
def star_rings(draw, extent=240):
    """A ring that does not cross itself, anywhere about the slide, in either direction."""
    count = draw(st.integers(3, 12))
    angles = (np.arange(count) + np.array(draw(st.lists(st.floats(0, 0.9), min_size=count, max_size=count)))) / count
    radii = np.array(draw(st.lists(st.floats(1, extent / 2), min_size=count, max_size=count)))
    centre = np.array([draw(st.floats(0, extent)), draw(st.floats(0, extent))])
    points = centre + radii[:, None] * np.stack([np.cos(2 * np.pi * angles), np.sin(2 * np.pi * angles)], axis=1)
    return points[:: draw(st.sampled_from([1, -1]))]


def on_slide(exterior, grid=GRID):
    size = np.array([grid.width * grid.scale_x, grid.height * grid.scale_y])
    return bool((exterior.max(axis=0) > 0).all() and (exterior.min(axis=0) < size).all())


@settings(max_examples=150)
@given(exterior=star_rings().filter(on_slide))
def test_pixels_whose_centres_lie_inside(exterior):
    expected = fill([exterior / (GRID.scale_x, GRID.scale_y)], (GRID.height, GRID.width))
    np.testing.assert_array_equal(labels_of(shape(exterior)) == 2, expected)


@settings(max_examples=60)
@given(
    rings=st.lists(star_rings(), min_size=1, max_size=6),
    names=st.lists(st.sampled_from(["tumour", "STROMA", "background"]), min_size=6, max_size=6),
    mpp=SPACINGS,
    size=st.integers(7, 90),
)
def test_tiles_are_parts_of_the_whole(rings, names, mpp, size):
    grid = Grid.over(240, 240, SpacingUm(*mpp), 1.0)
    shapes = [shape(each, name=name) for each, name in zip(rings, names, strict=False) if on_slide(each, grid)]
    whole = labels_of(*shapes, grid=grid)
    with AnnotationReference(shapes, grid, VALUES, unannotated=9, source="a.xml") as reference:
        for tile in grid.region.tiles(size):
            part = whole[tile.y : tile.y_end, tile.x : tile.x_end]
            np.testing.assert_array_equal(reference.read(tile), part)
        overhanging = reference.read(GridRegion(-7, -3, grid.width + 12, grid.height + 5))
    np.testing.assert_array_equal(overhanging, np.pad(whole, ((3, 2), (7, 5))))
    painted = np.full(whole.shape, 9, np.uint8)
    for each in shapes:
        inside = fill([each.polygons[0].exterior / (grid.scale_x, grid.scale_y)], whole.shape)
        painted[inside] = {"tumour": 2, "STROMA": 1, "background": 0}[each.class_name]
    np.testing.assert_array_equal(whole, painted, "later shapes paint over earlier ones")


@settings(max_examples=60)
@given(first=star_rings().filter(on_slide), hole_share=st.floats(0.1, 0.9), turned=st.booleans())
def test_holes_show_what_lies_below(first, hole_share, turned):
    centre = first.mean(axis=0)
    hole = (centre + (box(-10, -12, 20, 24) * hole_share))[:: -1 if turned else 1]
    around = box(-500, -500, 1500, 1500)
    labels = labels_of(shape(first, name="stroma"), shape(around, hole, name="tumour"))
    expected = np.full(labels.shape, 2, np.uint8)
    scale = (GRID.scale_x, GRID.scale_y)
    in_hole = fill([hole / scale], labels.shape)
    expected[in_hole] = 9
    expected[in_hole & fill([first / scale], labels.shape)] = 1
    np.testing.assert_array_equal(labels, expected)


@settings(max_examples=60)
@given(
    corners=st.lists(st.integers(0, 47), min_size=4, max_size=10, unique=True).map(sorted),
    cut=st.integers(2, 8),
    centre=st.tuples(st.floats(60, 180), st.floats(60, 140)),
    mpp=SPACINGS,
)
def test_neighbours_share_no_pixel_and_leave_none_out(corners, cut, centre, mpp):
    """A convex polygon cut in two: each of its pixels belongs to one part."""
    grid = Grid.over(240, 240, SpacingUm(*mpp), 1.0)
    angles = np.array(corners) / 48 * 2 * np.pi
    exterior = centre + 50 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cut = min(cut, len(exterior) - 2)
    parts = [exterior[: cut + 1], np.concatenate([exterior[cut:], exterior[:1]])]
    counted = sum((labels_of(shape(part), grid=grid) == 2).astype(int) for part in parts)
    np.testing.assert_array_equal(counted, labels_of(shape(exterior), grid=grid) == 2)


def test_multipolygon_and_its_class():
    parts = tuple(Polygon(box(x, 10, 20, 20)) for x in (10, 50))
    labels = labels_of(Shape(parts, "TUMOUR", 1))
    assert (labels == 2).sum() == 2 * 5 * 4
    assert (labels == 9).sum() == labels.size - 40


def test_without_shapes_all_is_unannotated():
    assert (labels_of() == 9).all()
    assert not labels_of(region=GRID.region, unannotated=0).any()
    assert not labels_of(region=GridRegion(60, 0, 5, 5)).any(), "0 outside the slide"


def test_an_edge_through_pixel_centres_belongs_to_one_side():
    left, right = box(8, 10, 10, 20), box(18, 10, 10, 20)  # x = 18 is the centre of column 4
    labels = labels_of(shape(left), shape(right, name="stroma"))
    np.testing.assert_array_equal(labels[2, :9], [9, 9, 2, 2, 1, 1, 1, 9, 9])


def test_slivers_have_no_pixels():
    assert (labels_of(shape(box(17, 0, 0.5, 200)), shape(ring((0, 9), (200, 9), (100, 9)))) == 9).all()


# --- Faults


@pytest.mark.parametrize(
    ("given_shape", "match"),
    [
        (shape(box(0, 0, 9, 9), name="Gland", number=7), "shape 7 has the unknown class 'Gland'; .*tumour, Stroma"),
        (shape(box(0, 0, 9, 9), name="", number=7), "shape 7 has no class; give it one of tumour"),
        (shape(box(241, 0, 9, 9), number=7), "shape 7 lies outside the slide"),
        (shape(box(0, -9, 9, 9), number=7), "shape 7 lies outside the slide"),
        (shape(box(-50, 9, 9, 9), number=0), "a shape lies outside the slide"),
        (Shape((Polygon(box(0, 0, 9, 9)), Polygon(box(9, 900, 9, 9))), "tumour", 7), "shape 7 lies outside the slide"),
        (shape(ring((10, 10), (90, 90), (90, 10), (10, 90)), number=7), "outline of shape 7 crosses itself"),
        (shape(ring((10, 10), (150, 10), (40, 90), (60, 90), (90, 0)), number=7), "shape 7 crosses itself"),
        (shape(box(20, 20, 80, 80), box(60, 60, 80, 80), number=7), "shape 7 crosses itself"),
        (shape(box(20, 20, 80, 80), box(30, 30, 40, 40), box(50, 50, 40, 40), number=7), "shape 7 crosses itself"),
        (shape(np.tile(box(20, 20, 80, 80), (2, 1)), number=7), "shape 7 crosses itself"),
    ],
    ids=[
        "unknown class",
        "no class",
        "right of the slide",
        "above",
        "left",
        "one polygon of two",
        "bow tie",
        "pentagram",
        "hole beyond its polygon",
        "holes that overlap",
        "twice around",
    ],
)
def test_faults(given_shape, match):
    with pytest.raises(UserError, match=match) as caught:
        labels_of(shape(box(0, 0, 50, 50)), given_shape)
    assert str(caught.value).startswith("a.xml: ")
    assert str(caught.value).endswith(".")


def test_an_overshoot_of_a_freehand_outline_is_tolerated():
    square = [(20, 20), (180, 20), (180, 180), (20, 180)]
    closed_late = ring((20, 22), *square[1:], (20, 18), (24, 18), (24, 26))
    labels = labels_of(shape(closed_late))
    difference = (labels == 2) ^ (labels_of(shape(ring(*square))) == 2)
    assert difference.sum() <= 0.01 * (labels == 2).sum()


def test_a_hole_that_sticks_out_a_little_paints_nothing_there():
    square, hole = box(20, 20, 180, 180), box(180, 100, 24, 10)  # one grid column beyond the square, two rows
    expected = labels_of(shape(square), shape(hole, name="background"))
    expected[expected == 0] = 9
    np.testing.assert_array_equal(labels_of(shape(square, hole)), expected)


@pytest.mark.parametrize(
    "exterior",
    [
        ring((20, 20), (180, 20), (180, 180), (100, 180), (100, 190), (100, 180), (20, 180)),
        ring((20, 20), (100, 20), (180, 20), (180, 180), (180, 180), (20, 180)),
        ring((20, 20), (180, 20), (180, 180), (100, 20), (20, 180)),
    ],
    ids=["spike", "points on the line and twice", "touches itself"],
)
def test_outlines_that_only_touch_themselves_are_fine(exterior):
    expected = fill([exterior / (GRID.scale_x, GRID.scale_y)], (GRID.height, GRID.width))
    np.testing.assert_array_equal(labels_of(shape(exterior)) == 2, expected)


def test_too_long_outlines(monkeypatch):
    monkeypatch.setattr(spans, "MAX_CROSSINGS", 100)
    with pytest.raises(UserError, match="simplify"):
        labels_of(shape(box(0, 0, 240, 200)), shape(box(0, 0, 240, 200)))


# --- Speed


def test_thousands_of_shapes_and_of_points_are_quick():
    grid = Grid.over(200_000, 200_000, SpacingUm(0.25, 0.25), 1.0)
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    small = [shape(circle * 100 + centre) for centre in rng.uniform(200, 199_800, (5_000, 2))]
    angles = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    radius = 80_000 + 500 * np.sin(300 * angles)
    large = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + 100_000
    start = time.process_time()
    with AnnotationReference(
        [shape(large, name="stroma"), *small], grid, VALUES, unannotated=9, source="a"
    ) as reference:
        for y in range(0, grid.height, 1024):
            reference.read(GridRegion(0, y, 2048, 1024))
        patch = reference.read(GridRegion(24_000, 24_000, 1024, 1024))
    assert time.process_time() - start < 5
    assert {1, 2} == set(np.unique(patch))


def test_area_of_a_ring():
    assert ring_area(box(1e8, 1e8, 3, 4)) == ring_area(box(1e8, 1e8, 3, 4)[::-1]) == 12
