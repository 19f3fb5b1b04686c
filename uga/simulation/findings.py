"""What an experiment showed, in sentences that follow from the figures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.simulation.tables import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.simulation.summary import Difference, Summary

_ENOUGH_SPEARMAN = 0.5
_FEW_SEEDS = 3


def findings(summary: Summary) -> list[str]:
    """Sentences, the most important first; nothing is said that no finished cell shows."""
    return _reservations(summary) + _gains(summary) + _comparisons(summary) + _uncertainty(summary)


def _reservations(summary: Summary) -> list[str]:
    said = []
    if summary.finished < summary.cells:
        said.append(f"Only {summary.finished} of {summary.cells} cells are finished; what follows is about those.")
    if summary.seeds < _FEW_SEEDS:
        said.append(
            f"{'One seed was' if summary.seeds == 1 else f'{summary.seeds} seeds were'} run, so the intervals say "
            f"{'nothing' if summary.seeds == 1 else 'little'} of how far a repetition may differ."
        )
    if summary.lone_patients:
        said.append(
            f"{summary.lone_patients} of {summary.test_patients} test patients have no other of their kind at their "
            "centre to be exchanged with, so the intervals are too narrow."
        )
    return said


def _gains(summary: Summary) -> list[str]:
    baseline = summary.point(None, 0)
    if baseline is None or baseline.dice.value is None:
        return []
    said = []
    keys = dict.fromkeys((point.rarity, point.budget) for point in summary.points if point.strategy is not None)
    for rarity, budget in keys:
        points = [
            point
            for point in summary.points
            if (point.rarity, point.budget) == (rarity, budget) and point.dice.value is not None
        ]
        best = max(points, key=lambda point: point.dice.value or 0.0)
        gain = (best.dice.value or 0.0) - baseline.dice.value
        said.append(
            f"{_where(rarity)}{budget} corrected patches {summary.per} take the mean Dice of {summary.label} from "
            f"{told(baseline.dice)} to at best {told(best.dice)} ({best.strategy}): {gain:+.3f}."
        )
    return said


def _comparisons(summary: Summary) -> list[str]:
    said = []
    for rarity, budget in dict.fromkeys((each.rarity, each.budget) for each in summary.differences):
        own = [each for each in summary.differences if (each.rarity, each.budget) == (rarity, budget)]
        above = [each for each in own if each.dice.excludes_zero and (each.dice.value or 0.0) > 0]
        below = [each for each in own if each.dice.excludes_zero and (each.dice.value or 0.0) < 0]
        level = [each for each in own if not each.dice.excludes_zero]
        what = "In area under the curve" if budget is None else f"At {budget} patches {summary.per}"
        parts = [
            f"{_names(group)} {'is' if len(group) == 1 else 'are'} {how}"
            for group, how in (
                (above, f"above {summary.compare_with}, and the interval excludes zero"),
                (below, f"below {summary.compare_with}, and the interval excludes zero"),
                (level, f"not told apart from {summary.compare_with}"),
            )
            if group
        ]
        said.append(f"{_where(rarity)}{what}, {'; '.join(parts)}.")
    return said


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


def _names(group: Sequence[Difference]) -> str:
    names = [str(each.strategy) for each in group]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _where(rarity: float | None) -> str:
    return "" if rarity is None else f"With {100 * rarity:g} % of the pool shifted: "
