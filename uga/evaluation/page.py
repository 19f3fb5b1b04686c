"""``evaluation.html``: one page without any outside request that shows what agrees, where, and how sure that is."""

from __future__ import annotations

import base64
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2

from uga.evaluation.agreement import Empty
from uga.evaluation.bootstrap import fewest_patients
from uga.evaluation.figures import figure_file
from uga.evaluation.tables import interval_text, number
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.evaluation.figures import Drawn
    from uga.evaluation.records import Evaluation, GroupRecord, UncertaintyGroup
    from uga.evaluation.slides import PatchEvaluation, SlideEvaluation

PAGE_FILE = "evaluation.html"

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_PATCHES = 10
_EMPTY = {
    Empty.EXCLUDE: "Where a label is neither in the reference nor predicted there is no Dice, and it enters no mean.",
    Empty.ONE: "Where a label is neither in the reference nor predicted, Dice is 1.",
    Empty.SMOOTHED: "Dice is (2 TP + 1) / (2 TP + FP + FN + 1), as in the authors' code: 1 where a label is neither in "
    "the reference nor predicted.",
}


class Shown(NamedTuple):
    """A figure for people: the value, and its interval or why there is none."""

    value: str
    interval: str


def write_page(folder: Path, evaluation: Evaluation, slides: Sequence[SlideEvaluation], drawn: Sequence[Drawn]) -> Path:
    """Write the page into ``folder``, where the figures already are; returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    labels = evaluation.labels[1:]
    page = environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        settings=evaluation.settings,
        fewest_patients=fewest_patients(evaluation.settings.level),
        level=f"{100 * evaluation.settings.level:g} %",
        empty_sentence=_EMPTY[evaluation.settings.empty],
        slide_count=len(slides),
        patients=len({one.case.patient for one in slides}),
        labels=labels,
        tiles={label: _tiles(evaluation, label) for label in labels},
        rows={label: _rows(evaluation, label) for label in labels},
        negatives={label: _negatives(evaluation, label) for label in labels},
        score_rows={label: _score_rows(evaluation, label) for label in labels},
        uncertainty_rows=_uncertainty_rows(evaluation),
        figures={label: _figures(folder, drawn, label) for label in (*labels, None)},
        slides=sorted(slides, key=lambda one: (one.case.centre, one.case.slide.name)),
        unnoticed=_unnoticed(slides),
        number=number,
    )
    path = folder / PAGE_FILE
    write_atomic(path, page.encode())
    return path


def _figures(folder: Path, drawn: Sequence[Drawn], label: str | None) -> dict[str, dict[str, str]]:
    """The figures of a label by the first word of their name, as ``data:`` addresses with their captions."""
    found = {}
    for each in drawn:
        if each.label == label:
            content = base64.b64encode(figure_file(folder, each.name, "svg").read_bytes()).decode()
            name = each.name if label is None else each.name.split("-", maxsplit=1)[0]
            found[name] = {"uri": f"data:image/svg+xml;base64,{content}", "caption": each.caption}
    return found


def _shown(record: GroupRecord | UncertaintyGroup, figure: str, digits: int = 3, factor: float = 1) -> Shown:
    value: float | None = getattr(record, figure)
    return Shown(
        number(None if value is None else factor * value, digits),
        interval_text(record, figure, digits, factor=factor),
    )


def _tiles(evaluation: Evaluation, label: str) -> list[tuple[str, Shown, str]]:
    """The figures one reads first: name, figure, what it means."""
    whole, uncertainty = evaluation.group(label), evaluation.uncertainty_group()
    assert whole is not None and uncertainty is not None  # noqa: S101, PT018 - there are groups over all slides
    tiles = [
        (f"Dice of {label}", _shown(whole, "dice"), "all pixels pooled"),
        ("Mean Dice", _shown(whole, "dice_mean"), f"of {whole.slides_with_dice} slides"),
        ("Surface Dice", _shown(whole, "nsd_mean"), f"within {evaluation.settings.tolerance_um or 0:g} µm"),
        ("Scores and errors", _shown(whole, "patch_spearman", 2), "Spearman of patch score with 1 - Dice"),
        ("Errors found", _shown(uncertainty, "error_auroc"), "AUROC of wrong pixels by uncertainty"),
    ]
    if (negative := evaluation.group(label, None, "negative")) is not None:
        shown = _shown(negative, "false_positive_share", 2, 100)
        tiles.append(("False positives", Shown(f"{shown.value} %", shown.interval), "of the tissue of negative slides"))
    return [tile for tile in tiles if tile[1].value]


def _rows(evaluation: Evaluation, label: str) -> list[dict[str, Any]]:
    """A row for all slides, each centre, each lesion class and each class at each centre."""
    return [
        {
            "record": record,
            "total": record.centre is None and record.lesion is None,
            "figures": [
                _shown(record, "dice"),
                _shown(record, "dice_mean"),
                _shown(record, "patch_dice_mean"),
                _shown(record, "nsd_mean"),
                _shown(record, "hd95_median_um", 0),
                _shown(record, "distance_median_um", 0),
            ],
        }
        for record in evaluation.groups
        if record.label == label
    ]


def _negatives(evaluation: Evaluation, label: str) -> list[dict[str, Any]]:
    records = [evaluation.group(label, centre, "negative") for centre in (None, *evaluation.centres)]
    return [
        {
            "record": record,
            "area": _shown(record, "false_positive_mm2_mean"),
            "share": _shown(record, "false_positive_share", 3, 100),
        }
        for record in records
        if record is not None
    ]


def _score_rows(evaluation: Evaluation, label: str) -> list[dict[str, Any]]:
    records = [evaluation.group(label, centre) for centre in (None, *evaluation.centres)]
    return [
        {
            "record": record,
            "score": _shown(record, "patch_score_mean"),
            "spearman": _shown(record, "patch_spearman", 2),
        }
        for record in records
        if record is not None
    ]


def _uncertainty_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    records = [evaluation.uncertainty_group(centre) for centre in (None, *evaluation.centres)]
    return [
        {
            "record": record,
            "figures": [
                _shown(record, "error_rate", 2, 100),
                _shown(record, "error_auroc"),
                _shown(record, "aurc", 4),
                _shown(record, "excess_aurc", 4),
                _shown(record, "calibration_error"),
                _shown(record, "average_calibration_error"),
                _shown(record, "uce"),
                _shown(record, "patch_error_spearman", 2),
                _shown(record, "shift_auroc"),
            ],
        }
        for record in records
        if record is not None
    ]


def _unnoticed(slides: Sequence[SlideEvaluation]) -> list[tuple[SlideEvaluation, PatchEvaluation]]:
    """The patches with the most wrong pixels among the half that the ensemble is most certain of."""
    judged = [(one, patch) for one in slides for patch in one.ranked_patches if patch.judged_px]
    if not judged:
        return []
    middle = statistics.median(patch.candidate.score_mean for _, patch in judged)
    certain = [(one, patch) for one, patch in judged if patch.candidate.score_mean <= middle and patch.wrong_px]
    return sorted(certain, key=lambda pair: -pair[1].wrong_px)[:_MOST_PATCHES]
