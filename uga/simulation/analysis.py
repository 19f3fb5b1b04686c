"""From the results of cells to a summary: what each strategy gains, with intervals over patients and seeds."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from uga.evaluation.agreement import Agreement, Empty, dice
from uga.evaluation.bootstrap import Resampling, bootstrap_interval
from uga.evaluation.statistics import patch_separation, patch_spearman
from uga.simulation.cells import BASELINE
from uga.simulation.statistics import (
    area_under,
    expanded_tail,
    interval,
    pooled_dice,
    resampled_seeds,
    resampled_slides,
    weighted_mean,
)
from uga.simulation.summary import (
    Area,
    CentrePool,
    Choice,
    Difference,
    Estimate,
    Point,
    RarityPool,
    ScoreQuality,
)
from uga.training.cases import LESION_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from uga.evaluation.bootstrap import Statistic
    from uga.ranking import Strategy
    from uga.simulation.cells import CellKey, CellManifest, Plan
    from uga.simulation.config import Evaluation
    from uga.simulation.pool import PoolPatch
    from uga.simulation.results import SlideResult
    from uga.simulation.selection import Selector

    Floats = NDArray[np.float64]

_GroupKey = tuple["float | None", "Strategy | None", int]
_PATCH_RESAMPLES = 500


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

    @property
    def headline_centres(self) -> tuple[str, ...]:
        """The centres whose mean is the headline."""
        return self.options.centres or self.centres

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The baseline first, then every strategy and budget."""
        return tuple(self._point(key) for key in self._groups)

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """Of the strategies whose cells of all budgets are there."""
        return tuple(
            Area(rarity=rarity, strategy=strategy, dice=self._estimate(samples, self._headline_slides))
            for (rarity, strategy), samples in self._curves.items()
        )

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Of each strategy and the one that all are compared with: every budget, and the area."""
        other = self.options.compare_with
        found = []
        for rarity, strategy, budget in self._groups:
            reference = self._headline.get((rarity, other, budget))
            if strategy not in (None, other) and reference is not None:
                samples = self._headline[rarity, strategy, budget] - reference
                gain = self._estimate(samples, self._headline_slides)
                found.append(Difference(rarity=rarity, strategy=strategy, budget=budget, dice=gain))
        for (rarity, strategy), samples in self._curves.items():
            reference = self._curves.get((rarity, other))
            if strategy is not other and reference is not None:
                gain = self._estimate(samples - reference, self._headline_slides)
                found.append(Difference(rarity=rarity, strategy=strategy, budget=None, dice=gain))
        return tuple(found)

    @cached_property
    def _groups(self) -> dict[_GroupKey, list[CellKey]]:
        """The cells of each strategy and budget, by seed."""
        groups: dict[_GroupKey, list[CellKey]] = defaultdict(list)
        for key in self.results:
            groups[key.rarity, key.strategy, key.budget].append(key)
        return {name: sorted(keys, key=lambda key: key.seed) for name, keys in groups.items()}

    @property
    def lone_patients(self) -> int:
        """Patients that are alone in their stratum."""
        return sum(drawn == 1 for drawn in self._drawn(np.ones(len(self.slides), dtype=np.bool_)).values())

    def _drawn(self, which: NDArray[np.bool_]) -> Counter[tuple[str, bool]]:
        """Patients with such slides in each stratum; one with slides in two strata is of the first, as when drawn."""
        strata: dict[str, tuple[str, bool]] = {}
        for slide, stratum in zip(self.slides, self._strata, strict=True):
            strata.setdefault(slide.patient, stratum)
        return Counter(
            strata[patient] for patient in {s.patient for s, used in zip(self.slides, which, strict=True) if used}
        )

    @property
    def _strata(self) -> list[tuple[str, bool]]:
        """Slides are exchanged within their centre, and within those with or without the label."""
        return [(slide.centre, _holds(slide)) for slide in self.slides]

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

    @cached_property
    def _seed_weights(self) -> dict[int, NDArray[np.int64]]:
        """How often each training seed counts, likewise."""
        seeds = sorted({key.seed for key in self.results if key.strategy is not None})
        if not seeds:
            return {}
        drawn = resampled_seeds(len(seeds), resamples=self.options.resamples, seed=self.options.seed)
        weights = np.vstack([np.ones_like(drawn[:1]), drawn])
        return {seed: weights[:, column] for column, seed in enumerate(seeds)}

    @cached_property
    def _headline(self) -> dict[_GroupKey, Floats]:
        """Samples of the headline of each group; the first is the value itself."""
        return {group: self._over_seeds(keys, self._centre_mean) for group, keys in self._groups.items()}

    @cached_property
    def _curves(self) -> dict[tuple[float | None, Strategy], Floats]:
        """Samples of the area under the curve of each strategy that has all budgets."""
        budgets = sorted({budget for _, strategy, budget in self._groups if strategy is not None})
        baseline = self._headline.get((None, None, 0))
        curves = {}
        for rarity, strategy in dict.fromkeys((rarity, strategy) for rarity, strategy, _ in self._groups):
            if strategy is None or baseline is None:
                continue
            points = [self._headline.get((rarity, strategy, budget)) for budget in budgets]
            complete = [point for point in points if point is not None]
            if len(complete) == len(budgets):
                curves[rarity, strategy] = area_under([0, *budgets], np.stack([baseline, *complete], axis=-1))
        return curves

    def _point(self, group: _GroupKey) -> Point:
        rarity, strategy, budget = group
        keys = self._groups[group]
        all_slides = np.ones(len(self.slides), dtype=np.bool_)
        holding = np.array([_holds(slide) for slide in self.slides])
        lesions = [name for name in LESION_CLASSES if any(slide.lesion == name for slide in self.slides)]

        def pooled(which: NDArray[np.bool_]) -> Estimate:
            return self._estimate(self._over_seeds(keys, lambda key: self._pooled(key, which)), which & self._counted)

        return Point(
            rarity=rarity,
            strategy=strategy,
            budget=budget,
            dice=self._estimate(self._headline[group], self._headline_slides),
            seeds={key.seed: _number(self._centre_mean(key)[0]) for key in keys},
            by_centre={centre: pooled(self._at(centre)) for centre in self.centres},
            by_class={
                lesion: pooled(np.array([slide.lesion == lesion for slide in self.slides])) for lesion in lesions
            },
            false_positive_mm2=self._estimate(self._over_seeds(keys, self._false_positive_mm2), ~holding),
            dice_pooled=pooled(all_slides),
            dice_slides=self._estimate(self._over_seeds(keys, self._slide_mean), holding),
            dice_slides_empty_one=self._estimate(
                self._over_seeds(keys, lambda key: self._slide_mean(key, everywhere=True)), all_slides
            ),
        )

    def _over_seeds(self, keys: Sequence[CellKey], figure: Callable[[CellKey], Floats]) -> Floats:
        """The mean of a figure over the seeds of a group, in each resample."""
        values = np.stack([figure(key) for key in keys], axis=-1)
        if keys == [BASELINE]:
            return values[:, 0]
        weights = np.stack([self._seed_weights[key.seed] for key in keys], axis=-1)
        return weighted_mean(values, weights)

    def _counts(self, key: CellKey) -> NDArray[np.int64]:
        """TP, FP, FN of each slide, (slides, 3)."""
        found = {result.slide: result.agreement for result in self.results[key]}
        return np.array([found[slide.slide].counts for slide in self.slides], dtype=np.int64)

    @cached_property
    def _counted(self) -> NDArray[np.bool_]:
        """The slides that hold the label or are said to by some model: those that can move a pooled Dice."""
        counts = np.stack([self._counts(key) for key in self.results])
        return np.asarray(counts.sum(axis=(0, 2)) > 0)

    @cached_property
    def _headline_slides(self) -> NDArray[np.bool_]:
        return np.array([slide.centre in self.headline_centres for slide in self.slides]) & self._counted

    def _at(self, centre: str) -> NDArray[np.bool_]:
        return np.array([slide.centre == centre for slide in self.slides])

    def _pooled(self, key: CellKey, which: NDArray[np.bool_]) -> Floats:
        return pooled_dice(self._counts(key)[which], self._weights[:, which])

    def _centre_mean(self, key: CellKey) -> Floats:
        dice = np.stack([self._pooled(key, self._at(centre)) for centre in self.headline_centres], axis=-1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a resample without the label anywhere
            mean: Floats = np.nanmean(dice, axis=-1)
        return mean

    def _slide_mean(self, key: CellKey, *, everywhere: bool = False) -> Floats:
        """Mean Dice over slides; without ``everywhere`` only over those that hold the label."""
        counts = self._counts(key)
        values = dice(counts, Empty.ONE if everywhere else Empty.EXCLUDE)
        if not everywhere:
            values = np.where(counts[:, 0] + counts[:, 2] > 0, values, np.nan)
        return weighted_mean(np.broadcast_to(values, self._weights.shape), self._weights)

    def _false_positive_mm2(self, key: CellKey) -> Floats:
        counts = self._counts(key)
        area = np.where(counts[:, 0] + counts[:, 2] == 0, counts[:, 1] * (self.spacing_um / 1000) ** 2, np.nan)
        return weighted_mean(np.broadcast_to(area, self._weights.shape), self._weights)

    def _estimate(self, samples: Floats, which: NDArray[np.bool_]) -> Estimate:
        """The value of all slides and seeds, the first sample, with the interval of the others.

        Args:
            samples: The value, then the resampled ones.
            which: The slides that can move it.
        """
        bounds = interval(samples[1:], self._tail(which))
        value = _number(samples[0])
        if bounds is None or value is None:
            return Estimate(value=value)
        return Estimate(value=value, low=bounds[0], high=bounds[1])

    def _tail(self, which: NDArray[np.bool_]) -> float:
        """Share of samples beyond each end of the interval, by the patients drawn; by the seeds if they alone vary."""
        varied = [drawn for drawn in self._drawn(which).values() if drawn > 1]
        if not varied:
            varied = [max(2, len(self._seed_weights))]
        return expanded_tail(self.options.level, sum(varied), len(varied))


def choices(plans: Sequence[Plan], manifests: Mapping[CellKey, CellManifest]) -> tuple[Choice, ...]:
    """What each strategy and budget has corrected, over the finished cells."""
    groups: dict[_GroupKey, list[Plan]] = defaultdict(list)
    for plan in plans:
        if plan.key.strategy is not None and plan.key in manifests:
            groups[plan.key.rarity, plan.key.strategy, plan.key.budget].append(plan)
    found = []
    for (rarity, strategy, budget), own in groups.items():
        assert strategy is not None  # noqa: S101 - the baseline is no choice

        def mean(figure: Callable[[Plan], float], own: Sequence[Plan] = own) -> float:
            return float(np.mean([figure(plan) for plan in own]))

        found.append(
            Choice(
                rarity=rarity,
                strategy=strategy,
                budget=budget,
                patches=mean(lambda plan: len(plan.patches)),
                holds_label=mean(lambda plan: float(np.mean([patch.holds_label for patch in plan.patches]))),
                shifted=mean(lambda plan: float(np.mean([patch.shifted for patch in plan.patches]))),
                slides=mean(lambda plan: len({patch.candidate.slide_id for patch in plan.patches})),
                baseline_dice=mean(lambda plan: float(np.mean([patch.smoothed_dice for patch in plan.patches]))),
                guard_refused=sum(_is_refused(manifests[plan.key]) for plan in own),
            )
        )
    return tuple(found)


def centre_pools(patches: Sequence[PoolPatch]) -> tuple[CentrePool, ...]:
    """The query pools as the baseline sees them; ``patches`` are those that are not excluded."""
    pools = []
    for centre in sorted({patch.candidate.centre for patch in patches}):
        own = [patch for patch in patches if patch.candidate.centre == centre]
        scores = np.array([patch.candidate.score_mean for patch in own])
        first, median, third = (float(value) for value in np.quantile(scores, [0.25, 0.5, 0.75]))
        pools.append(
            CentrePool(
                centre=centre,
                slides=len({patch.candidate.slide_id for patch in own}),
                patches=len(own),
                holds_label=sum(patch.holds_label for patch in own),
                shifted=sum(patch.shifted for patch in own),
                dice=Agreement.pooled(patch.agreement for patch in own).dice,
                score_mean=float(scores.mean()),
                score_quartiles=(first, median, third),
            )
        )
    return tuple(pools)


def score_qualities(patches: Sequence[PoolPatch], options: Evaluation) -> tuple[ScoreQuality, ...]:
    """How well every score that was kept finds what is segmented badly."""
    candidates = [patch.candidate for patch in patches]
    scores = {
        "score_mean": [candidate.score_mean for candidate in candidates],
        "reference_key": [candidate.reference_key for candidate in candidates],
        **{name: [candidate.extra[name] for candidate in candidates] for name in candidates[0].extra},
    }
    resampling = Resampling(options.level, _PATCH_RESAMPLES, options.seed)
    slides, slide = np.unique([patch.candidate.slide_id for patch in patches], return_inverse=True)
    owners = {patch.candidate.slide_id: patch.patient for patch in patches}
    patients = [owners[str(each)] for each in slides]
    wrong = np.array([1 - patch.smoothed_dice for patch in patches])
    labelled = np.array([patch.holds_label or patch.candidate.tumour_fraction > 0 for patch in patches])
    shifted = np.array([patch.shifted for patch in patches])

    def resampled(statistic: Statistic) -> Estimate:
        found = bootstrap_interval(statistic, patients, resampling)
        low, high = found.interval.low, found.interval.high
        return Estimate(value=found.value) if low == high else Estimate(value=found.value, low=low, high=high)

    found = []
    for name, listed in scores.items():
        values = np.array(listed)
        found.append(
            ScoreQuality(
                score=name,
                spearman=resampled(patch_spearman(slide, values, wrong, len(slides))),
                spearman_with_label=resampled(
                    patch_spearman(slide[labelled], values[labelled], wrong[labelled], len(slides))
                ),
                auroc_shifted=resampled(patch_separation(slide, values, shifted, len(slides))),
            )
        )
    return tuple(found)


def rarity_pools(selector: Selector, rarities: Sequence[float], seeds: Sequence[int]) -> tuple[RarityPool, ...]:
    """What the pools of each rarity held."""
    pools = []
    for rarity in rarities:
        offered = [selector.offered(rarity, seed) for seed in seeds]
        pools.append(
            RarityPool(
                rarity=rarity,
                patches=float(np.mean([len(pool) for pool in offered])),
                shifted=float(np.mean([sum(patch.shifted for patch in pool) for pool in offered])),
            )
        )
    return tuple(pools)


def home_is_least_uncertain(pools: Sequence[CentrePool], home: Sequence[str]) -> bool | None:
    """Whether the baseline is surer at every home centre than at any other; None without both kinds."""
    scores = {pool.centre: pool.score_mean for pool in pools}
    known = [scores[centre] for centre in scores if centre in home]
    foreign = [scores[centre] for centre in scores if centre not in home]
    return max(known) < min(foreign) if known and foreign else None


def _holds(result: SlideResult) -> bool:
    return result.agreement.true_positive + result.agreement.false_negative > 0


def _is_refused(manifest: CellManifest) -> bool:
    return manifest.guard is not None and manifest.guard.passed is False


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
