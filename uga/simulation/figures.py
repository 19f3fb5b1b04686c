"""Figures of an experiment: the paper's Fig. 3 and Fig. 4 a, b, c, differences with intervals, gain over rarity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from uga.simulation.oracle import Choosing
    from uga.simulation.pool import PoolPatch
    from uga.simulation.summary import Estimate, Point, Summary

_T = TypeVar("_T")

FIGURES_FOLDER = "figures"
CAPTIONS = {
    "fig3-uncertainty-and-dice": "As the paper's Fig. 3: patch scores of the query pools by centre, beside the Dice of "
    "the baseline.",
    "fig4a-dice-by-budget": "As the paper's Fig. 4a: Dice on the test slides over corrected patches, with intervals.",
    "fig4b-by-centre": "As the paper's Fig. 4b: the same at each centre.",
    "fig4c-by-class": "As the paper's Fig. 4c: the same by lesion class; on negative slides the area wrongly called.",
    "differences": "Each strategy less the one it is compared with, paired; filled where the interval excludes zero.",
    "gain-by-rarity": "Gain over the strategy that all are compared with, by how rare shifted patches are in the pool.",
}
"""What each figure shows, by its file's stem."""

_FORMATS = ("png", "svg")
_DPI = 120
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c564b",
    "#7f7f00",
    "#5d3a9b",
    "#444444",
)
_GREY = "#888888"
_PANEL = (3.4, 2.9)


def draw_figures(folder: Path, summary: Summary, patches: Sequence[PoolPatch]) -> list[Path]:
    """Write every figure that there is something for, as PNG and SVG; older ones go.

    Args:
        folder: Gets the files.
        summary: The figures.
        patches: Of the query pool, without excluded ones.

    Returns:
        The PNG files.
    """
    drawn = {"fig3-uncertainty-and-dice": _scores_by_centre(summary, patches)}
    if len(summary.points) > 1:
        drawn["fig4a-dice-by-budget"] = _by_budget(summary)
        if len(_rarities(summary)) == 1:  # several would need a panel each: the tables have them
            drawn["fig4b-by-centre"] = _by_centre(summary)
            if by_class := _by_class(summary):
                drawn["fig4c-by-class"] = by_class
    if summary.differences:
        drawn["differences"] = _differences(summary)
    if len(summary.rarities) > 1 and summary.differences:
        drawn["gain-by-rarity"] = _by_rarity(summary)
    for old in (folder / f"{name}.{kind}" for name in CAPTIONS.keys() - drawn.keys() for kind in _FORMATS):
        old.unlink(missing_ok=True)
    paths = []
    for name, make in drawn.items():
        with mpl.rc_context():
            _set_style()
            figure = make()
            for kind in _FORMATS:
                write_atomic(folder / f"{name}.{kind}", lambda path, f=figure, k=kind: _save(f, path, k))  # type: ignore[misc]
        paths.append(folder / f"{name}.png")
    return paths


