"""Polygons as runs of grid pixels: the pixels whose centres lie inside.

Rings may run in either direction. A pixel's count is 1 for the outer ring around its centre, less 1 for every hole; it
belongs to the polygon where the count is positive. Counts other than 0 and 1 come from rings that cross themselves,
holes that overlap, and holes outside: freehand outlines overshoot where they close, so a little of it is tolerated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from uga.annotations.shapes import Polygon
    from uga.geometry import Grid

MAX_CROSSED_SHARE = 0.01
"""Pixels counted neither 0 nor 1, as a share of a polygon's pixels, up to which it still counts as simple."""
MAX_CROSSINGS = 20_000_000
"""Grid rows that all edges together may cross: bounds memory at about 1 GB. A drawn slide has some 100,000."""

_POINTS_AT_ONCE = 1_000_000


class CrossedRingError(ValueError):
    """Rings of a polygon cross; ``polygon`` is its index."""

    def __init__(self, polygon: int) -> None:
        super().__init__(f"polygon {polygon} crosses itself")
        self.polygon = polygon


class TooIntricateError(ValueError):
    """The outlines cross more grid rows than `MAX_CROSSINGS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Runs of grid pixels, columns [start, end) of a row; all arrays int32 (n,), in order of polygon, row, start."""

    polygon: NDArray[np.int32]
    row: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]


def polygon_spans(polygons: Sequence[Polygon], grid: Grid) -> Spans:
    """The pixels of many polygons inside a grid.

    Raises:
        CrossedRingError: the rings of a polygon cross.
        TooIntricateError: the outlines are absurdly long.
    """
    room = MAX_CROSSINGS
    parts: list[Spans] = []
    for first, chunk in _chunks(polygons):
        crossings = _crossings(chunk, grid, room)
        room -= len(crossings.row)
        spans, crossed = _runs(crossings, len(chunk))
        if crossed is not None:
            raise CrossedRingError(first + crossed)
        parts.append(Spans(spans.polygon + np.int32(first), spans.row, spans.start, spans.end))
    if not parts:
        nothing = np.empty(0, np.int32)
        return Spans(nothing, nothing, nothing, nothing)
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("polygon", "row", "start", "end"))
    return Spans(*joined)


def _chunks(polygons: Sequence[Polygon]) -> Iterator[tuple[int, list[Polygon]]]:
    """Polygons in groups of about `_POINTS_AT_ONCE` points, each with the index of its first."""
    chunk: list[Polygon] = []
    points = 0
    for index, polygon in enumerate(polygons):
        chunk.append(polygon)
        points += sum(len(ring) for ring in polygon.rings)
        if points >= _POINTS_AT_ONCE:
            yield index + 1 - len(chunk), chunk
            chunk, points = [], 0
    if chunk:
        yield len(polygons) - len(chunk), chunk


@dataclass(frozen=True, slots=True, eq=False)
class _Crossings:
    """Where edges cross the centre lines of rows: pixels from ``column`` on change their count by ``step``."""

    polygon: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    step: NDArray[np.int8]


def _crossings(polygons: Sequence[Polygon], grid: Grid, room: int) -> _Crossings:
    rings = [ring for polygon in polygons for ring in polygon.rings]
    owner = np.repeat(np.arange(len(polygons)), [len(polygon.rings) for polygon in polygons])
    is_hole = np.diff(owner, prepend=-1) == 0
    length = np.array([len(ring) for ring in rings])
    ring_start = np.cumsum(length) - length
    x, y = (np.concatenate(rings) / (grid.scale_x, grid.scale_y)).T
    following = np.arange(1, len(x) + 1)
    following[ring_start + length - 1] = ring_start
    dx, dy = x - np.repeat(x[ring_start], length), y - np.repeat(y[ring_start], length)
    area = np.add.reduceat(dx * dy[following] - dx[following] * dy, ring_start)
    # Directions are made alike: outer rings count up on their left side, holes down.
    upward = np.repeat(np.where((area < 0) != is_hole, -1, 1), length).astype(np.int8)
    step = np.where(y[following] < y, upward, -upward)
    # Computed from the upper end, whichever way the edge runs: neighbours share their edges to the last bit.
    swapped = y[following] < y
    x_low, y_low = np.where(swapped, x[following], x), np.where(swapped, y[following], y)
    x_high, y_high = np.where(swapped, x, x[following]), np.where(swapped, y, y[following])
    first = np.clip(np.ceil(y_low - 0.5), 0, grid.height).astype(np.intp)
    rows = np.clip(np.ceil(y_high - 0.5), 0, grid.height).astype(np.intp) - first
    total = int(rows.sum())
    if total > room:
        raise TooIntricateError
    edge = np.repeat(np.arange(len(rows)), rows)
    row = first[edge] + np.arange(total) - np.repeat(np.cumsum(rows) - rows, rows)
    slope = (x_high - x_low)[edge] / (y_high - y_low)[edge]
    crossing = x_low[edge] + (row + 0.5 - y_low[edge]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, grid.width).astype(np.intp)
    return _Crossings(np.repeat(owner, length)[edge], row, column, step[edge])


def _runs(crossings: _Crossings, polygons: int) -> tuple[Spans, int | None]:
    """The runs, and the first polygon whose rings cross, if any."""
    order = np.lexsort((crossings.column, crossings.row, crossings.polygon))
    polygon, row, column = crossings.polygon[order], crossings.row[order], crossings.column[order]
    count = np.cumsum(crossings.step[order], dtype=np.int64)  # rings are closed: back to 0 at the end of every row
    # Of crossings at one place the last has the count; where it is not 0, the row goes on to the next place.
    place = np.flatnonzero((np.diff(polygon) != 0) | (np.diff(row) != 0) | (np.diff(column) != 0))
    count, following = count[place], column[place + 1]
    polygon, row, column = polygon[place], row[place], column[place]
    width = np.where(count != 0, following - column, 0)
    inside = count > 0
    pixels = np.bincount(polygon[inside], width[inside], polygons)
    twisted = np.bincount(polygon, np.where(count == 1, 0, width), polygons)
    crossed = np.flatnonzero(twisted > MAX_CROSSED_SHARE * pixels)
    kept = (array[inside].astype(np.int32) for array in (polygon, row, column, following))
    return Spans(*kept), (int(crossed[0]) if len(crossed) else None)
