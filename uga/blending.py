"""Fold logits of overlapping windows, blended as nnU-Net v2 does it, in no more memory than unfinished pixels need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from uga.geometry import GridRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.windows import WindowPlan

_BLOCK_COLUMNS = 256


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
        self._shape = (folds, classes)
        self._device = device
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
                    self._blocks[below, column] = Block(self._region(below, column), *self._shape, self._device)
                self._blocks[below, column].add(window, weighted_logits, weight)

    def take(self, row: int, x_end: int) -> Iterator[Block]:
        """Hands out blocks, once each: rows that are final with window row ``row``, columns before ``x_end``.

        No later window of the row may touch those columns.
        """
        for key in [key for key, block in self._blocks.items() if key[0] == row and block.region.x_end <= x_end]:
            yield self._blocks.pop(key)

    def _region(self, row: int, column: int) -> GridRegion:
        frame = self._plan.frame
        y, y_end = self._plan.final_rows(row)
        x = frame.x + column * _BLOCK_COLUMNS
        return GridRegion(x, y, min(_BLOCK_COLUMNS, frame.x_end - x), y_end - y)


class Block:
    """The sums over one rectangle of the grid."""

    def __init__(self, region: GridRegion, folds: int, classes: int, device: torch.device) -> None:
        self.region = region
        size = (region.height, region.width)
        self._sums = torch.zeros((folds, classes, *size), dtype=torch.float32, device=device)
        self._weights = torch.zeros(size, dtype=torch.float32, device=device)

    def add(self, window: GridRegion, weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Adds what of a window lies in the block."""
        shared = window.intersection(self.region)
        assert shared is not None  # noqa: S101 - the caller adds windows to the blocks under them
        here, there = shared.within(self.region), shared.within(window)
        self._sums[:, :, *here] += weighted_logits[:, :, *there]
        self._weights[here] += weight[there]

    def mean(self) -> torch.Tensor:
        """Blended logits, float32 (K, C, h, w), in place of the sums; pixels under no window are not a number."""
        return self._sums.div_(self._weights)
