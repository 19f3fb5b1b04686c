"""Reads the slide in strips of rows, ahead of the network, every pixel once and only where something wants it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from uga.geometry import Grid, GridRegion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from uga.slide import Slide
    from uga.windows import WindowPlan

_COLUMN_PX = 64
_PIECE_COLUMNS = 16
WHITE = 255

_Piece = tuple[GridRegion, "Future[NDArray[np.uint8]]"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Rectangles of the grid that were read, uint8 RGB; white wherever none lies."""

    pieces: tuple[tuple[GridRegion, NDArray[np.uint8]], ...] = ()

    def get(self, region: GridRegion) -> NDArray[np.uint8]:
        """The pixels of a region, uint8 (h, w, 3)."""
        pixels = np.full((region.height, region.width, 3), WHITE, dtype=np.uint8)
        for place, content in self.pieces:
            shared = place.intersection(region)
            if shared is not None:
                pixels[shared.within(region)] = content[shared.within(place)]
        return pixels

    def without_rows_before(self, y: int) -> Pixels:
        """Those of which some row is ``y`` or later."""
        return Pixels(tuple(piece for piece in self.pieces if piece[0].y_end > y))

    def __add__(self, other: Pixels) -> Pixels:
        return Pixels(self.pieces + other.pieces)


class StripReader:
    """Iterates over the rows that each window row adds to the one before it.

    The strip of window row i is as wide as the frame, but made only of what some wanted region touches; the rest costs
    nothing. ``ahead`` strips are read by ``workers`` threads while the caller is busy.
    """

    def __init__(
        self,
        slide: Slide,
        grid: Grid,
        plan: WindowPlan,
        wanted: Iterable[GridRegion],
        *,
        workers: int = 2,
        ahead: int = 2,
    ) -> None:
        self._slide = slide
        self._grid = grid
        self._plan = plan
        self._ahead = ahead
        self._workers = workers
        self._wanted = _RowRanges(plan.frame, wanted)

    def __iter__(self) -> Iterator[Pixels]:
        pending: deque[list[_Piece]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="uga-reader") as pool:
            try:
                for y, y_end in self._row_ranges():
                    pending.append(self._submit(pool, y, y_end))
                    if len(pending) > self._ahead:
                        yield _finished(pending.popleft())
                while pending:
                    yield _finished(pending.popleft())
            finally:
                for pieces in pending:
                    for _, future in pieces:
                        future.cancel()

    def _row_ranges(self) -> Iterator[tuple[int, int]]:
        y = self._plan.frame.y
        for window_y in self._plan.ys:
            y_end = window_y + self._plan.window_height
            yield y, y_end
            y = y_end

    def _submit(self, pool: ThreadPoolExecutor, y: int, y_end: int) -> list[_Piece]:
        pieces = []
        for x, x_end in self._wanted.columns(y, y_end):
            region = GridRegion(x, y, x_end - x, y_end - y).intersection(self._grid.region)
            if region is not None:
                pieces.append((region, pool.submit(self._slide.read, self._grid, region)))
        return pieces


class _RowRanges:
    """Which columns of the frame are wanted between two rows, in blocks of `_COLUMN_PX`."""

    def __init__(self, frame: GridRegion, wanted: Iterable[GridRegion]) -> None:
        self._frame = frame
        self._blocks: dict[tuple[int, int], NDArray[np.bool_]] = {}
        count = -(-frame.width // _COLUMN_PX)
        for region in wanted:
            blocks = self._blocks.setdefault((region.y, region.y_end), np.zeros(count, dtype=np.bool_))
            first = max(0, region.x - frame.x) // _COLUMN_PX
            last = -(-(region.x_end - frame.x) // _COLUMN_PX)
            blocks[first:last] = True
        self._none = np.zeros(count, dtype=np.bool_)

    def columns(self, y: int, y_end: int) -> Iterator[tuple[int, int]]:
        """Column ranges in grid pixels, none wider than a piece, that some wanted region in these rows touches."""
        hit = self._none.copy()
        for (first, end), blocks in self._blocks.items():
            if first < y_end and end > y:
                hit |= blocks
        for wanted, group in groupby(range(len(hit)), key=lambda block: bool(hit[block])):
            if not wanted:
                continue
            blocks_in_run = list(group)
            for start in range(0, len(blocks_in_run), _PIECE_COLUMNS):
                piece = blocks_in_run[start : start + _PIECE_COLUMNS]
                x = self._frame.x + piece[0] * _COLUMN_PX
                yield x, min(self._frame.x_end, self._frame.x + (piece[-1] + 1) * _COLUMN_PX)


def _finished(pieces: list[_Piece]) -> Pixels:
    return Pixels(tuple((region, future.result()) for region, future in pieces))
