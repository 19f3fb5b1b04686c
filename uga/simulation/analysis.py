"""From the results of cells to points, areas and differences, with intervals over patients and training seeds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from uga.evaluation.agreement import Empty, dice
from uga.evaluation.bootstrap import fewest_patients
from uga.simulation.cells import BASELINE
from uga.simulation.statistics import (
    area_under,
    dice_if_all_of,
    dice_of,
    expanded_tail,
    interval,
    matthews_of,
    pooled,
    precision_of,
    resampled_slides,
    sensitivity_of,
    weighted_mean,
    with_seeds,
)
from uga.simulation.summary import Area, Difference, Estimate, Point
from uga.training.cases import LESION_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from uga.simulation.cells import CellKey
    from uga.simulation.config import Evaluation
    from uga.simulation.oracle import Choosing
    from uga.simulation.results import SlideResult
    from uga.simulation.statistics import Figure

    Floats = NDArray[np.float64]

    _GroupKey = tuple[float | None, Choosing | None, int]
    _BySeed = dict[int, Floats]
    """Samples of each training seed (1 + resamples,): the value of all slides, then those of the resamples."""

_SHARE, _GAIN, _AREA = (0.0, 1.0), (-1.0, 1.0), (0.0, np.inf)
_CORRELATION, _CORRELATION_GAIN = (-1.0, 1.0), (-2.0, 2.0)


@dataclass(frozen=True)
class Outcomes:
    """The results of the finished cells for the label that counts, with what intervals need.

    Attributes:
        results: Of each cell, in one order of slides.
        options: What is reported.
        spacing_um: Of the pixels counted.
    """

    results: Mapping[CellKey, Sequence[SlideResult]]
    options: Evaluation
    spacing_um: float

    @cached_property
    def slides(self) -> Sequence[SlideResult]:
        """The test slides, in the order of all counts."""
        return next(iter(self.results.values()))

    @cached_property
    def centres(self) -> tuple[str, ...]:
        """All centres of the test slides."""
        return tuple(sorted({slide.centre for slide in self.slides}))

    @cached_property
    def headline_centres(self) -> tuple[str, ...]:
        """The centres whose mean is the headline: those asked for that hold the label, whatever is found there."""
        return tuple(centre for centre in self._asked_centres if (self._at(centre) & self._holding).any())

    @property
    def centres_left_out(self) -> tuple[str, ...]:
        """The centres that were asked for and do not hold the label."""
        return tuple(centre for centre in self._asked_centres if centre not in self.headline_centres)

    @property
    def dice_if_all(self) -> float | None:
        """Mean over the same centres of the Dice of calling every judged pixel by the label."""
        return _number(self._centre_mean(next(iter(self.results)), dice_if_all_of)[0])

    @property
    def lone_patients(self) -> int:
        """Patients that are alone in their stratum."""
        return sum(drawn == 1 for drawn in self._drawn(np.ones(len(self.slides), dtype=np.bool_)).values())

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The baseline first, then every strategy and budget."""
        return tuple(self._point(key) for key in self._groups)

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """Of the strategies that have a seed with all budgets; none where there is only one budget."""
        return tuple(
            Area(rarity=rarity, strategy=strategy, dice=self._headline_estimate(own, _SHARE), seeds=len(own))
            for (rarity, strategy), own in self._curves.items()
        )

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Of each strategy and the one that all are compared with: every budget, and the area."""
        other = self.options.compare_with
        found = []
        for group, own in self._headline.items():
            rarity, strategy, budget = group
            reference = rarity, other, budget
            if strategy not in (None, other) and (both := _less(own, self._headline.get(reference, {}))):
                correlation = _less(self._correlations[group], self._correlations[reference])
                found.append(self._difference(rarity, strategy, budget, both, correlation))
        for (rarity, strategy), own in self._curves.items():
            if strategy is not other and (both := _less(own, self._curves.get((rarity, other), {}))):
                found.append(self._difference(rarity, strategy, None, both))
        return tuple(found)

    def _difference(
        self,
        rarity: float | None,
        strategy: Choosing,
        budget: int | None,
        by_seed: _BySeed,
        correlation: _BySeed | None = None,
    ) -> Difference:
        return Difference(
            rarity=rarity,
            strategy=strategy,
            budget=budget,
            dice=self._headline_estimate(by_seed, _GAIN),
            matthews=self._headline_estimate(correlation, _CORRELATION_GAIN) if correlation else None,
            seeds=len(by_seed),
            identical=not any(samples.any() for samples in by_seed.values()),
        )

    @cached_property
    def _groups(self) -> dict[_GroupKey, list[CellKey]]:
        """The cells of each strategy and budget, by seed."""
        groups: dict[_GroupKey, list[CellKey]] = defaultdict(list)
        for key in self.results:
            groups[key.rarity, key.strategy, key.budget].append(key)
        return {name: sorted(keys, key=lambda key: key.seed) for name, keys in groups.items()}

    @cached_property
    def _headline(self) -> dict[_GroupKey, _BySeed]:
        return self._centre_means(dice_of)

    @cached_property
    def _correlations(self) -> dict[_GroupKey, _BySeed]:
        return self._centre_means(matthews_of)

    def _centre_means(self, figure: Figure) -> dict[_GroupKey, _BySeed]:
        return {group: self._by_seed(keys, figure) for group, keys in self._groups.items()}

    def _by_seed(self, keys: Sequence[CellKey], figure: Figure) -> _BySeed:
        return {key.seed: self._centre_mean(key, figure) for key in keys}

    @cached_property
    def _curves(self) -> dict[tuple[float | None, Choosing], _BySeed]:
        """The area under the curve of each strategy, of the seeds that have all budgets."""
        budgets = sorted({budget for _, strategy, budget in self._groups if strategy is not None})
        if len(budgets) < 2 or BASELINE not in self.results:
            return {}
        baseline = self._centre_mean(BASELINE)
        curves = {}
        for rarity, strategy in dict.fromkeys((rarity, strategy) for rarity, strategy, _ in self._groups):
            if strategy is None:
                continue
            points = [self._headline.get((rarity, strategy, budget), {}) for budget in budgets]
            areas = {
                seed: area_under([0, *budgets], np.stack([baseline, *(point[seed] for point in points)], axis=-1))
                for seed in points[0]
                if all(seed in point for point in points)
            }
            if areas:
                curves[rarity, strategy] = areas
        return curves

    def _point(self, group: _GroupKey) -> Point:
        rarity, strategy, budget = group
        keys, own = self._groups[group], self._headline[group]
        all_slides = np.ones(len(self.slides), dtype=np.bool_)
        lesions = [name for name in LESION_CLASSES if any(slide.lesion == name for slide in self.slides)]

        def estimate(
            figure: Callable[[CellKey], Floats], which: NDArray[np.bool_], within: tuple[float, float] = _SHARE
        ) -> Estimate:
            return self._estimate({key.seed: figure(key) for key in keys}, which, within)

        def together(which: NDArray[np.bool_]) -> Estimate:
            return estimate(lambda key: self._pooled(key, which), which & self._counted)

        gain = None
        if strategy is not None and BASELINE in self.results:
            baseline = self._centre_mean(BASELINE)
            gain = self._headline_estimate({seed: samples - baseline for seed, samples in own.items()}, _GAIN)
        return Point(
            rarity=rarity,
            strategy=strategy,
            budget=budget,
            dice=self._headline_estimate(own, _SHARE),
            gain=gain,
            seeds={seed: _number(samples[0]) for seed, samples in own.items()},
            by_centre={centre: together(self._at(centre)) for centre in self.centres},
            by_class={
                lesion: together(np.array([slide.lesion == lesion for slide in self.slides])) for lesion in lesions
            },
            false_positive_mm2=estimate(self._false_positive_mm2, ~self._holding, _AREA),
            dice_pooled=together(all_slides),
            sensitivity=self._headline_estimate(self._by_seed(keys, sensitivity_of), _SHARE),
            precision=self._headline_estimate(self._by_seed(keys, precision_of), _SHARE),
            matthews=self._headline_estimate(self._correlations[group], _CORRELATION),
            dice_slides=estimate(self._slide_mean, self._holding),
            dice_slides_empty_one=estimate(lambda key: self._slide_mean(key, everywhere=True), all_slides),
        )

    @property
    def _asked_centres(self) -> tuple[str, ...]:
        return self.options.centres or self.centres

    @cached_property
    def _holding(self) -> NDArray[np.bool_]:
        """The slides whose reference holds the label."""
        return np.array([_holds(slide) for slide in self.slides])

    @cached_property
    def _counted(self) -> NDArray[np.bool_]:
        """The slides that hold the label or are said to by some model: those that can move a pooled Dice."""
        counts = np.stack([self._counts(key) for key in self.results])
        return np.asarray(counts[..., :3].sum(axis=(0, 2)) > 0)

    @cached_property
    def _headline_slides(self) -> NDArray[np.bool_]:
        return np.array([slide.centre in self.headline_centres for slide in self.slides]) & self._counted

    def _at(self, centre: str) -> NDArray[np.bool_]:
        return np.array([slide.centre == centre for slide in self.slides])

    @cached_property
    def _strata(self) -> list[tuple[str, bool]]:
        """Of each slide that of its patient: centre of the first slide, whether any holds the label.

        Patients are exchanged within it, so a resample has the label wherever all slides have it.
        """
        strata: dict[str, tuple[str, bool]] = {}
        for slide in self.slides:
            centre, holds = strata.get(slide.patient, (slide.centre, False))
            strata[slide.patient] = centre, holds or _holds(slide)
        return [strata[slide.patient] for slide in self.slides]

    def _drawn(self, which: NDArray[np.bool_]) -> Counter[tuple[str, bool]]:
        """Patients with such slides in each stratum."""
        strata = {slide.patient: stratum for slide, stratum in zip(self.slides, self._strata, strict=True)}
        return Counter(
            strata[patient] for patient in {s.patient for s, used in zip(self.slides, which, strict=True) if used}
        )

    @cached_property
    def _weights(self) -> NDArray[np.int64]:
        """How often each slide counts: once in the first row, then as in each resample."""
        drawn = resampled_slides(
            [slide.patient for slide in self.slides],
            self._strata,
            resamples=self.options.resamples,
            seed=self.options.seed,
        )
        return np.vstack([np.ones_like(drawn[:1]), drawn])

    def _counts(self, key: CellKey) -> NDArray[np.int64]:
        """TP, FP, FN and judged pixels of each slide, (slides, 4)."""
        found = {result.slide: (*result.agreement.counts, result.judged_px) for result in self.results[key]}
        return np.array([found[slide.slide] for slide in self.slides], dtype=np.int64)

    def _pooled(self, key: CellKey, which: NDArray[np.bool_], figure: Figure = dice_of) -> Floats:
        """A figure of such slides together; NaN where none of those drawn holds the label, whatever is found."""
        weights = self._weights[:, which]
        holds = weights @ self._holding[which] > 0
        return np.where(holds, pooled(figure, self._counts(key)[which], weights), np.nan)

    def _centre_mean(self, key: CellKey, figure: Figure = dice_of) -> Floats:
        """Mean over the same centres in every resample; NaN where one of them has lost the label."""
        if not self.headline_centres:
            return np.full(len(self._weights), np.nan)
        values = np.stack([self._pooled(key, self._at(centre), figure) for centre in self.headline_centres])
        mean: Floats = values.mean(axis=0)
        return mean

    def _slide_mean(self, key: CellKey, *, everywhere: bool = False) -> Floats:
        """Mean Dice over slides; without ``everywhere`` only over those that hold the label."""
        values = dice(self._counts(key)[:, :3], Empty.ONE if everywhere else Empty.EXCLUDE)
        if not everywhere:
            values = np.where(self._holding, values, np.nan)
        return weighted_mean(np.broadcast_to(values, self._weights.shape), self._weights)

    def _false_positive_mm2(self, key: CellKey) -> Floats:
        area = np.where(self._holding, np.nan, self._counts(key)[:, 1] * (self.spacing_um / 1000) ** 2)
        return weighted_mean(np.broadcast_to(area, self._weights.shape), self._weights)

    def _headline_estimate(self, by_seed: _BySeed, within: tuple[float, float]) -> Estimate:
        return self._estimate(by_seed, self._headline_slides, within)

    def _estimate(self, by_seed: _BySeed, which: NDArray[np.bool_], within: tuple[float, float]) -> Estimate:
        """The mean over seeds, with an interval over patients, the seeds fixed, that is widened for the seeds.

        Args:
            by_seed: The value, then the resampled ones, of each seed.
            which: The slides that can move it.
            within: The least and the largest value there can be.
        """
        samples = np.stack(list(by_seed.values()))
        mean = samples.mean(axis=0)
        value = _number(mean[0])
        varied = [drawn for drawn in self._drawn(which).values() if drawn > 1]
        if value is None or not varied:
            return Estimate(value=value)
        bounds = interval(mean[1:], expanded_tail(self.options.level, sum(varied), len(varied)))
        if bounds is None:
            return Estimate(value=value)
        low, high = np.clip(with_seeds(value, *bounds, samples[:, 0].tolist(), self.options.level), *within)
        fewest = fewest_patients(self.options.level)
        caution = f"fewer than {fewest} patients" if sum(varied) < fewest else None
        return Estimate(value=value, low=float(low), high=float(high), caution=caution)


def _less(own: _BySeed, reference: _BySeed) -> _BySeed:
    """What one strategy has more than another, seed by seed, of the seeds that both have."""
    return {seed: samples - reference[seed] for seed, samples in own.items() if seed in reference}


def _holds(result: SlideResult) -> bool:
    return result.agreement.reference_px > 0


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
