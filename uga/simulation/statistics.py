"""Pure functions of counts: pooled Dice, bootstrap over patients within strata, seeds by Student's t, areas.

`uga.evaluation.bootstrap` draws patients of one cohort for one model; an experiment keeps each stratum's size, needs
all cells under the same draws, and has training seeds to account for.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from uga.evaluation.agreement import dice, matthews

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

    Figure = Callable[[Ints], Floats]
    """Of TP, FP, FN and judged pixels (..., 4); NaN where it is not defined."""

_EPSILON = 1e-12


def resampled_slides(patients: Sequence[Hashable], strata: Sequence[Hashable], *, resamples: int, seed: int) -> Ints:
    """How often each slide is drawn in each resample, (resamples, slides).

    Patients are drawn with replacement within their stratum, with all their slides. A patient whose slides lie in
    several strata belongs to that of its first slide. A stratum of one patient never changes.

    Args:
        patients: Of each slide.
        strata: Of each slide.
        resamples: How many.
        seed: Same seed and slides, same resamples.
    """
    rng = np.random.default_rng([seed, 1])
    slides: dict[Hashable, list[int]] = defaultdict(list)
    members: dict[Hashable, list[Hashable]] = defaultdict(list)
    for index, (patient, stratum) in enumerate(zip(patients, strata, strict=True)):
        if patient not in slides:
            members[stratum].append(patient)
        slides[patient].append(index)
    drawn = np.zeros((resamples, len(patients)), dtype=np.int64)
    for own in members.values():
        counts = rng.multinomial(len(own), [1 / len(own)] * len(own), size=resamples)
        for column, patient in enumerate(own):
            drawn[:, slides[patient]] = counts[:, [column]]
    return drawn


def pooled(figure: Figure, counts: Ints, weights: Ints) -> Floats:
    """A figure over all slides together.

    Args:
        figure: One of those below.
        counts: TP, FP, FN and judged pixels of each slide, (..., slides, 4).
        weights: How often each slide counts, (resamples, slides).

    Returns:
        (resamples, ...).
    """
    return figure(np.tensordot(weights, counts, axes=(1, -2)))


def dice_of(counts: Ints) -> Floats:
    """2 TP / (2 TP + FP + FN)."""
    return dice(counts[..., :3])


def matthews_of(counts: Ints) -> Floats:
    """Matthews' correlation, see `uga.evaluation.agreement.matthews`."""
    return matthews(counts[..., :3], counts[..., 3])


def sensitivity_of(counts: Ints) -> Floats:
    """TP / (TP + FN)."""
    return _share(counts[..., 0], counts[..., 2])


def precision_of(counts: Ints) -> Floats:
    """TP / (TP + FP)."""
    return _share(counts[..., 0], counts[..., 1])


def dice_if_all_of(counts: Ints) -> Floats:
    """The Dice of calling every judged pixel by the label."""
    held = counts[..., 0] + counts[..., 2]
    return dice(np.stack([held, counts[..., 3] - held, np.zeros_like(held)], axis=-1))


def _share(part: Ints, rest: Ints) -> Floats:
    whole = part + rest
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan))


def weighted_mean(values: Floats, weights: Ints) -> Floats:
    """Mean over the last axis, by weights of the same shape; NaN counts for nothing, and NaN where nothing counts."""
    there = np.isfinite(values)
    used = np.where(there, weights, 0)
    total = used.sum(axis=-1)
    sums = (np.where(there, values, 0.0) * used).sum(axis=-1)
    mean: Floats = np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)
    return mean


def expanded_tail(level: float, drawn: int, strata: int = 1) -> float:
    """Share of resampled values beyond each end of an interval: Phi(sqrt(n / (n - s)) t).

    n are drawn within s strata, t is the (1 - level) / 2 quantile of Student's distribution with n - s degrees of
    freedom. With one stratum it is `uga.evaluation.bootstrap.expanded_tail`: resamples within strata vary by n - s in n
    of what samples do.
    """
    free = drawn - strata
    return float(stats.norm.cdf(np.sqrt(drawn / free) * stats.t.ppf((1 - level) / 2, free)))


def interval(samples: Floats, tail: float) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples; None if fewer than nine in ten are numbers, or if they do not vary.

    Samples that do not vary come from too few patients: an interval of no width would claim certainty.
    """
    there = samples[np.isfinite(samples)]
    if len(there) < 0.9 * len(samples) or np.ptp(there) < _EPSILON:
        return None
    low, high = np.quantile(there, [tail, 1 - tail])
    return float(low), float(high)


def with_seeds(value: float, low: float, high: float, by_seed: Sequence[float], level: float) -> tuple[float, float]:
    """An interval over patients, of a mean over training seeds, widened for what other seeds would have given.

    Seeds are too few to be resampled: the smallest of three alone makes up one resample in 27, so values of one sign
    would never give an interval that reaches zero. Each half is taken in quadrature with t s / sqrt(n): n seeds, s
    their standard deviation, t the (1 + level) / 2 quantile of Student's distribution with n - 1 degrees of freedom.
    One seed says nothing of others and leaves the interval as it is.

    Args:
        value: Of all patients and seeds.
        low: Lower end of the interval over patients, seeds fixed.
        high: Its upper end.
        by_seed: The value of each seed; paired differences for a difference.
        level: Of the interval.
    """
    count = len(by_seed)
    if count < 2:
        return low, high
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * np.std(by_seed, ddof=1) / np.sqrt(count))
    return float(value - np.hypot(value - low, half)), float(value + np.hypot(high - value, half))


def area_under(budgets: Sequence[float], values: Floats) -> Floats:
    """Area under values (..., budgets) over budgets, by trapezoids, divided by the range: a mean over the budgets."""
    steps = np.diff(np.asarray(budgets, dtype=np.float64))
    middles = (values[..., 1:] + values[..., :-1]) / 2
    area: Floats = (middles * steps).sum(axis=-1) / steps.sum()
    return area
