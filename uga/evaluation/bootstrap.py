"""Confidence intervals by resampling patients, each with all of its slides.

Slides of one patient are alike, so the patient is what is drawn (cluster bootstrap). A statistic is a function of the
weights of the slides: how often each was drawn. Anything that is computed from per-slide counts can be written so, and
two statistics under the same draws give a paired difference.

Intervals are the expanded percentile intervals of Hesterberg 2015: percentiles of the resampled values, at levels
moved outwards as far as Student's t lies beyond the normal and the bootstrap's variance below the sample's. Like all
percentile intervals they stay inside the statistic's range, and they need no acceleration, which a handful of patients
could not give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """A figure of some slides as a function of how often each counts; two of the same slides can be subtracted.

    Attributes:
        function: Weights of the slides (resamples, slides) -> values (resamples,), NaN where there is none.
        counted: The slides that can move it, bool (slides,).
    """

    function: Callable[[Floats], Floats]
    counted: NDArray[np.bool_]

    def __call__(self, weights: Floats) -> Floats:
        """Values (resamples,) for weights (resamples, slides)."""
        return self.function(weights)

    def __sub__(self, other: Statistic) -> Statistic:
        return Statistic(lambda weights: self(weights) - other(weights), self.counted | other.counted)

    @property
    def value(self) -> float | None:
        """Every slide counted once; None where there is none."""
        value = float(self(np.ones((1, len(self.counted))))[0])
        return None if np.isnan(value) else value


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made; the same seed gives the same intervals.

    Attributes:
        level: Confidence, 0..1.
        resamples: Number of draws.
        seed: Of the draws.
    """

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


DEFAULT_RESAMPLING = Resampling()


class Interval(BaseModel):
    """A confidence interval; without one, ``reason`` says why.

    Attributes:
        low, high: Its ends.
        patients: How many were drawn from.
        reason: Why there is none.
        caution: Why it cannot hold the truth as often as its level says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float | None = None
    high: float | None = None
    patients: int = 0
    reason: str | None = None
    caution: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero lies outside it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value over all slides, None where there is none, with its interval."""

    value: float | None
    interval: Interval


def bootstrap_interval(
    statistic: Statistic, patients: Sequence[str], resampling: Resampling = DEFAULT_RESAMPLING
) -> Estimate:
    """A statistic and its confidence interval.

    Patients none of whose slides can move the statistic are not drawn: they would feign a larger sample than there is.

    Args:
        statistic: Of some slides.
        patients: Whose slide it is, for each slide in the statistic's order.
        resampling: Level, number of draws, seed.
    """
    value = statistic.value
    if value is None:
        return Estimate(None, Interval(reason="there is no value"))
    names, patient = np.unique(np.asarray(patients, np.str_), return_inverse=True)
    drawn = np.unique(patient[statistic.counted])
    if len(drawn) < 2:
        return Estimate(value, Interval(patients=len(drawn), reason="one patient only"))
    times = np.zeros((resampling.resamples, len(names)))
    rng = np.random.default_rng(resampling.seed)
    times[:, drawn] = rng.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), size=resampling.resamples)
    values = statistic(times[:, patient])
    values = values[~np.isnan(values)]
    if len(values) < resampling.resamples / 2:
        return Estimate(value, Interval(patients=len(drawn), reason="most resamples have no value"))
    tail = expanded_tail(resampling.level, len(drawn))
    low, high = np.quantile(values, [tail, 1 - tail])
    fewest = fewest_patients(resampling.level)
    caution = f"fewer than {fewest} patients" if len(drawn) < fewest else None
    return Estimate(value, Interval(low=float(low), high=float(high), patients=len(drawn), caution=caution))


def paired_bootstrap(
    first: Statistic, second: Statistic, patients: Sequence[str], resampling: Resampling = DEFAULT_RESAMPLING
) -> Estimate:
    """The second statistic less the first, both of the same slides and under the same draws.

    Slides that are hard for one method are hard for the other; drawn together, that does not widen the interval.
    """
    return bootstrap_interval(second - first, patients, resampling)


def expanded_tail(level: float, patients: int) -> float:
    """Share of resampled values beyond each end: Phi(sqrt(n / (n - 1)) t), t the (1 - level) / 2 quantile at n - 1.

    Source: Hesterberg, What Teachers Should Know About the Bootstrap, 2015 (expanded percentile interval).
    """
    quantile = stats.t.ppf((1 - level) / 2, patients - 1)
    return float(stats.norm.cdf(np.sqrt(patients / (patients - 1)) * quantile))


def fewest_patients(level: float) -> int:
    """The number of patients below which no resampling can reach the level; 6 for 0.95.

    Resampled means lie between the smallest and the largest value of a patient, and n values of a symmetric population
    all lie on one side of its mean in 2 of 2^n cases: what is resampled holds it in 1 - 2^(1 - n) of them at most.
    """
    return math.ceil(1 - math.log2(1 - level))
