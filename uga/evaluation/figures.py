"""The figures of an evaluation, as PNG for documents and SVG for the page and for print."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from uga.evaluation import uncertainty as certainty
from uga.evaluation.groups import scale_of_map
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from uga.evaluation.records import Evaluation, GroupRecord
    from uga.evaluation.slides import SlideEvaluation

FIGURES_FOLDER = "figures"
_FORMATS = ("png", "svg")
_DPI = 150
_WIDTH = 9.0
# Okabe & Ito 2008, as in uga.output.colours; black is kept for all centres together.
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a900")
_MOST_VECTOR_POINTS = 2000
_BARS = 24
_RARE = 1e-4
_LEGEND_LETTERS = 80
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.8,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 8.5,
    "svg.hashsalt": "uga",
    "text.parse_math": False,  # centres may be named anything
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure that was written: its name without an ending, what it shows, and for which label (None: all)."""

    name: str
    caption: str
    label: str | None


def draw_figures(folder: Path, evaluation: Evaluation, slides: Sequence[SlideEvaluation]) -> list[Drawn]:
    """Write every figure as PNG and SVG into ``figures`` below ``folder``.

    Args:
        folder: Of the evaluation.
        evaluation: What the slides say together.
        slides: The slides.

    Returns:
        The figures, in reading order.
    """
    drawn = []
    with mpl.rc_context():
        mpl.rcdefaults()  # other users of the library leave their letter sizes behind
        mpl.rcParams.update(_STYLE)
        for label in evaluation.labels[1:]:
            suffix = re.sub(r"[^0-9A-Za-z-]+", "-", label)
            for name, caption, figure in (
                ("centres", _CENTRES_CAPTION, _centres(evaluation, slides, label)),
                ("dice", _DICE_CAPTION, _dice(evaluation, slides, label)),
                ("patches", _PATCHES_CAPTION, _patches(evaluation, slides, label)),
            ):
                drawn.append(Drawn(f"{name}-{suffix}", caption, label))
                _write(folder, drawn[-1].name, figure)
        for name, caption, figure in (
            ("reliability", _RELIABILITY_CAPTION, _reliability(evaluation, slides)),
            ("risk-coverage", _RISK_CAPTION, _risk_coverage(evaluation, slides)),
        ):
            drawn.append(Drawn(name, caption, None))
            _write(folder, name, figure)
    return drawn


def figure_file(folder: Path, name: str, ending: str) -> Path:
    """Where a figure lies below the folder of its evaluation."""
    return folder / FIGURES_FOLDER / f"{name}.{ending}"


def _write(folder: Path, name: str, figure: Figure) -> None:
    for ending in _FORMATS:
        metadata: dict[str, Any] = {"Software": None} if ending == "png" else {"Date": None, "Creator": None}

        def save(path: Path, ending: str = ending, metadata: dict[str, Any] = metadata) -> None:
            figure.savefig(path, format=ending, dpi=_DPI, metadata=metadata)

        write_atomic(figure_file(folder, name, ending), save)


_CENTRES_CAPTION = (
    "Patch scores of each centre beside their Dice (the paper's figure 3). Boxes: quartiles of the ranked patches, a "
    "dot each. Diamonds: Dice pooled over the pixels of all slides, with its confidence interval."
)


def _centres(evaluation: Evaluation, slides: Sequence[SlideEvaluation], label: str) -> Figure:
    centres, empty = evaluation.centres, evaluation.settings.empty
    scores: dict[str, list[float]] = defaultdict(list)
    dices: dict[str, list[float]] = defaultdict(list)
    for one in slides:
        for patch in one.ranked_patches:
            scores[one.case.centre].append(patch.candidate.score_mean)
            value = patch.labels[label].dice_by(empty) if patch.judged_px else None
            dices[one.case.centre] += [] if value is None else [value]
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, values in ((left, scores), (right, dices)):
        _boxes(axes, [values[centre] for centre in centres])
        _name(axes, centres)
        axes.set_xlabel("centre")
    records = [evaluation.group(label, centre) for centre in centres]
    _intervals(right, records, "dice")
    left.set(title="Patch scores", ylabel=f"mean uncertainty of a patch{_unit(evaluation)}")
    left.set_ylim(bottom=0)
    right.set(title=f"Dice of {label}", ylabel="Dice", ylim=(-0.03, 1.03))
    return figure


_DICE_CAPTION = (
    "Dice by centre and by lesion class, pooled over the pixels of all slides, with confidence intervals; grey dots "
    "are single slides. Right: what is wrongly found on negative slides, where Dice says little."
)


