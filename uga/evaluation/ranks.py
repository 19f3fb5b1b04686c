"""Rank statistics of weighted observations, so that a bootstrap sorts only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


class Ranks:
    """Mid-ranks of values, each counted as often as its weight says."""

    def __init__(self, values: ArrayLike) -> None:
        _, self._tie = np.unique(np.asarray(values, np.float64), return_inverse=True)

    def of(self, weights: Floats) -> Floats:
        """Ranks (n,) of the values under weights (n,); tied values share the mean of their ranks."""
        tied = np.bincount(self._tie, weights)
        middle: Floats = np.cumsum(tied) - (tied - 1) / 2
        return middle[self._tie]


def spearman(first: Ranks, second: Ranks, weights: Floats) -> float:
    """Spearman's rank correlation (Pearson's of mid-ranks); NaN where one side is constant."""
    total = weights.sum()
    if total == 0:
        return float("nan")
    x, y = first.of(weights), second.of(weights)
    x, y = x - (weights @ x) / total, y - (weights @ y) / total
    spread = np.sqrt((weights @ (x * x)) * (weights @ (y * y)))
    return float((weights @ (x * y)) / spread) if spread > 0 else float("nan")


def separation(ranks: Ranks, positive: NDArray[np.bool_], weights: Floats) -> float:
    """Chance that a positive value is larger than another one, ties half (area under the ROC curve)."""
    above, below = weights[positive].sum(), weights[~positive].sum()
    if above == 0 or below == 0:
        return float("nan")
    rank_sum = (weights * ranks.of(weights))[positive].sum()
    return float((rank_sum - above * (above + 1) / 2) / (above * below))
