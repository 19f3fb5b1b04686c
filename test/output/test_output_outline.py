from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uga.output.outline import fill, outlines

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))
# Where two diagonal pixels touch, rings meet themselves and each other.
CROSSING = np.array([[1, 1, 1, 1, 0], [1, 0, 1, 0, 1], [1, 1, 0, 1, 0], [1, 0, 1, 1, 1], [0, 1, 1, 1, 1]], bool)


def rings(mask):
    return [np.asarray(ring, float) for outline in outlines(mask) for ring in (outline.outer, *outline.holes)]


def area(ring):
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


def check_outlines(mask):
    np.testing.assert_array_equal(fill(rings(mask), mask.shape), mask)
    count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    found = outlines(mask)
    assert len(found) == count - 1
    for component, outline in enumerate(found, start=1):
        own = [np.asarray(ring, float) for ring in (outline.outer, *outline.holes)]
        np.testing.assert_array_equal(fill(own, mask.shape), components == component)
        assert area(outline.outer) > 0
        assert all(area(hole) < 0 for hole in outline.holes)
        assert area(outline.outer) + sum(map(area, outline.holes)) == (components == component).sum()
        for ring in (outline.outer, *outline.holes):
            assert ring[0] == ring[-1]
            assert len(set(ring)) == len(ring) - 1, "a simple ring visits no vertex twice"
            steps = [(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise([*ring, ring[1]])]
            assert all((dx == 0) != (dy == 0) for dx, dy in steps)
            assert all((a[0] == 0) != (b[0] == 0) for a, b in pairwise(steps)), "no collinear vertices"


@settings(max_examples=300)
@given(masks)
def test_filled_outlines_are_the_mask(mask):
    check_outlines(mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((3, 4), bool),
        np.ones((3, 4), bool),
        np.eye(6, dtype=bool),
        ~np.eye(6, dtype=bool),
        np.indices((7, 7)).sum(0) % 2 == 0,
        np.indices((7, 7)).sum(0) % 2 == 1,
        np.pad(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True), 1),
        CROSSING,
        CROSSING[::-1],
        CROSSING.T,
    ],
    ids=["empty", "full", "diagonal", "holes", "chess", "chess2", "island in hole", "crossing", "flipped", "turned"],
)
def test_hard_shapes(mask):
    check_outlines(mask)


def test_island_in_a_hole():
    mask = np.pad(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True), 1)
    around, island = sorted(outlines(mask), key=lambda outline: -len(outline.holes))
    assert (len(around.holes), len(island.holes)) == (1, 0)
    assert around.outer == [(1, 1), (6, 1), (6, 6), (1, 6), (1, 1)]


@given(mask=masks, shift=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)))
def test_rings_may_move_by_less_than_half_a_pixel(mask, shift):
    np.testing.assert_array_equal(fill([ring + shift for ring in rings(mask)], mask.shape), mask)


def test_slanted_edges_decide_by_pixel_centre():
    triangle = np.array([(0, 0), (8, 0), (0, 8)], float)
    yy, xx = np.mgrid[:8, :8] + 0.5
    # Centres on the slanted edge itself belong to the right-hand side.
    np.testing.assert_array_equal(fill([triangle], (8, 8)), xx + yy < 8)


def test_parts_outside_are_cut_off():
    square = np.array([(-5, -5), (3, -5), (3, 99), (-5, 99)], float)
    expected = np.zeros((4, 6), bool)
    expected[:, :3] = True
    np.testing.assert_array_equal(fill([square], (4, 6)), expected)
    assert not fill([square - 50], (4, 6)).any()