def _set_style() -> None:
    mpl.rcdefaults()  # other users of the library leave their letter sizes behind
    mpl.rc("font", size=9)
    mpl.rc("axes", grid=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", alpha=0.3)
    mpl.rc("svg", hashsalt="uga", fonttype="none")


def _save(figure: Figure, path: Path, kind: str) -> None:
    figure.savefig(path, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else {"Software": None})


def _scores_by_centre(summary: Summary, patches: Sequence[PoolPatch]) -> Callable[[], Figure]:
    def make() -> Figure:
        figure = Figure(figsize=(1.6 + 1.1 * len(summary.pool), 3.6), layout="constrained")
        axes = figure.subplots()
        names = [pool.centre for pool in summary.pool]
        scores = [[p.candidate.score_mean for p in patches if p.candidate.centre == name] for name in names]
        places = np.arange(len(names))
        axes.boxplot(scores, positions=places, widths=0.5, showfliers=False, medianprops={"color": _COLOURS[0]})
        rng = np.random.default_rng(0)
        for place, values in zip(places, scores, strict=True):
            across = place + rng.uniform(-0.18, 0.18, len(values))
            axes.plot(across, values, ".", color=_COLOURS[0], alpha=0.3, markersize=3)
        axes.set_xticks(places, [f"{name}\n(home)" if name in summary.home_centres else name for name in names])
        axes.set_xlabel("centre")
        axes.set_ylabel(f"patch score, mean uncertainty ({summary.unit})", color=_COLOURS[0])
        beside = axes.twinx()
        beside.spines["right"].set_visible(True)
        beside.grid(visible=False)
        dice = [math.nan if pool.dice is None else pool.dice for pool in summary.pool]
        beside.plot(places, dice, "D", color=_COLOURS[1])
        beside.set_ylim(0, 1.02)
        beside.set_ylabel(f"Dice of {summary.label}, pooled over the patches", color=_COLOURS[1])
        return figure

    return make


def _by_budget(summary: Summary) -> Callable[[], Figure]:
    def make() -> Figure:
        rarities = _rarities(summary)
        figure, panels = _panels(len(rarities), size=(5.2, 3.8) if len(rarities) == 1 else _PANEL)
        for axes, rarity in zip(panels, rarities, strict=True):
            _curves(axes, summary, rarity, lambda point: point.dice, intervals=True)
            axes.set_title(_share(rarity))
            axes.set_ylabel(f"Dice of {summary.label}, mean of centres")
        _legend(figure, panels[0])
        return figure

    return make


def _by_centre(summary: Summary) -> Callable[[], Figure]:
    def make() -> Figure:
        centres = sorted({centre for point in summary.points for centre in point.by_centre})
        rarity = _rarities(summary)[0]
        figure, panels = _panels(len(centres))
        _put_on_one_scale(panels)
        for axes, centre in zip(panels, centres, strict=True):
            _curves(axes, summary, rarity, lambda point, name=centre: point.by_centre.get(name))  # type: ignore[misc]
            title = f"centre {centre}" + (" (home)" if centre in summary.home_centres else "")
            axes.set_title("\n".join(filter(None, (title, _share(rarity)))))
            axes.set_ylabel(f"Dice of {summary.label}")
        _legend(figure, panels[0])
        return figure

    return make


def _by_class(summary: Summary) -> Callable[[], Figure] | None:
    classes = [name for name in summary.points[0].by_class if name != "unknown"]
    if not classes:
        return None

    def make() -> Figure:
        rarity = _rarities(summary)[0]
        figure, panels = _panels(len(classes))
        _put_on_one_scale([axes for axes, name in zip(panels, classes, strict=True) if name != "negative"])
        for axes, name in zip(panels, classes, strict=True):
            negative = name == "negative"
            _curves(
                axes,
                summary,
                rarity,
                (lambda point: point.false_positive_mm2)
                if negative
                else (lambda point, name=name: point.by_class.get(name)),  # type: ignore[misc]
            )
            axes.set_title("\n".join(filter(None, (name, _share(rarity)))))
            axes.set_ylabel(f"mm² a slide wrongly called {summary.label}" if negative else f"Dice of {summary.label}")
        _legend(figure, panels[0])
        return figure

    return make


def _differences(summary: Summary) -> Callable[[], Figure]:
    def make() -> Figure:
        areas = (None,) if any(each.budget is None for each in summary.differences) else ()
        columns = [(rarity, budget) for rarity in _rarities(summary) for budget in (*_budgets(summary), *areas)]
        strategies = [each for each in _strategies(summary) if each is not summary.compare_with]
        figure = Figure(figsize=(2.2 + 1.9 * len(columns), 1.2 + 0.32 * len(strategies)), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, (rarity, budget) in zip(panels, columns, strict=True):
            axes.axvline(0, color=_GREY, linewidth=1)
            for place, strategy in enumerate(strategies):
                found = next(
                    (d for d in summary.differences if (d.rarity, d.strategy, d.budget) == (rarity, strategy, budget)),
                    None,
                )
                if found is not None and found.dice.value is not None:
                    _bar(axes, found.dice, place, _colour(summary, strategy))
            title = "area" if budget is None else f"{budget} patches"
            axes.set_title(title if rarity is None else f"{100 * rarity:g} %, {title}")
            axes.set_yticks(range(len(strategies)), [str(each) for each in strategies])
            axes.set_ylim(len(strategies) - 0.5, -0.5)
        figure.supxlabel(f"Dice less that of {summary.compare_with} ({100 * summary.level:g} % interval)", fontsize=9)
        return figure

    return make


def _by_rarity(summary: Summary) -> Callable[[], Figure]:
    def make() -> Figure:
        budgets = _budgets(summary)
        figure, panels = _panels(len(budgets))
        strategies = [each for each in _strategies(summary) if each is not summary.compare_with]
        for axes, budget in zip(panels, budgets, strict=True):
            axes.axhline(0, color=_GREY, linewidth=1)
            for number, strategy in enumerate(strategies):
                found = {d.rarity: d.dice for d in summary.differences if (d.strategy, d.budget) == (strategy, budget)}
                known = [(pool.rarity, found[pool.rarity]) for pool in summary.rarities if pool.rarity in found]
                xs = [100 * rarity * 1.03 ** (number - len(strategies) / 2) for rarity, _ in known]
                _line(axes, xs, [dice for _, dice in known], str(strategy), _colour(summary, strategy), intervals=True)
            axes.set_xscale("log")
            axes.set_xticks([100 * pool.rarity for pool in summary.rarities])
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
            axes.set_title(f"{budget} patches")
            axes.set_xlabel("shifted patches of the pool (%)")
            axes.set_ylabel(f"Dice less that of {summary.compare_with}")
        _legend(figure, panels[0])
        return figure

    return make


def _curves(
    axes: Axes,
    summary: Summary,
    rarity: float | None,
    figure_of: Callable[[Point], Estimate | None],
    *,
    intervals: bool = False,
) -> None:
    """A line for each strategy from the baseline over the budgets."""
    baseline = summary.point(None, 0)
    strategies, budgets = _strategies(summary), _budgets(summary)
    for number, strategy in enumerate(strategies):
        points = [baseline, *(summary.point(strategy, budget, rarity) for budget in budgets)]
        estimates = [(point.budget, figure_of(point)) for point in points if point is not None]
        known = [(budget, each) for budget, each in estimates if each is not None and each.value is not None]
        dodge = (number - (len(strategies) - 1) / 2) * 0.015 * max(budgets) if intervals else 0.0
        xs = [budget + (dodge if budget else 0.0) for budget, _ in known]
        _line(
            axes,
            xs,
            [each for _, each in known],
            str(strategy),
            _colour(summary, strategy),
            intervals=intervals,
            heavy=strategy is summary.compare_with,
        )
    axes.set_xticks([0, *budgets])
    axes.set_xlabel(f"corrected patches {summary.per}")


def _line(
    axes: Axes,
    xs: Sequence[float],
    estimates: Sequence[Estimate],
    label: str,
    colour: str,
    *,
    intervals: bool = False,
    heavy: bool = False,
) -> None:
    values = [math.nan if each.value is None else each.value for each in estimates]
    axes.plot(
        xs,
        values,
        marker="o",
        markersize=3.5,
        color=colour,
        label=label,
        linewidth=2.2 if heavy else 1.2,
        linestyle="--" if heavy else "-",
    )
    if intervals:
        for x, each in zip(xs, estimates, strict=True):
            if each.low is not None and each.high is not None:
                axes.plot([x, x], [each.low, each.high], color=colour, alpha=0.45, linewidth=1)


def _bar(axes: Axes, estimate: Estimate, place: int, colour: str) -> None:
    filled = colour if estimate.excludes_zero else "white"
    value = math.nan if estimate.value is None else estimate.value
    axes.plot([value], [place], "o", color=colour, markerfacecolor=filled, markersize=5)
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.5)


def _panels(count: int, *, size: tuple[float, float] = _PANEL) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(size[0] * columns + 1.6, size[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels[:count]


def _put_on_one_scale(panels: Sequence[Axes]) -> None:
    """So that a small change at one centre does not look like a large one at another; call it before they are drawn."""
    for axes in panels[1:]:
        axes.sharey(panels[0])


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)


def _strategies(summary: Summary) -> list[Choosing]:
    return _in_order(point.strategy for point in summary.points)


def _budgets(summary: Summary) -> list[int]:
    return sorted({point.budget for point in summary.points if point.strategy is not None})


def _rarities(summary: Summary) -> list[float | None]:
    found = _in_order(point.rarity for point in summary.points if point.strategy is not None and point.rarity)
    return [*found] if found else [None]


def _share(rarity: float | None) -> str:
    return "" if rarity is None else f"{100 * rarity:g} % of the pool shifted"


def _in_order(values: Iterable[_T | None]) -> list[_T]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _colour(summary: Summary, strategy: Choosing) -> str:
    return _COLOURS[_strategies(summary).index(strategy) % len(_COLOURS)]
