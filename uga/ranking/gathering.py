"""Gathers the scores of patches while the maps of a slide stream by, so that no map is held or read again.

Sums are kept in cells of the stride's size. A patch is a square block of cells on the working grid; its score is the
mean of U over all its pixels (the paper), from the float map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.hsv import value_and_chroma
from uga.ranking.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from uga.inference import Rows
    from uga.ranking.grid import PatchGrid

WHITE_MAX_SATURATION = 30
WHITE_MIN_VALUE = 230
BLACK_MAX_VALUE = 30
# For each V: below which chroma a pixel is white. S = 255 * chroma / V, rounded, so S <= 30 where 255 * chroma is below
# 30.5 * V.
_WHITE_BELOW_CHROMA = np.array(
    [0 if value < WHITE_MIN_VALUE else -(-(2 * WHITE_MAX_SATURATION + 1) * value // 510) for value in range(256)],
    np.uint8,
)
# The authors score patches on their 8-bit map, on which 255 is 4 nats (code/uncertainty_csv.py).
_GREY_LEVELS = 256
_REFERENCE_FRACTION = 0.8


class PatchScores:
    """Gathers the scores of one slide's patches from the rows of its maps.

    Args:
        patches: where patches may lie.
        tumour_label: the label whose share is reported.
        full_scale: the value of U that the 8-bit map shows as 255, for the authors' key.
        extra: names of the maps in `Rows.extra` to take the means of.
    """

    def __init__(self, patches: PatchGrid, *, tumour_label: int, full_scale: float, extra: Iterable[str] = ()) -> None:
        self._patches = patches
        self._tumour_label = tumour_label
        self._full_scale = full_scale
        self._rows = -(-(patches.ys[-1] + patches.patch) // patches.stride)
        self._columns = -(-max(patches.xs[-1] + patches.patch, patches.grid.width) // patches.stride)
        shape = (self._rows, self._columns)
        self._uncertainty = np.zeros(shape)
        self._extra = {name: np.zeros(shape) for name in extra}
        self._tissue, self._tumour, self._black, self._white = (np.zeros(shape, dtype=np.int64) for _ in range(4))
        self._outside = np.full(shape, patches.stride**2, dtype=np.int64)
        self._grey = np.zeros((*shape, _GREY_LEVELS), dtype=np.int32)

    def add(self, rows: Rows) -> None:
        """Adds the next rows, however many."""
        height = len(rows.labels)
        start = 0
        while start < height:
            row = (rows.y + start) // self._patches.stride
            stop = min(height, (row + 1) * self._patches.stride - rows.y)
            if row < self._rows:
                self._add_rows(row, rows, slice(start, stop))
            start = stop

    def candidates(self, slide_id: str, centre: str = "") -> list[Candidate]:
        """All patches with tissue, row by row."""
        side = self._patches.patch // self._patches.stride
        pixels = self._patches.patch**2

        def mean(score_sum: float) -> float:
            return float(np.float32(score_sum / pixels))

        found = []
        for y in self._patches.ys:
            for x in self._patches.xs:
                row, column = y // self._patches.stride, x // self._patches.stride
                cells = np.s_[row : row + side, column : column + side]
                tissue = int(self._tissue[cells].sum())
                if tissue == 0:
                    continue
                score_sum = float(self._uncertainty[cells].sum())
                found.append(
                    Candidate(
                        slide_id=slide_id,
                        centre=centre,
                        x=x,
                        y=y,
                        size=self._patches.patch,
                        score_mean=mean(score_sum),
                        score_sum=float(np.float32(score_sum)),
                        tissue_fraction=tissue / pixels,
                        tumour_fraction=int(self._tumour[cells].sum()) / pixels,
                        black_fraction=int(self._black[cells].sum()) / pixels,
                        white_fraction=int((self._white[cells] + self._outside[cells]).sum()) / pixels,
                        reference_key=_reference_key(self._grey[cells].sum(axis=(0, 1))),
                        extra={name: mean(float(sums[cells].sum())) for name, sums in self._extra.items()},
                    )
                )
        return found

    def _add_rows(self, row: int, rows: Rows, here: slice) -> None:
        tissue = rows.tissue[here]
        inside = np.ones_like(tissue)
        self._outside[row] -= self._per_cell(inside).astype(np.int64)
        black, white = black_and_white(rows.rgb(here))
        self._black[row] += self._per_cell(black).astype(np.int64)
        self._white[row] += self._per_cell(white).astype(np.int64)
        if not tissue.any():
            return
        uncertainty = rows.uncertainty[here]
        self._uncertainty[row] += self._per_cell(uncertainty)
        for name, sums in self._extra.items():
            sums[row] += self._per_cell(rows.extra[name][here])
        self._tissue[row] += self._per_cell(tissue).astype(np.int64)
        self._tumour[row] += self._per_cell(rows.labels[here] == self._tumour_label).astype(np.int64)
        grey = to_uint8(uncertainty, self._full_scale)
        cell = np.arange(grey.shape[1]) // self._patches.stride * _GREY_LEVELS
        counts = np.bincount((grey + cell).ravel(), minlength=self._columns * _GREY_LEVELS)
        self._grey[row] += counts.reshape(self._columns, _GREY_LEVELS).astype(np.int32)

    def _per_cell(self, values: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums (rows, width) values over rows and over the columns of each cell."""
        columns = values.sum(axis=0, dtype=np.float64)
        starts = np.arange(0, len(columns), self._patches.stride)
        sums = np.zeros(self._columns)
        sums[: len(starts)] = np.add.reduceat(columns, starts)
        return sums


def black_and_white(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Black (V <= 30) and white (S <= 30 and V >= 230) pixels of uint8 RGB (h, w, 3), in 8-bit HSV.

    Source: the paper's 70 % rule with the thresholds of the authors' code/uncertainty_csv.py.
    """
    value, chroma = value_and_chroma(rgb)
    return value <= BLACK_MAX_VALUE, chroma < _WHITE_BELOW_CHROMA[value]


def to_uint8(uncertainty: NDArray[np.float32], full_scale: float) -> NDArray[np.uint8]:
    """The 8-bit map: 0..full_scale to 0..255, truncated, larger values saturated (the authors' scale for 4 nats)."""
    scaled = np.clip(uncertainty, 0, full_scale)
    scaled *= np.float32(255 / full_scale)
    return scaled.astype(np.uint8)


def _reference_key(histogram: NDArray[np.int32]) -> float:
    """100 * (pixels above 0.8 of the patch's maximum) + sum, on the 8-bit map (authors' creat_uncertain_data.py)."""
    levels = np.arange(_GREY_LEVELS)
    present = np.flatnonzero(histogram)
    maximum = int(present[-1]) if len(present) else 0
    above = int(histogram[levels > _REFERENCE_FRACTION * maximum].sum())
    return float(100 * above + int((histogram.astype(np.int64) * levels).sum()))
