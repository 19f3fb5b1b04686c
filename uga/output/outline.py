"""Outlines of label maps along pixel edges, and back: filling what `outlines` returns gives the map again, exactly.

Vertices are pixel corners: pixel (row, column) is the square from (column, row) to (column + 1, row + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Ring = list[tuple[int, int]]


@dataclass(frozen=True)
class Outline:
    """A 4-connected component: its outer ring and its holes, each closed, (x, y) pixel corners, no collinear points.

    The outer ring has positive signed area in these coordinates, holes negative, as GeoJSON asks.
    """

    outer: Ring
    holes: list[Ring]


def outlines(mask: NDArray[np.bool_]) -> list[Outline]:
    """The 4-connected components of a mask (h, w).

    Every polygon is valid (simple rings that meet in single points at most): diagonal neighbours are apart, and where
    a ring meets itself in a point it is split there.
    """
    count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in _rings(mask):
        if _signed_area(ring) > 0:
            outer[_component_of(ring, components)] = ring
        else:
            holes.setdefault(_component_of(ring, components), []).append(ring)
    return [Outline(outer[component], holes.get(component, [])) for component in range(1, count)]


def fill(rings: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of pixels whose centre lies inside an odd number of rings (even-odd rule, so holes need no order).

    Args:
        rings: Closed or open rings, each (n, 2) of (x, y) in pixels from the map's top-left corner, integral or not;
            parts outside the map are cut off.
        shape: (height, width) of the map.
    """
    height, width = shape
    toggles = np.zeros((height, width + 1), np.uint8)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = (y0, y1) if y0 < y1 else (y1, y0)
            rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
            if len(rows):
                crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.intp)
                toggles[rows, columns] ^= 1
    filled: NDArray[np.bool_] = np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)
    return filled


def _rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """All boundary rings; the mask lies on the side that makes outer rings of positive area."""
    padded = np.pad(mask, 1)
    stride = mask.shape[1] + 1  # vertex (x, y) has the number y * stride + x
    following: dict[int, list[tuple[int, int]]] = {}
    # Each pixel's edges run top: left to right, right: down, bottom: right to left, left: up.
    for d_row, d_column, start, end in (
        (-1, 0, (0, 0), (1, 0)),
        (0, 1, (1, 0), (1, 1)),
        (1, 0, (1, 1), (0, 1)),
        (0, -1, (0, 1), (0, 0)),
    ):
        neighbour = padded[1 + d_row : 1 + d_row + mask.shape[0], 1 + d_column : 1 + d_column + mask.shape[1]]
        rows, columns = np.nonzero(mask & ~neighbour)
        starts = (rows + start[1]) * stride + columns + start[0]
        ends = (rows + end[1]) * stride + columns + end[0]
        pixels = rows * stride + columns
        for vertex, target, pixel in zip(starts.tolist(), ends.tolist(), pixels.tolist(), strict=True):
            following.setdefault(vertex, []).append((target, pixel))
    rings: list[Ring] = []
    while following:
        rings += [_corners(loop, stride) for loop in _trace(following)]
    return rings


def _trace(following: dict[int, list[tuple[int, int]]]) -> list[list[int]]:
    """Take one closed walk out of the edges, split into loops that visit no vertex twice."""
    first = vertex = next(iter(following))
    pixel = following[first][0][1]
    walk: list[int] = []
    position: dict[int, int] = {}
    loops: list[list[int]] = []
    while True:
        if vertex in position:
            start = position[vertex]
            loops.append(walk[start:])
            for passed in walk[start:]:
                del position[passed]
            del walk[start:]
        edges = following.get(vertex)
        if edges is None or (vertex == first and not walk and loops):
            return loops
        # Where two diagonal pixels meet, stay with the one the walk came along.
        index = next((i for i, edge in enumerate(edges) if edge[1] == pixel), 0)
        target, pixel = edges.pop(index)
        if not edges:
            del following[vertex]
        position[vertex] = len(walk)
        walk.append(vertex)
        vertex = target


def _corners(loop: list[int], stride: int) -> Ring:
    """The closed ring of the vertices where the loop turns."""
    corners = [
        (vertex % stride, vertex // stride)
        for before, vertex, after in zip(loop[-1:] + loop[:-1], loop, loop[1:] + loop[:1], strict=True)
        if vertex - before != after - vertex
    ]
    return [*corners, corners[0]]


def _signed_area(ring: Ring) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))


def _component_of(ring: Ring, components: NDArray[np.int32]) -> int:
    """The component on the inner side of the ring's first edge."""
    (x0, y0), (x1, y1) = ring[0], ring[1]
    dx, dy = np.sign(x1 - x0), np.sign(y1 - y0)
    # Rightwards: the pixel below; down: to the left; leftwards: above; up: to the right.
    column = x0 + (0 if dx > 0 or dy < 0 else -1)
    row = y0 + (0 if dx > 0 or dy > 0 else -1)
    return int(components[row, column])
