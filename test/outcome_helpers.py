"""Results of cells made by hand: three strategies, two budgets, three seeds."""

from dataclasses import replace

import numpy as np
from ranking_helpers import make_candidate, with_extra

from uga.evaluation.agreement import Agreement
from uga.ranking import Strategy
from uga.simulation.analysis import Outcomes
from uga.simulation.cells import BASELINE, CellKey
from uga.simulation.config import Evaluation
from uga.simulation.pool import PoolPatch
from uga.simulation.results import SlideResult

OPTIONS = Evaluation(compare_with=Strategy.RANDOM, resamples=400)
SIDE = 1000


def slide(centre: str, number: int, quality: float, *, lesion: str = "micro") -> SlideResult:
    """A slide whose Dice is ``quality``; a negative one has (1 - quality) * 1000 wrong pixels."""
    if lesion == "negative":
        agreement = Agreement(0, round((1 - quality) * SIDE), 0)
    else:
        hits = round(quality * SIDE)
        agreement = Agreement(hits, SIDE - hits, SIDE - hits)
    name = f"{centre}{number}"
    return SlideResult(name, centre, f"patient {name}", lesion, "tumour", 5 * SIDE, agreement)


def cell(quality: float, *, spread: float = 0.05, seed: int = 0) -> list[SlideResult]:
    """Two centres with four slides with tumour and two without; the second centre is worse."""
    rng = np.random.default_rng(seed)
    return [
        slide(centre, number, float(np.clip(quality - drop + rng.normal(0, spread), 0, 1)), lesion=lesion)
        for centre, drop in (("a", 0.0), ("b", 0.2))
        for number, lesion in enumerate(["micro"] * 3 + ["macro"] + ["negative"] * 2)
    ]


def make_outcomes() -> Outcomes:
    """The mean gains 0.1 over random on the same slides and seeds; entropy has noise of its own and gains nothing."""
    results = {BASELINE: cell(0.5)}
    for seed in range(3):
        for budget, gain in ((5, 0.1), (10, 0.2)):
            for strategy, extra, noise in (
                (Strategy.RANDOM, 0.0, 1), (Strategy.MEAN, 0.1, 1), (Strategy.ENTROPY, 0.0, 10)
            ):  # fmt: skip
                key = CellKey(strategy=strategy, budget=budget, seed=seed)
                results[key] = cell(0.5 + gain + extra, seed=seed + noise)
    return Outcomes(results, OPTIONS, spacing_um=2.0)


def pool_patch(number: int, score: float, *, centre: str = "a", wrong: int = 0, shifted: bool = False) -> PoolPatch:
    candidate = make_candidate(slide_id=f"{centre}{number % 3}", centre=centre, x=16 * number, score_mean=score)
    return PoolPatch(
        candidate=with_extra(replace(candidate, reference_key=-score), score, score),
        patient=f"{centre}{number % 3}",
        shifted=shifted,
        agreement=Agreement(100 - wrong, wrong, wrong),
        judged=1.0,
    )


def make_patches() -> list[PoolPatch]:
    """Two pools: the second is more uncertain, worse and shifted, and within each more uncertain is worse."""
    home = [pool_patch(n, 0.1 + n / 100, wrong=n) for n in range(10)]
    return home + [pool_patch(n, 0.5 + n / 100, centre="b", wrong=40 + n, shifted=True) for n in range(10)]
