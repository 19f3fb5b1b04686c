"""The sliding windows of nnU-Net v2 over a working grid: same positions, same Gaussian weight, same padding.

Source: nnunetv2 2.8.1, inference/sliding_window_prediction.py; test/test_windows.py holds ours against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from uga.geometry import Grid, GridRegion

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Window corners over a frame: the grid, padded evenly on both sides where it is smaller than a window.

    ``xs`` and ``ys`` are grid coordinates in ascending order; every pair of them is one window. They are negative only
    where the frame is padded.
    """

    frame: GridRegion
    window_width: int
    window_height: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]

    @classmethod
    def over(cls, grid: Grid, window_px: tuple[int, int], overlap: float) -> WindowPlan:
        """Windows of (height, width) ``window_px`` that overlap by at least ``overlap`` (0 to < 1) of their size."""
        height, width = window_px
        x, frame_width = _padded(grid.width, width)
        y, frame_height = _padded(grid.height, height)
        return cls(
            frame=GridRegion(x, y, frame_width, frame_height),
            window_width=width,
            window_height=height,
            xs=tuple(x + start for start in window_starts(frame_width, width, 1 - overlap)),
            ys=tuple(y + start for start in window_starts(frame_height, height, 1 - overlap)),
        )

    def row(self, index: int) -> Iterator[GridRegion]:
        """The windows of one row, left to right."""
        y = self.ys[index]
        for x in self.xs:
            yield GridRegion(x, y, self.window_width, self.window_height)

    def final_rows(self, index: int) -> tuple[int, int]:
        """First and last + 1 frame row that no later window row touches once window row ``index`` is done."""
        is_last = index == len(self.ys) - 1
        return self.ys[index], self.frame.y_end if is_last else self.ys[index + 1]


def window_starts(length: int, window: int, step: float) -> list[int]:
    """Evenly spread starts of windows along one axis of ``length`` >= ``window`` pixels.

    The step is ``step * window`` pixels or, so that the last window ends flush with the axis, a little less.
    """
    count = math.ceil((length - window) / (window * step)) + 1
    if count == 1:
        return [0]
    actual_step = (length - window) / (count - 1)
    return [int(np.round(actual_step * i)) for i in range(count)]


def gaussian_weight(window_px: tuple[int, int]) -> torch.Tensor:
    """Blending weight of a window, float32 of shape ``window_px``: sigma = size / 8, maximum 1, never zero."""
    impulse = np.zeros(window_px)
    impulse[window_px[0] // 2, window_px[1] // 2] = 1
    weight = gaussian_filter(impulse, [size / 8 for size in window_px], 0, mode="constant", cval=0)
    weight = (weight / weight.max()).astype(np.float32)
    weight[weight == 0] = weight[weight > 0].min()
    return torch.from_numpy(weight)


def _padded(length: int, window: int) -> tuple[int, int]:
    missing = max(0, window - length)
    return -(missing // 2), length + missing
