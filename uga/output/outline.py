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
    from collections.abc import Iterable, Iterator

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
    for ring, pixel in _rings(mask):
        component = int(components.flat[pixel])
        if _signed_area(ring) > 0:
            outer[component] = ring
        else:
            holes.setdefault(component, []).append(ring)
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


def _rings(mask: NDArray[np.bool_]) -> Iterator[tuple[Ring, int]]:
    """All boundary rings, each with the number of a pixel beside it in the mask; outer rings have positive area."""
    stride = mask.shape[1] + 1  # vertex (x, y) has the number y * stride + x
    starts, ends, pixels, directions = _edges(mask, stride)
    following = _following(starts, ends, pixels).tolist()
    start_of, direction_of, taken = starts.tolist(), directions.tolist(), bytearray(len(starts))
    for first in range(len(starts)):
        if taken[first]:
            continue
        cycle, edge = [], first
        while not taken[edge]:
            taken[edge] = 1
            cycle.append(edge)
            edge = following[edge]
        for loop in _simple_loops(cycle, start_of):
            corners = [
                (start_of[edge] % stride, start_of[edge] // stride)
                for before, edge in zip(loop[-1:] + loop[:-1], loop, strict=True)
                if direction_of[before] != direction_of[edge]
            ]
            yield [*corners, corners[0]], int(pixels[loop[0]])


def _edges(mask: NDArray[np.bool_], stride: int) -> tuple[NDArray[np.intp], ...]:
    """The edges between the mask and the rest: vertices of start and end, the pixel in the mask, the direction."""
    padded = np.pad(mask, 1)
    parts = []
    # Each pixel's edges run top: left to right, right: down, bottom: right to left, left: up.
    for direction, (d_row, d_column, start, end) in enumerate(
        (
            (-1, 0, (0, 0), (1, 0)),
            (0, 1, (1, 0), (1, 1)),
            (1, 0, (1, 1), (0, 1)),
            (0, -1, (0, 1), (0, 0)),
        )
    ):
        neighbour = padded[1 + d_row : 1 + d_row + mask.shape[0], 1 + d_column : 1 + d_column + mask.shape[1]]
        rows, columns = np.nonzero(mask & ~neighbour)
        starts = (rows + start[1]) * stride + columns + start[0]
        ends = (rows + end[1]) * stride + columns + end[0]
        parts.append((starts, ends, rows * mask.shape[1] + columns, np.full_like(rows, direction)))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _following(starts: NDArray[np.intp], ends: NDArray[np.intp], pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """The edge after each edge: of the two where diagonal pixels meet, the one of the same pixel."""
    order = np.argsort(starts, kind="stable")
    first = np.searchsorted(starts[order], ends)
    second = np.minimum(first + 1, len(order) - 1)
    one, other = order[first], order[second]
    return np.where((starts[other] == ends) & (pixels[other] == pixels), other, one)


def _simple_loops(cycle: list[int], start_of: list[int]) -> Iterator[list[int]]:
    """A closed walk of edges, split into loops that visit no vertex twice."""
    walk: list[int] = []
    position: dict[int, int] = {}
    for edge in cycle:
        vertex = start_of[edge]
        if vertex in position:
            loop = walk[position[vertex] :]
            del walk[position[vertex] :]
            for passed in loop:
                del position[start_of[passed]]
            yield loop
        position[vertex] = len(walk)
        walk.append(edge)
    yield walk


def _signed_area(ring: Ring) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