def _dice(evaluation: Evaluation, slides: Sequence[SlideEvaluation], label: str) -> Figure:
    centres, lesions = evaluation.centres, evaluation.lesions
    shown = [lesion for lesion in lesions if lesion != "negative"]
    panels = [len(centres)] + ([len(shown)] if shown else []) + ([len(centres)] if "negative" in lesions else [])
    figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
    axes = list(figure.subplots(1, len(panels), squeeze=False, width_ratios=[max(2, n) for n in panels])[0])
    by_centre = axes.pop(0)
    _slide_dots(by_centre, evaluation, label, [[s for s in slides if s.case.centre == c] for c in centres])
    _intervals(by_centre, [evaluation.group(label, centre) for centre in centres], "dice")
    _name(by_centre, centres)
    by_centre.set(title=f"Dice of {label} by centre", xlabel="centre", ylabel="Dice", ylim=(-0.03, 1.03))
    if shown:
        by_class = axes.pop(0)
        _slide_dots(by_class, evaluation, label, [[s for s in slides if s.case.lesion == c] for c in shown])
        _intervals(by_class, [evaluation.group(label, None, lesion) for lesion in shown], "dice")
        _name(by_class, shown)
        by_class.set(title="by lesion class", ylim=(-0.03, 1.03))
    if axes:
        negatives = [evaluation.group(label, centre, "negative") for centre in centres]
        _intervals(axes[0], negatives, "false_positive_share", colour="#a33b00")
        _name(axes[0], centres)
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        axes[0].set(title="False positives, negative slides", xlabel="centre", ylabel="share of tissue")
        axes[0].set_ylim(bottom=0)
    return figure


_PATCHES_CAPTION = (
    "Score of each ranked patch against what its Dice falls short of 1. The method needs the two to rise together: "
    "patches that are wrong should come first. Top left: wrong, and hardly noticed. Bottom right: uncertain, though "
    "right."
)


def _patches(evaluation: Evaluation, slides: Sequence[SlideEvaluation], label: str) -> Figure:
    empty = evaluation.settings.empty
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in slides:
        for patch in one.ranked_patches:
            dice = patch.labels[label].dice_by(empty) if patch.judged_px else None
            if dice is not None:
                points[one.case.centre].append((patch.candidate.score_mean, 1 - dice))
    figure = Figure(figsize=(_WIDTH * 0.62, 4.2), layout="constrained")
    axes = figure.subplots()
    crowded = sum(map(len, points.values())) > _MOST_VECTOR_POINTS
    for centre, colour in _colours(evaluation).items():
        if points[centre]:
            x, y = np.transpose(points[centre])
            axes.scatter(x, y, s=12, color=colour, alpha=0.7, linewidth=0, label=centre, rasterized=crowded)
    whole = evaluation.group(label)
    assert whole is not None  # noqa: S101 - there is a group over all slides
    found = "none" if whole.patch_spearman is None else f"{whole.patch_spearman:.2f}"
    axes.set(
        title=f"Spearman {found}{_bracketed(whole, 'patch_spearman')}, {whole.patches_with_dice} patches",
        xlabel=f"mean uncertainty of the patch{_unit(evaluation)}",
        ylabel=f"1 - Dice of {label}",
        ylim=(-0.03, 1.03),
    )
    axes.set_xlim(left=0)
    _legend(figure, axes)
    return figure


_RELIABILITY_CAPTION = (
    "Error rate of pixels by their uncertainty. The dashed line is the error rate of a calibrated ensemble that is so "
    "uncertain; above it the ensemble is too sure. Below: share of the pixels."
)


