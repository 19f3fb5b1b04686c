"""The summary of an experiment as Markdown tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from uga.simulation.summary import Area, Choice, Difference, Errors, Estimate, Point, Summary


def markdown(summary: Summary) -> dict[str, str]:
    """Every table there is something for, by its title."""
    tables = {
        f"Dice of {summary.label}": _dice(summary),
        "Gain over the baseline": _gains(summary),
        "By centre": _by(summary, lambda point: point.by_centre),
        "By lesion class": _by_class(summary),
        f"Differences from {summary.compare_with}": _differences(summary, lambda each: each.dice),
        f"Differences from {summary.compare_with} in Matthews' correlation": _differences(
            summary, lambda each: each.matthews
        ),
        "Area under the label-efficiency curve": _areas(summary),
        "What is found and what is right": _found(summary),
        "Other conventions of Dice": _conventions(summary),
        "What was corrected": _choices(summary),
        "Query pools by the baseline": _pool(summary),
        "Scores against errors": _scores(summary),
        "Pools by rarity": _rarities(summary),
    }
    return {title: table for title, table in tables.items() if table}


def told(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Such as ``0.812 (0.790 to 0.831)``; a star marks a caution."""
    if estimate is None or estimate.value is None:
        return ""
    form = "+.3f" if signed else ".3f"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    star = "*" if estimate.caution else ""
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}}{star})"


def counted(seeds: int, summary: Summary) -> str:
    """How many seeds something is of, where others have more: cells that are not finished."""
    return "" if seeds == summary.seeds else f", {seeds} of {summary.seeds} seeds"


def named(point: Point | Difference | Area | Choice) -> str:
    """The strategy of a row, with the rarity of its pool."""
    name = "baseline" if point.strategy is None else str(point.strategy)
    return name if point.rarity is None else f"{name}, {100 * point.rarity:g} % shifted"


def _dice(summary: Summary) -> str:
    budgets = sorted({point.budget for point in summary.points})
    names = list(dict.fromkeys(named(point) for point in summary.points))
    found = {(named(point), point.budget): _cell(point.dice) + _of_seeds(point, summary) for point in summary.points}
    rows = [[name, *(found.get((name, budget), "") for budget in budgets)] for name in names]
    return _table(["strategy", *(f"{budget} patches" for budget in budgets)], rows)


def _gains(summary: Summary) -> str:
    points = [point for point in summary.points if point.gain is not None]
    budgets = sorted({point.budget for point in points})
    names = list(dict.fromkeys(named(point) for point in points))
    found = {(named(each), each.budget): _bold(each.gain, _of_seeds(each, summary)) for each in points}
    rows = [[name, *(found.get((name, budget), "") for budget in budgets)] for name in names]
    return _table(["strategy", *(f"{budget} patches" for budget in budgets)], rows)


def _of_seeds(point: Point, summary: Summary) -> str:
    return "" if point.strategy is None else counted(len(point.seeds), summary)


def _by(summary: Summary, part: Callable[[Point], dict[str, Estimate]]) -> str:
    groups = list(dict.fromkeys(group for point in summary.points for group in part(point)))
    if not groups or groups == ["unknown"]:
        return ""
    rows = [
        [named(point), str(point.budget), *(_cell(part(point).get(group)) for group in groups)]
        for point in summary.points
    ]
    return _table(["strategy", "patches", *groups], rows)


def _by_class(summary: Summary) -> str:
    table = _by(summary, lambda point: {k: v for k, v in point.by_class.items() if k not in ("negative", "unknown")})
    if not table or not any("negative" in point.by_class for point in summary.points):
        return table
    head, rule, *rows = table.splitlines()
    lines = [f"{head} negative, mm² false a slide |", f"{rule}---|"]
    lines += [f"{row} {_cell(point.false_positive_mm2)} |" for row, point in zip(rows, summary.points, strict=True)]
    return "\n".join(lines)


def _differences(summary: Summary, figure: Callable[[Difference], Estimate | None]) -> str:
    shown = [
        (each, estimate)
        for each in summary.differences
        if (estimate := figure(each)) is not None and estimate.value is not None
    ]
    budgets = list(dict.fromkeys(each.budget for each, _ in shown))
    names = list(dict.fromkeys(named(each) for each, _ in shown))
    found = {(named(each), each.budget): _difference(each, estimate, summary) for each, estimate in shown}
    rows = [[name, *(found.get((name, budget), "") for budget in budgets)] for name in names]
    return _table(["strategy", *("area" if each is None else f"{each} patches" for each in budgets)], rows)


