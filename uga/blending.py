"""Fold logits of overlapping windows, blended as nnU-Net v2 does it, in no more memory than unfinished pixels need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from uga.geometry import GridRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.windows import WindowPlan

_BLOCK_COLUMNS = 256
_EARLY_SHARE = 0.25


class BlendedLogits:
    """Weighted sums of logits and of weights, in blocks: columns of the rows that become final together.

    A block is made for the first window that touches it and lives until its logits are taken. So glass takes no
    memory, and tissue only until the last window over it is done.

    Args:
        plan: the windows, which must come row by row, each from left to right; any may be left out.
        folds: K.
        classes: C.
        device: where the sums are.
    """

    def __init__(self, plan: WindowPlan, folds: int, classes: int, device: torch.device) -> None:
        self._plan = plan
        self._memory = _Memory(plan, folds, classes, device)
        self._blocks: dict[tuple[int, int], Block] = {}

    def add(self, row: int, window: GridRegion, weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Adds logits (K, C, h, w), times their weight (h, w), of a window of window row ``row``."""
        columns = range(
            (window.x - self._plan.frame.x) // _BLOCK_COLUMNS, -(-(window.x_end - self._plan.frame.x) // _BLOCK_COLUMNS)
        )
        for below in range(row, len(self._plan.ys)):
            if self._plan.ys[below] >= window.y_end:
                break
            for column in columns:
                if (below, column) not in self._blocks:
                    self._blocks[below, column] = Block(self._region(below, column), self._memory)
                self._blocks[below, column].add(window, weighted_logits, weight)

    def take(self, row: int, x_end: int) -> Iterator[Block]:
        """Hands out blocks, once each: rows that are final with window row ``row``, columns before ``x_end``.

        No later window of the row may touch those columns. The caller must be done with a block before it asks for
        the next one.
        """
        for key in [key for key, block in self._blocks.items() if key[0] == row and block.region.x_end <= x_end]:
            block = self._blocks.pop(key)
            yield block
            block.free()

    def _region(self, row: int, column: int) -> GridRegion:
        frame = self._plan.frame
        y, y_end = self._plan.final_rows(row)
        x = frame.x + column * _BLOCK_COLUMNS
        return GridRegion(x, y, min(_BLOCK_COLUMNS, frame.x_end - x), y_end - y)


class Block:
    """The sums over one rectangle of the grid.

    Window rows are hardly ever whole steps of half a window apart, so that the first one to touch a block mostly
    reaches no more than a row or two into it. Until one reaches further the block holds just these rows.
    """

    def __init__(self, region: GridRegion, memory: _Memory) -> None:
        self.region = region
        self._memory = memory
        self._sums: _Sums | None = None
        self._early: list[tuple[GridRegion, torch.Tensor, torch.Tensor]] = []

    def add(self, window: GridRegion, weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Adds what of a window lies in the block."""
        shared = window.intersection(self.region)
        assert shared is not None  # noqa: S101 - the caller adds windows to the blocks under them
        there = shared.within(window)
        logits, weight = weighted_logits[:, :, *there], weight[there]
        if self._sums is None and shared.height < _EARLY_SHARE * self.region.height:
            self._early.append((shared, logits.clone(), weight))
        else:
            self._all().add(shared.within(self.region), logits, weight)

    def mean(self) -> torch.Tensor:
        """Blended logits, float32 (K, C, h, w), in place of the sums; pixels under no window are not a number."""
        sums = self._all()
        return sums.logits.div_(sums.weights)

    def free(self) -> None:
        """Gives the memory back, that of `mean` too."""
        if self._sums is not None:
            self._memory.put(self._sums)

    def _all(self) -> _Sums:
        """The sums, with what came early."""
        if self._sums is None:
            self._sums = self._memory.zeros(self.region)
            for shared, logits, weight in self._early:
                self._sums.add(shared.within(self.region), logits, weight)
            self._early.clear()
        return self._sums


class _Sums:
    """Sums of logits (K, C, h, w) and of weights (h, w), as a part of larger arrays."""

    def __init__(self, logits: torch.Tensor, weights: torch.Tensor) -> None:
        self._whole = logits, weights
        self.logits, self.weights = logits, weights

    def cleared(self, height: int, width: int) -> _Sums:
        """Itself, of another size and zero."""
        logits, weights = self._whole
        self.logits, self.weights = logits[:, :, :height, :width].zero_(), weights[:height, :width].zero_()
        return self

    def add(self, place: tuple[slice, slice], weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        self.logits[:, :, *place] += weighted_logits
        self.weights[place] += weight


class _Memory:
    """Sums for blocks of a plan, used again when a block is done: arrays that come and go leave holes in the heap."""

    def __init__(self, plan: WindowPlan, folds: int, classes: int, device: torch.device) -> None:
        rows = max(y_end - y for y, y_end in map(plan.final_rows, range(len(plan.ys))))
        self._size = (rows, min(_BLOCK_COLUMNS, plan.frame.width))
        self._of_each = (folds, classes)
        self._device = device
        self._idle: list[_Sums] = []

    def zeros(self, region: GridRegion) -> _Sums:
        """Sums of nothing over a block's rectangle."""
        sums = self._idle.pop() if self._idle else self._new()
        return sums.cleared(region.height, region.width)

    def put(self, sums: _Sums) -> None:
        """Takes sums back."""
        self._idle.append(sums)

    def _new(self) -> _Sums:
        # Empty, since what no block has touched yet takes no memory.
        return _Sums(
            torch.empty((*self._of_each, *self._size), dtype=torch.float32, device=self._device),
            torch.empty(self._size, dtype=torch.float32, device=self._device),
        )