def _reliability(evaluation: Evaluation, slides: Sequence[SlideEvaluation]) -> Figure:
    figure = Figure(figsize=(_WIDTH * 0.62, 4.6), layout="constrained")
    rates, shares = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    by_centre = _histograms(slides)
    whole = np.sum(list(by_centre.values()), axis=0)
    top = int(np.flatnonzero(whole.sum(0)).max(initial=0)) + 1
    width = max(1, -(-top // _BARS))
    step = evaluation.uncertainty.full_scale / (certainty.GREY_LEVELS - 1)
    shown = 0.0
    for centre, colour in _colours(evaluation).items():
        x, rate, _ = _binned(by_centre[centre], width)
        shown = max(shown, float(x.max(initial=0)))
        rates.plot(x * step, rate, color=colour, marker="o", markersize=3, linewidth=1, label=centre)
    x, rate, share = _binned(whole, width)
    rates.plot(x * step, rate, color="black", linewidth=2, label="all")
    expected = scale_of_map(slides[0]).expected_error[:top]
    if not np.isnan(expected).any():
        rates.plot(np.arange(top) * step, expected, color="#5b6675", linestyle="--", label="calibrated")
    shares.bar(x * step, share, width=width * step * 0.9, color="#8a94a3")
    shares.set_xlim(0, (shown + width / 2) * step)
    rates.set(title="Error rate by uncertainty", ylabel="share of wrong pixels")
    rates.yaxis.set_major_formatter(PercentFormatter(1.0))
    rates.set_ylim(bottom=0)
    _legend(figure, rates)
    shares.set(xlabel=f"uncertainty of a pixel{_unit(evaluation)}", ylabel="share of pixels")
    shares.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


_RISK_CAPTION = (
    "Error rate of the most certain pixels, for every share of pixels that is kept. The lower the curve, the better "
    "the uncertainty finds errors. Dotted: the best possible order of all pixels; dashed: an uncertainty that knows "
    "nothing."
)


def _risk_coverage(evaluation: Evaluation, slides: Sequence[SlideEvaluation]) -> Figure:
    figure = Figure(figsize=(_WIDTH * 0.62, 4.0), layout="constrained")
    axes = figure.subplots()
    by_centre = _histograms(slides)
    for centre, colour in _colours(evaluation).items():
        axes.plot(*certainty.risk_coverage(by_centre[centre]), color=colour, linewidth=1.2, label=centre)
    whole = np.sum(list(by_centre.values()), axis=0)
    axes.plot(*certainty.risk_coverage(whole), color="black", linewidth=2, label="all")
    rate = float(certainty.error_rate(whole))
    coverage = np.linspace(0, 1, 201)[1:]
    axes.axhline(rate, color="#5b6675", linestyle="--", linewidth=1)
    axes.plot(coverage, np.maximum(0, 1 - (1 - rate) / coverage), color="#5b6675", linestyle=":", linewidth=1)
    axes.set(title="Risk and coverage", xlabel="share of pixels kept, most certain first", ylabel="error rate of those")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _histograms(slides: Sequence[SlideEvaluation]) -> dict[str, NDArray[np.int64]]:
    """Right and wrong pixels by grey value, for each centre."""
    found: dict[str, NDArray[np.int64]] = {}
    for one in slides:
        found[one.case.centre] = found.get(one.case.centre, np.zeros_like(one.errors)) + one.errors
    return found


def _binned(h: NDArray[np.int64], width: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Middle (grey values), error rate and share of pixels of bins of ``width`` grey values; rare ones are left out."""
    starts = np.arange(0, certainty.GREY_LEVELS, width)
    right, wrong = np.add.reduceat(h, starts, axis=1)
    pixels = right + wrong
    there = pixels > _RARE * pixels.sum()
    return (starts + width / 2)[there], wrong[there] / pixels[there], pixels[there] / max(1, pixels.sum())


def _boxes(axes: Axes, groups: Sequence[Sequence[float]]) -> None:
    for place, values in enumerate(groups):
        if values:
            axes.boxplot(
                [values],
                positions=[place],
                widths=0.55,
                showfliers=False,
                manage_ticks=False,
                medianprops={"color": "black"},
                boxprops={"color": "#5b6675"},
                whiskerprops={"color": "#5b6675"},
                capprops={"color": "#5b6675"},
            )
            _dots(axes, place, values, _PALETTE[place % len(_PALETTE)])


def _dots(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    """A dot for each value, spread sideways so that equal ones show; the same picture every time."""
    sideways = np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
    crowded = len(values) > _MOST_VECTOR_POINTS
    axes.scatter(place + sideways, values, s=9, color=colour, alpha=0.55, linewidth=0, zorder=3, rasterized=crowded)


def _slide_dots(axes: Axes, evaluation: Evaluation, label: str, groups: Sequence[Sequence[SlideEvaluation]]) -> None:
    for place, members in enumerate(groups):
        values = [one.labels[label].dice_by(evaluation.settings.empty) for one in members]
        _dots(axes, place, [value for value in values if value is not None], "#8a94a3")


def _intervals(axes: Axes, records: Sequence[GroupRecord | None], figure: str, *, colour: str = "black") -> None:
    """A diamond for each record's figure, with its interval; nothing where there is none."""
    for place, record in enumerate(records):
        value = None if record is None else getattr(record, figure)
        if record is None or value is None:
            continue
        interval = record.intervals[figure]
        if interval.low is not None and interval.high is not None:
            axes.vlines(place, interval.low, interval.high, color=colour, linewidth=1.6, zorder=4)
        axes.plot([place], [value], marker="D", markersize=6, color=colour, linestyle="", zorder=5)


def _legend(figure: Figure, axes: Axes) -> None:
    """What is drawn in ``axes``, named below; nothing if nothing is."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = max(1, min(len(labels), _LEGEND_LETTERS // (max(map(len, labels)) + 7)))
        figure.legend(handles, labels, title="centre", loc="outside lower center", ncols=columns)


def _name(axes: Axes, names: Sequence[str]) -> None:
    long = sum(map(len, names)) > 30
    axes.set_xticks(range(len(names)), names, rotation=35 if long else 0, ha="right" if long else "center")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="x")


def _colours(evaluation: Evaluation) -> Mapping[str, str]:
    return {centre: _PALETTE[index % len(_PALETTE)] for index, centre in enumerate(evaluation.centres)}


def _unit(evaluation: Evaluation) -> str:
    return "" if evaluation.uncertainty.unit == "1" else f" ({evaluation.uncertainty.unit})"


def _bracketed(record: GroupRecord, figure: str) -> str:
    interval = record.intervals.get(figure)
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f" [{interval.low:.2f}, {interval.high:.2f}]"
