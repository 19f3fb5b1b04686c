"""Evaluations as files for other programs, JSON and CSV, and as a table for people."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from uga.evaluation import uncertainty as certainty
from uga.evaluation.bootstrap import fewest_patients
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.evaluation.agreement import Agreement, Empty
    from uga.evaluation.records import Evaluation, GroupRecord, UncertaintyGroup
    from uga.evaluation.slides import PatchEvaluation, SlideEvaluation

EVALUATION_FILE = "evaluation.json"
SLIDES_FILE = "slides.csv"
PATCHES_FILE = "patches.csv"

Cell = str | int | float | bool | None
_ORIGIN = ("slide", "centre", "patient", "class")
_COUNTS = ("label", "tp", "fp", "fn", "dice")
_SLIDE_COLUMNS = (
    *(*_ORIGIN, *_COUNTS, "fp_mm2", "fp_tissue_share", "fn_outside_tissue", "nsd", "hd95_um", "mean_distance_um"),
    *("tissue_mm2", "error_rate", "error_auroc", "aurc", "patches", "patch_score_mean"),
)
_PATCH_COLUMNS = (
    *(*_ORIGIN, "x", "y", "size", "ranked", "score_mean", "tissue_fraction", "judged_px", "error_rate"),
    *_COUNTS,
)


def write_evaluation(folder: Path, evaluation: Evaluation, slides: Sequence[SlideEvaluation]) -> None:
    """Write ``evaluation.json``, ``slides.csv`` and ``patches.csv``; what has no value is null, or an empty cell."""
    empty = evaluation.settings.empty
    write_atomic(folder / SLIDES_FILE, _csv(_SLIDE_COLUMNS, _slide_rows(slides, empty)))
    write_atomic(folder / PATCHES_FILE, _csv(_PATCH_COLUMNS, _patch_rows(slides, empty)))
    write_atomic(folder / EVALUATION_FILE, (evaluation.model_dump_json(indent=2) + "\n").encode())


def markdown_table(evaluation: Evaluation, label: str) -> str:
    """A line per centre: pooled Dice of a label over all slides and by lesion class, mean patch score."""
    lesions = evaluation.lesions
    interval = f"{100 * evaluation.settings.level:g} % interval"
    head = ["centre", "slides", "Dice, all slides", interval, *lesions, "patches", "mean patch score"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for centre in evaluation.centres:
        whole = evaluation.group(label, centre)
        assert whole is not None  # noqa: S101 - every centre has a group over its slides
        cells = [centre, str(whole.slides), number(whole.dice), interval_text(whole, "dice")]
        for lesion in lesions:
            part = evaluation.group(label, centre, lesion)
            cells.append("" if part is None else _told(part))
        cells += [str(whole.patches), number(whole.patch_score_mean)]
        lines.append("| " + " | ".join(cells) + " |")
    if any("*" in line for line in lines):
        fewest = fewest_patients(evaluation.settings.level)
        lines += ["", f"\\* fewer than {fewest} patients: holds the truth less often than the level says."]
    return "\n".join(lines)


def number(value: float | None, digits: int = 3) -> str:
    """For people; empty if there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def interval_text(record: GroupRecord | UncertaintyGroup, figure: str, digits: int = 3, *, factor: float = 1) -> str:
    """The interval of ``factor`` times a figure for people, or why there is none; a star marks a caution."""
    interval = record.intervals.get(figure)
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return interval.reason or ""
    star = "*" if interval.caution else ""
    return f"{number(factor * interval.low, digits)} to {number(factor * interval.high, digits)}{star}"


def _told(record: GroupRecord) -> str:
    """Dice, or on slides without the label what was wrongly found."""
    if record.true_positive + record.false_negative == 0:
        return f"{record.false_positive:,} px false"
    return number(record.dice)


def _slide_rows(slides: Iterable[SlideEvaluation], empty: Empty) -> Iterator[dict[str, Cell]]:
    for one in slides:
        scores = one.patch_scores
        errors = one.errors
        for label, agreement in one.labels.items():
            surface = one.surfaces.get(label)
            yield {
                **_origin(one),
                "label": label,
                **_counts(agreement, empty),
                "fp_mm2": one.mm2(agreement.false_positive),
                "fp_tissue_share": agreement.false_positive / one.tissue_px if one.tissue_px else None,
                "fn_outside_tissue": one.missed_outside_tissue[label],
                "nsd": surface.nsd if surface else None,
                "hd95_um": surface.hd95_um if surface else None,
                "mean_distance_um": surface.mean_um if surface else None,
                "tissue_mm2": one.mm2(one.tissue_px),
                "error_rate": _value(certainty.error_rate(errors)),
                "error_auroc": _value(certainty.error_auroc(errors)),
                "aurc": _value(certainty.risk_area(errors)),
                "patches": len(scores),
                "patch_score_mean": sum(scores) / len(scores) if scores else None,
            }


def _patch_rows(slides: Iterable[SlideEvaluation], empty: Empty) -> Iterator[dict[str, Cell]]:
    for one in slides:
        for patch in one.patches:
            for label, agreement in patch.labels.items():
                yield {**_origin(one), **_place(patch), "label": label, **_counts(agreement, empty)}


def _origin(one: SlideEvaluation) -> dict[str, Cell]:
    case = one.case
    return {"slide": case.slide.name, "centre": case.centre, "patient": case.patient, "class": case.lesion}


def _place(patch: PatchEvaluation) -> dict[str, Cell]:
    candidate = patch.candidate
    return {
        "x": candidate.x,
        "y": candidate.y,
        "size": candidate.size,
        "ranked": patch.ranked,
        "score_mean": candidate.score_mean,
        "tissue_fraction": candidate.tissue_fraction,
        "judged_px": patch.judged_px,
        "error_rate": patch.error_rate,
    }


def _counts(agreement: Agreement, empty: Empty) -> dict[str, Cell]:
    true_positive, false_positive, false_negative = agreement.counts
    return {"tp": true_positive, "fp": false_positive, "fn": false_negative, "dice": agreement.dice_by(empty)}


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Cell]]) -> bytes:
    """Numbers in full precision, truth as 0 or 1, None as an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: int(value) if isinstance(value, bool) else value for name, value in row.items()})
    return text.getvalue().encode()


def _value(figure: NDArray[Any]) -> float | None:
    return None if np.isnan(figure) else float(figure)
