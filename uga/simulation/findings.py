"""What an experiment showed, in sentences that follow from the figures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.simulation.oracle import Oracle
from uga.simulation.shipped import deviations
from uga.simulation.tables import counted, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uga.simulation.summary import Difference, Estimate, Point, Summary

_ENOUGH_SPEARMAN = 0.5
_ENOUGH_LEARNT = 0.1  # above the Dice of calling all by the label


def findings(summary: Summary) -> list[str]:
    """Sentences, the most important first; nothing is said that no finished cell shows."""
    return _reservations(summary) + _gains(summary) + _comparisons(summary) + _uncertainty(summary)


def _reservations(summary: Summary) -> list[str]:
    said = []
    if changed := deviations(summary):
        said.append(f"This is not the configuration {summary.name} as it comes with UGA: {'; '.join(changed)}.")
    if summary.finished < summary.cells:
        said.append(f"Only {summary.finished} of {summary.cells} cells are finished; what follows is about those.")
    if summary.centres_left_out:
        said.append(
            f"No test slide of centre {', '.join(summary.centres_left_out)} holds {summary.label}, so the mean over "
            f"centres is that of {', '.join(summary.centres) or 'none'}."
        )
    if summary.seeds == 1:
        said.append("One seed was run, so the intervals say nothing of how far a repetition may differ.")
    elif summary.seeds == 2:
        said.append("Two seeds were run, which say little of how far a repetition may differ: the intervals are wide.")
    if summary.cautions:
        said.append(
            f"Intervals with a * rest on {' or '.join(summary.cautions)}: they hold the truth less often than "
            f"{100 * summary.level:g} %."
        )
    if summary.lone_patients:
        said.append(
            f"{summary.lone_patients} of {summary.test_patients} test patients have no other of their kind at their "
            "centre to be exchanged with, so the intervals are too narrow."
        )
    said += _not_learnt(summary) + _lightly_gained(summary) + _not_shifted(summary)
    if short := [each for each in summary.choices if each.short]:
        cells = sum(each.short for each in short)
        budgets = ", ".join(str(budget) for budget in sorted({each.budget for each in short}))
        said.append(
            f"{cells} {'cell' if cells == 1 else 'cells'} corrected fewer patches than the budget ({budgets}), as a "
            "pool gave no more."
        )
    return said


def _not_learnt(summary: Summary) -> list[str]:
    poor = [pool for pool in summary.pool if _hardly_above(pool.dice, pool.dice_if_all)]
    return [
        f"The baseline's Dice over the pool of centre {pool.centre}, {pool.dice:.3f}, is hardly above what calling all "
        f"of it {summary.label} has, {pool.dice_if_all:.3f}: it has learnt little that holds there, and corrections "
        "may change little more than how much it calls so."
        for pool in poor
    ]


def _lightly_gained(summary: Summary) -> list[str]:
    if not _dice_is_lightly_gained(summary):
        return []
    sentence = (
        f"Calling all of the test slides {summary.label} would have Dice {summary.dice_if_all:.3f}: a strategy may "
        f"gain Dice by calling more of them {summary.label}, which Matthews' correlation does not reward."
    )
    return [sentence]


def _dice_is_lightly_gained(summary: Summary) -> bool:
    baseline = summary.point(None, 0)
    return baseline is not None and _hardly_above(baseline.dice.value, summary.dice_if_all)


def _hardly_above(dice: float | None, dice_if_all: float | None) -> bool:
    """Whether a Dice is near that of calling all by the label, or below it."""
    return dice is not None and dice_if_all is not None and dice < dice_if_all + _ENOUGH_LEARNT


def _not_shifted(summary: Summary) -> list[str]:
    return [
        f"In the pool of centre {pool.centre} the baseline segments the shifted patches no worse (Dice "
        f"{pool.dice_shifted:.3f}) than the others ({pool.dice_home:.3f}): what is called shifted there is not what it "
        "has to learn, and a strategy gains nothing by finding it."
        for pool in summary.pool
        if pool.dice_shifted is not None and pool.dice_home is not None and pool.dice_shifted >= pool.dice_home
    ]


def _gains(summary: Summary) -> list[str]:
    baseline = summary.point(None, 0)
    if baseline is None or baseline.dice.value is None:
        return []
    said = []
    keys = dict.fromkeys((point.rarity, point.budget) for point in summary.points if point.strategy is not None)
    for rarity, budget in keys:
        all_points = [point for point in summary.points if (point.rarity, point.budget) == (rarity, budget)]
        points = [point for point in all_points if not isinstance(point.strategy, Oracle)]
        if not points:
            continue
        best = max(points, key=lambda point: point.dice.value or 0.0)
        bar = next((point for point in points if point.strategy is summary.compare_with), None)
        shown = bar or best
        sentence = (
            f"{_where(rarity)}{budget} corrected patches {summary.per} take the mean Dice of {summary.label} from "
            f"{told(baseline.dice)} to {told(shown.dice)} with {shown.strategy}, {_gain(shown, summary)}"
        )
        choice = f"the best of {len(points)} strategies, chosen on these slides"
        if best is not shown:
            sentence += f"; {choice}, is {best.strategy} with {told(best.dice)}, {_gain(best, summary)}"
        elif len(points) > 1:
            sentence += f"; it is {choice}"
        said.append(f"{sentence}.")
        said += [_of_oracle(point, summary) for point in all_points if isinstance(point.strategy, Oracle)]
    return said


def _of_oracle(point: Point, summary: Summary) -> str:
    return (
        f"{_where(point.rarity)}{point.budget} patches {summary.per} chosen by the reference itself, where the largest "
        f"area is wrong, come to {told(point.dice)}, {_gain(point, summary)}; no clinic can choose so."
    )


def _gain(point: Point, summary: Summary) -> str:
    return f"a gain of {told(point.gain, signed=True)}{counted(len(point.seeds), summary)}"


def _comparisons(summary: Summary) -> list[str]:
    said = _compared(summary, [(each, each.dice) for each in summary.differences if each.dice.value is not None])
    if _dice_is_lightly_gained(summary):
        correlations = [
            (each, each.matthews)
            for each in summary.differences
            if each.matthews is not None and each.matthews.value is not None
        ]
        said += _compared(summary, correlations, by=" by Matthews' correlation")
    return said


def _compared(summary: Summary, differences: Sequence[tuple[Difference, Estimate]], by: str = "") -> list[str]:
    said: dict[str, list[float | None]] = {}  # of pools of which rarities the same is to say
    for rarity, budget in dict.fromkeys((each.rarity, each.budget) for each, _ in differences):
        own = [(each, gain) for each, gain in differences if (each.rarity, each.budget) == (rarity, budget)]
        told_apart = [(each, gain.value or 0.0) for each, gain in own if gain.excludes_zero]
        above = [each for each, gain in told_apart if gain > 0]
        below = [each for each, gain in told_apart if gain < 0]
        same = [each for each, _ in own if each.identical]
        level = [each for each, gain in own if not gain.excludes_zero and not each.identical]
        what = "In area under the curve" if budget is None else f"At {budget} patches {summary.per}{by}"
        parts = [
            f"{_names(group, summary)} {'is' if len(group) == 1 else 'are'} {how}"
            for group, how in (
                (above, f"above {summary.compare_with}, and the interval excludes zero"),
                (below, f"below {summary.compare_with}, and the interval excludes zero"),
                (level, f"not told apart from {summary.compare_with}"),
                (same, f"identical with {summary.compare_with}"),
            )
            if group
        ]
        said.setdefault(f"{what}, {'; '.join(parts)}.", []).append(rarity)
    return [f"{_where(*rarities)}{sentence}" for sentence, rarities in said.items()]


def _uncertainty(summary: Summary) -> list[str]:
    said = []
    if summary.home_is_least_uncertain is not None:
        home = ", ".join(summary.home_centres)
        is_or_not = "is" if summary.home_is_least_uncertain else "is not"
        said.append(f"The mean patch score {is_or_not} lowest at home (centre {home}).")
    main = next((each for each in summary.scores if each.score == "score_mean"), None)
    if main is not None and main.spearman.value is not None:
        reaches = "reaches" if main.spearman.value >= _ENOUGH_SPEARMAN else "does not reach"
        said.append(
            "Spearman's correlation of the patch score with 1 - Dice of the baseline, over the patches of the pool, is "
            f"{told(main.spearman, signed=True)}; it {reaches} {_ENOUGH_SPEARMAN:g}."
        )
    return said


def _names(group: Sequence[Difference], summary: Summary) -> str:
    return _listed(
        f"{each.strategy} ({more.removeprefix(', ')})" if (more := counted(each.seeds, summary)) else str(each.strategy)
        for each in group
    )


def _where(*rarities: float | None) -> str:
    shares = [f"{100 * rarity:g}" for rarity in rarities if rarity is not None]
    return f"With {_listed(shares)} % of the pool shifted: " if shares else ""


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
