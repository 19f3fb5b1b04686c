"""Reads the slide in strips of rows, ahead of the network, every pixel once and only where something wants it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
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


class StripReader:
    """Iterates over the rows that each window row adds to the one before it.

    The strip of window row i is uint8 RGB of shape (new rows, frame width, 3). Columns that no wanted region touches
    are white and cost nothing. ``ahead`` strips are read by ``workers`` threads while the caller is busy.
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

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        pending: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="uga-reader") as pool:
            try:
                for y, y_end in self._row_ranges():
                    pending.append(self._submit(pool, y, y_end))
                    if len(pending) > self._ahead:
                        yield _finished(*pending.popleft())
                while pending:
                    yield _finished(*pending.popleft())
            finally:
                for _, futures in pending:
                    for future in futures:
                        future.cancel()

    def _row_ranges(self) -> Iterator[tuple[int, int]]:
        y = self._plan.frame.y
        for window_y in self._plan.ys:
            y_end = window_y + self._plan.window_height
            yield y, y_end
            y = y_end

    def _submit(self, pool: ThreadPoolExecutor, y: int, y_end: int) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        frame = self._plan.frame
        rows = GridRegion(frame.x, y, frame.width, y_end - y)
        strip = np.full((rows.height, rows.width, 3), WHITE, dtype=np.uint8)
        futures = []
        for x, x_end in self._wanted.columns(y, y_end):
            region = GridRegion(x, y, x_end - x, y_end - y).intersection(self._grid.region)
            if region is not None:
                futures.append(pool.submit(self._read_into, strip, rows, region))
        return strip, futures

    def _read_into(self, strip: NDArray[np.uint8], rows: GridRegion, region: GridRegion) -> None:
        strip[region.within(rows)] = self._slide.read(self._grid, region)


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


def _finished(strip: NDArray[np.uint8], futures: list[Future[None]]) -> NDArray[np.uint8]:
    for future in futures:
        future.result()
    return strip
