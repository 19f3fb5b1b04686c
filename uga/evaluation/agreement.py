"""Agreement of predicted with reference pixels, and Dice by three conventions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Empty(StrEnum):
    """What Dice is where a label is neither in the reference nor predicted.

    ``exclude``: there is none, so it enters no mean. ``one``: 1. ``smoothed``: the authors' Dice, which adds 1 to
    numerator and denominator everywhere: 1 there, and a little more than the others elsewhere
    (nadieh/Collaborative_segmentation, code/uncertainty_csv.py).
    """

    EXCLUDE = "exclude"
    ONE = "one"
    SMOOTHED = "smoothed"


def dice(counts: NDArray[Any], empty: Empty = Empty.EXCLUDE) -> NDArray[np.float64]:
    """Dice = 2 TP / (2 TP + FP + FN) of pixel counts.

    Args:
        counts: TP, FP and FN, (..., 3).
        empty: The convention where all three are 0.

    Returns:
        Dice, float64 (...); NaN where there is none.
    """
    both = 2.0 * counts[..., 0]
    total = both + counts[..., 1] + counts[..., 2]
    if empty is Empty.SMOOTHED:
        return np.asarray((both + 1) / (total + 1))
    nothing = 1.0 if empty is Empty.ONE else np.nan
    return np.asarray(np.where(total > 0, both / np.where(total > 0, total, 1), nothing))


def matthews(counts: NDArray[Any], judged: NDArray[Any]) -> NDArray[np.float64]:
    """Matthews' correlation (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN)) of pixel counts.

    It is the correlation of two binary maps, so calling more by the label than the maps agree on does not raise it: it
    is 0 for calling everything by the label, where Dice may be high.

    Args:
        counts: TP, FP and FN, (..., 3).
        judged: Pixels counted in all, (...).

    Returns:
        From -1 to 1, float64 (...); 0 where one of the two maps is uniform, NaN where the reference is.
    """
    both, false, missed = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    neither = np.asarray(judged, np.float64) - both - false - missed
    reference = (both + missed) * (neither + false)
    predicted = (both + false) * (neither + missed)
    spread = np.sqrt(reference) * np.sqrt(predicted)  # the product of four areas could be too large to be exact
    value = np.where(spread > 0, (both * neither - false * missed) / np.where(spread > 0, spread, 1), 0.0)
    return np.asarray(np.where(reference > 0, value, np.nan))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of pixels of one label; the sum of two is what both areas have together."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @classmethod
    def of(cls, predicted: NDArray[np.bool_], reference: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Self:
        """Count where ``judged``; three arrays of one shape."""
        both = int(np.count_nonzero(predicted & reference & judged))
        return cls(
            both,
            int(np.count_nonzero(predicted & judged)) - both,
            int(np.count_nonzero(reference & judged)) - both,
        )

    @classmethod
    def from_confusion(cls, confusion: NDArray[np.int64], value: int) -> Self:
        """The counts of label ``value`` in a confusion matrix (reference, predicted)."""
        both = int(confusion[value, value])
        return cls(both, int(confusion[:, value].sum()) - both, int(confusion[value].sum()) - both)

    @classmethod
    def pooled(cls, parts: Iterable[Agreement]) -> Self:
        """All parts taken as one area."""
        return cls(*(sum(column) for column in zip(*(part.counts for part in parts), strict=True)))

    @property
    def counts(self) -> tuple[int, int, int]:
        """TP, FP and FN."""
        return self.true_positive, self.false_positive, self.false_negative

    @property
    def reference_px(self) -> int:
        """Judged pixels that the reference gives the label."""
        return self.true_positive + self.false_negative

    @property
    def dice(self) -> float | None:
        """Unsmoothed Dice; None where the label is neither in the reference nor predicted."""
        return self.dice_by(Empty.EXCLUDE)

    def dice_by(self, empty: Empty) -> float | None:
        """Dice by a convention; None where there is none."""
        value = float(dice(np.asarray(self.counts), empty))
        return None if np.isnan(value) else value