def _difference(difference: Difference, estimate: Estimate, summary: Summary) -> str:
    seeds = counted(difference.seeds, summary)
    return f"identical{seeds}" if difference.identical else _bold(estimate, seeds)


def _bold(estimate: Estimate | None, more: str) -> str:
    """An estimate that may be either side of zero, with what else is to say; bold if it is not."""
    text = _cell(estimate, signed=True) + more
    return f"**{text}**" if estimate is not None and estimate.excludes_zero else text


def _cell(estimate: Estimate | None, *, signed: bool = False) -> str:
    """As it is told, its star not to be taken for emphasis."""
    return told(estimate, signed=signed).replace("*", r"\*")


def _areas(summary: Summary) -> str:
    rows = ([named(each), _cell(each.dice) + counted(each.seeds, summary)] for each in summary.areas)
    return _table(["strategy", "area"], rows)


def _found(summary: Summary) -> str:
    rows = [
        [
            named(point),
            str(point.budget),
            *(_cell(each) for each in (point.dice, point.sensitivity, point.precision, point.matthews)),
        ]
        for point in summary.points
    ]
    if rows and summary.dice_if_all is not None:
        rows.insert(0, [f"all called {summary.label}", "", f"{summary.dice_if_all:.3f}", "1.000", "", "0.000"])
    return _table(["strategy", "patches", "Dice", "sensitivity", "precision", "Matthews' correlation"], rows)


def _conventions(summary: Summary) -> str:
    rows = [
        [
            named(point),
            str(point.budget),
            _cell(point.dice),
            _cell(point.dice_pooled),
            _cell(point.dice_slides),
            _cell(point.dice_slides_empty_one),
        ]
        for point in summary.points
    ]
    head = ["strategy", "patches", "mean of centres", "pooled", "mean of slides with it", "mean of slides, empty = 1"]
    return _table(head, rows)


def _choices(summary: Summary) -> str:
    rows = [
        [
            named(each),
            str(each.budget),
            f"{each.patches:.0f}",
            f"{100 * each.holds_label:.0f} %",
            f"{100 * each.shifted:.0f} %",
            f"{each.slides:.1f}",
            f"{each.baseline_dice:.3f}",
            *_errors(each.errors),
            str(each.guard_refused),
            str(each.short),
        ]
        for each in summary.choices
    ]
    head = [
        "strategy",
        f"patches {summary.per}",
        "patches",
        f"hold {summary.label}",
        "shifted",
        "slides",
        "their Dice by the baseline",
        *_ERRORS,
        "refused by the guard",
        "cells short of patches",
    ]
    return _table(head, rows)


def _pool(summary: Summary) -> str:
    rows = [
        [
            f"{pool.centre} (home)" if pool.centre in summary.home_centres else pool.centre,
            str(pool.slides),
            str(pool.patches),
            str(pool.holds_label),
            str(pool.shifted),
            *(
                "" if dice is None else f"{dice:.3f}"
                for dice in (pool.dice, pool.dice_if_all, pool.dice_shifted, pool.dice_home)
            ),
            *_errors(pool.errors),
            f"{pool.score_mean:.4f}",
        ]
        for pool in summary.pool
    ]
    head = ["centre", "slides", "patches", f"hold {summary.label}", "shifted"]
    head += ["Dice", f"Dice if all were {summary.label}", "Dice of shifted", "of the others"]
    head += [*_ERRORS, "mean patch score"]
    return _table(head, rows)


_ERRORS = ("of their area missed", "wrongly called")


def _errors(errors: Errors) -> list[str]:
    return [f"{100 * share:.1f} %" for share in (errors.missed, errors.wrongly_called)]


def _scores(summary: Summary) -> str:
    rows = [
        [
            each.score,
            _cell(each.spearman, signed=True),
            _cell(each.spearman_with_label, signed=True),
            _cell(each.auroc_shifted),
        ]
        for each in summary.scores
    ]
    labelled = f"patches that hold {summary.label} or are said to"
    return _table(["score", "Spearman with 1 - Dice, all patches", labelled, "AUROC of shifted"], rows)


def _rarities(summary: Summary) -> str:
    rows = [[f"{100 * pool.rarity:g} %", f"{pool.patches:.0f}", f"{pool.shifted:.0f}"] for pool in summary.rarities]
    return _table(["asked for", "patches", "shifted"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines])
