"""Figures of several slides as `uga.evaluation.bootstrap.Statistic`, so that each can get an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from uga.evaluation.agreement import Empty, dice
from uga.evaluation.bootstrap import Statistic
from uga.evaluation.ranks import Ranks, separation, spearman
from uga.evaluation.uncertainty import Bins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from uga.evaluation.agreement import Agreement
    from uga.evaluation.bootstrap import Floats

_FEWEST_PATCHES = 3


def pooled_dice(slides: Sequence[Agreement], empty: Empty = Empty.EXCLUDE) -> Statistic:
    """Dice over the pixels of all slides together."""
    counts = np.array([one.counts for one in slides], np.float64).reshape(-1, 3)
    return Statistic(lambda weights: dice(weights @ counts, empty), counts.sum(axis=1) > 0)


def mean_of(values: Sequence[float | None]) -> Statistic:
    """Mean over the slides that have a value."""
    known, there = _known(values)
    filled = np.where(there, known, 0)
    return Statistic(lambda weights: _ratio(weights @ filled, weights @ there), there)


def median_of(values: Sequence[float | None]) -> Statistic:
    """Median over the slides that have a value; the mean of the middle two where they are even in number."""
    known, there = _known(values)
    order = np.flatnonzero(there)[np.argsort(known[there], kind="stable")]
    ordered = known[order]

    def function(weights: Floats) -> Floats:
        if len(order) == 0:
            return np.full(len(weights), np.nan)
        upto = np.cumsum(weights[:, order], axis=1)
        half = upto[:, -1:] / 2
        last = len(order) - 1
        lower, upper = (np.minimum(each.sum(axis=1), last) for each in (upto < half, upto <= half))
        return np.where(half[:, 0] > 0, (ordered[lower] + ordered[upper]) / 2, np.nan)

    return Statistic(function, there)


def ratio_of(over: ArrayLike, under: ArrayLike) -> Statistic:
    """Sum of one quantity of the slides over the sum of another."""
    first, second = np.asarray(over, np.float64), np.asarray(under, np.float64)
    return Statistic(lambda weights: _ratio(weights @ first, weights @ second), second > 0)


def histogram_figure(histograms: Sequence[NDArray[Any]], figure: Callable[[NDArray[Any]], Floats]) -> Statistic:
    """A figure of `uga.evaluation.uncertainty`, from the pixels of all slides together."""
    shape = np.shape(histograms)[1:]
    flat = np.reshape(np.asarray(histograms, np.float64), (len(histograms), -1))
    return Statistic(lambda weights: figure((weights @ flat).reshape(len(weights), *shape)), flat.sum(axis=1) > 0)


def bins_figure(slides: Sequence[Bins], figure: Callable[[Bins], Floats]) -> Statistic:
    """A calibration error, from the bins of all slides together."""
    together = [np.asarray(sums) for sums in zip(*slides, strict=True)]
    counted = together[0].sum(axis=1) > 0
    return Statistic(lambda weights: figure(Bins(*(weights @ sums for sums in together))), counted)


def patch_mean(slide: ArrayLike, values: ArrayLike, slides: int) -> Statistic:
    """Mean over the patches of all slides.

    Args:
        slide: Index of each patch's slide.
        values: A value per patch.
        slides: Number of slides, with and without patches.
    """
    owner = np.asarray(slide, np.intp)
    sums = np.bincount(owner, np.asarray(values, np.float64), slides)
    return ratio_of(sums, np.bincount(owner, minlength=slides))


def patch_spearman(slide: ArrayLike, first: ArrayLike, second: ArrayLike, slides: int) -> Statistic:
    """Spearman's correlation of two values of patches; none of fewer than three patches."""
    owner, x, y = np.asarray(slide, np.intp), Ranks(first), Ranks(second)

    def function(weights: Floats) -> Floats:
        if len(owner) < _FEWEST_PATCHES:
            return np.full(len(weights), np.nan)
        return np.array([spearman(x, y, each[owner]) for each in weights])

    return Statistic(function, _holders(owner, slides))


def patch_separation(slide: ArrayLike, scores: ArrayLike, positive: ArrayLike, slides: int) -> Statistic:
    """Chance that the score of a ``positive`` patch is larger than that of another one, ties half."""
    owner, ranks, above = np.asarray(slide, np.intp), Ranks(scores), np.asarray(positive, np.bool_)
    return Statistic(
        lambda weights: np.array([separation(ranks, above, each[owner]) for each in weights]),
        _holders(owner, slides),
    )


def average(statistics: Sequence[Statistic]) -> Statistic:
    """Mean of several figures of the same slides, such as one per centre; none where one of them has none."""
    return Statistic(
        lambda weights: np.mean([each(weights) for each in statistics], axis=0),
        np.any([each.counted for each in statistics], axis=0),
    )


def _holders(owner: NDArray[np.intp], slides: int) -> NDArray[np.bool_]:
    return np.bincount(owner, minlength=slides) > 0


def _known(values: Sequence[float | None]) -> tuple[Floats, NDArray[np.bool_]]:
    known = np.array([np.nan if value is None else value for value in values], np.float64)
    return known, ~np.isnan(known)


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.asarray(np.where(under > 0, over / np.where(under > 0, under, 1), np.nan))
