"""What query pools hold, what was chosen of them, and whether the scores find what is segmented badly."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from uga.evaluation.agreement import Agreement
from uga.evaluation.bootstrap import Resampling, bootstrap_interval
from uga.evaluation.statistics import patch_separation, patch_spearman
from uga.ranking.extras import extra_scores
from uga.simulation.summary import CentrePool, Choice, Errors, Estimate, RarityPool, ScoreQuality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from uga.evaluation.bootstrap import Statistic
    from uga.simulation.cells import CellKey, CellManifest, Plan
    from uga.simulation.config import Evaluation
    from uga.simulation.oracle import Choosing
    from uga.simulation.pool import PoolPatch
    from uga.simulation.selection import Selector

_PATCH_RESAMPLES = 500


def choices(plans: Sequence[Plan], manifests: Mapping[CellKey, CellManifest], pools: int) -> tuple[Choice, ...]:
    """What each strategy and budget has corrected, over the finished cells; a budget is for each of so many pools."""
    groups: dict[tuple[float | None, Choosing, int], list[Plan]] = defaultdict(list)
    for plan in plans:
        if plan.key.strategy is not None and plan.key in manifests:
            groups[plan.key.rarity, plan.key.strategy, plan.key.budget].append(plan)
    found = []
    for (rarity, strategy, budget), own in groups.items():

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
                errors=_errors([patch for plan in own for patch in plan.patches]),
                guard_refused=sum(_is_refused(manifests[plan.key]) for plan in own),
                short=sum(len(plan.patches) < budget * pools for plan in own),
            )
        )
    return tuple(found)


def centre_pools(patches: Sequence[PoolPatch]) -> tuple[CentrePool, ...]:
    """The query pools as the baseline sees them; ``patches`` are those that can be queried."""
    pools = []
    for centre in sorted({patch.candidate.centre for patch in patches}):
        own = [patch for patch in patches if patch.candidate.centre == centre]
        scores = np.array([patch.candidate.score_mean for patch in own])
        kinds = [[patch for patch in own if patch.shifted is shifted] for shifted in (True, False)]
        dice_shifted, dice_home = (_dice(kind) if all(kinds) else None for kind in kinds)
        first, median, third = (float(value) for value in np.quantile(scores, [0.25, 0.5, 0.75]))
        pools.append(
            CentrePool(
                centre=centre,
                slides=len({patch.candidate.slide_id for patch in own}),
                patches=len(own),
                holds_label=sum(patch.holds_label for patch in own),
                shifted=sum(patch.shifted for patch in own),
                dice=_dice(own),
                dice_if_all=Agreement.pooled(patch.agreement_if_all for patch in own).dice,
                dice_shifted=dice_shifted,
                dice_home=dice_home,
                errors=_errors(own),
                score_mean=float(scores.mean()),
                score_quartiles=(first, median, third),
            )
        )
    return tuple(pools)


def score_qualities(patches: Sequence[PoolPatch], options: Evaluation) -> tuple[ScoreQuality, ...]:
    """How well every score that was kept finds what is segmented badly."""
    candidates = [patch.candidate for patch in patches]
    extra = [extra_scores(candidate.extra) for candidate in candidates]
    scores = {
        "score_mean": [candidate.score_mean for candidate in candidates],
        "reference_key": [candidate.reference_key for candidate in candidates],
        **{name: [each[name] for each in extra] for name in extra[0]},
    }
    resampling = Resampling(options.level, _PATCH_RESAMPLES, options.seed)
    slides, slide = np.unique([patch.candidate.slide_id for patch in patches], return_inverse=True)
    owners = {patch.candidate.slide_id: patch.patient for patch in patches}
    patients = [owners[str(each)] for each in slides]
    wrong = np.array([1 - patch.smoothed_dice for patch in patches])
    labelled = np.array([any(patch.agreement.counts) for patch in patches])  # in reference or prediction
    shifted = np.array([patch.shifted for patch in patches])

    def resampled(statistic: Statistic) -> Estimate:
        found = bootstrap_interval(statistic, patients, resampling)
        low, high = found.interval.low, found.interval.high
        if low == high:
            return Estimate(value=found.value)
        return Estimate(value=found.value, low=low, high=high, caution=found.interval.caution)

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


def _dice(patches: Sequence[PoolPatch]) -> float | None:
    return Agreement.pooled(patch.agreement for patch in patches).dice


def _errors(patches: Sequence[PoolPatch]) -> Errors:
    judged = max(1, sum(patch.judged_px for patch in patches))
    found = Agreement.pooled(patch.agreement for patch in patches)
    return Errors(missed=found.false_negative / judged, wrongly_called=found.false_positive / judged)


def _is_refused(manifest: CellManifest) -> bool:
    return manifest.guard is not None and manifest.guard.passed is False
