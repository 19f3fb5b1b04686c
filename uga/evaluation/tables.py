"""Evaluations gathered by centre and lesion class: records, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from uga.evaluation.agreement import Agreement
from uga.model.card import RESEARCH_USE
from uga.output.files import write_atomic, write_json
from uga.training.cases import LESION_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from uga.evaluation.slides import SlideEvaluation

EVALUATION_FILE = "evaluation.json"
SLIDES_FILE = "slides.csv"


class GroupRecord(BaseModel):
    """Slides taken together, for one label.

    ``dice`` is pooled over the pixels of all slides; ``dice_mean`` the mean over the slides that have a Dice. Both are
    null where the label is neither in the references nor predicted. ``patch_score_mean`` is the mean over all patches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: str | None
    lesion: str | None
    label: str
    slides: int
    true_positive: int
    false_positive: int
    false_negative: int
    dice: float | None
    dice_mean: float | None
    patches: int
    patch_score_mean: float | None


class Evaluation(BaseModel):
    """``evaluation.json``; a null centre or lesion means all of them. Counts are pixels of the maps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["1.0"] = "1.0"
    notice: str = RESEARCH_USE
    model: str
    model_sha256: str
    measure: str
    groups: tuple[GroupRecord, ...]

    def group(self, label: str, centre: str | None = None, lesion: str | None = None) -> GroupRecord | None:
        """One group; None if it holds no slide."""
        wanted = (label, centre, lesion)
        return next((one for one in self.groups if (one.label, one.centre, one.lesion) == wanted), None)


def group_slides(evaluations: Sequence[SlideEvaluation]) -> tuple[GroupRecord, ...]:
    """All slides, each centre, each lesion class and each class at each centre; for every label."""
    centres = sorted({one.case.centre for one in evaluations})
    lesions = [lesion for lesion in LESION_CLASSES if any(one.case.lesion == lesion for one in evaluations)]
    records = []
    for centre in (None, *centres):
        for lesion in (None, *lesions):
            members = [
                one for one in evaluations if centre in (None, one.case.centre) and lesion in (None, one.case.lesion)
            ]
            if members:
                records += [_group(members, centre, lesion, label) for label in members[0].labels]
    return tuple(records)


def _group(members: Sequence[SlideEvaluation], centre: str | None, lesion: str | None, label: str) -> GroupRecord:
    pooled = Agreement.pooled(one.labels[label] for one in members)
    return GroupRecord(
        centre=centre,
        lesion=lesion,
        label=label,
        slides=len(members),
        true_positive=pooled.true_positive,
        false_positive=pooled.false_positive,
        false_negative=pooled.false_negative,
        dice=pooled.dice,
        dice_mean=_mean(dice for one in members if (dice := one.labels[label].dice) is not None),
        patches=sum(len(one.patch_scores) for one in members),
        patch_score_mean=_mean(score for one in members for score in one.patch_scores),
    )


def write_evaluation(folder: Path, evaluation: Evaluation, slides: Iterable[SlideEvaluation]) -> None:
    """Write ``evaluation.json`` and ``slides.csv``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("slide", "centre", "patient", "class", "label", "tp", "fp", "fn", "dice", "patches", "patch_score_mean")
    )
    for one in slides:
        for label, agreement in one.labels.items():
            writer.writerow(
                (
                    one.case.slide.name,
                    one.case.centre,
                    one.case.patient,
                    one.case.lesion,
                    label,
                    agreement.true_positive,
                    agreement.false_positive,
                    agreement.false_negative,
                    "" if agreement.dice is None else agreement.dice,
                    len(one.patch_scores),
                    _mean(one.patch_scores) if one.patch_scores else "",
                )
            )
    write_atomic(folder / SLIDES_FILE, text.getvalue().encode())
    write_json(folder / EVALUATION_FILE, evaluation)


def markdown_table(evaluation: Evaluation, label: str) -> str:
    """A line per centre: pooled Dice of a label over all slides and by lesion class, mean patch score."""
    records = [one for one in evaluation.groups if one.label == label]
    lesions = [lesion for lesion in LESION_CLASSES if any(one.lesion == lesion for one in records)]
    centres = sorted({one.centre for one in records if one.centre is not None})
    head = ["centre", "slides", "Dice, all slides", *lesions, "patches", "mean patch score"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for centre in centres:
        whole = evaluation.group(label, centre)
        assert whole is not None  # noqa: S101 - every centre has a group over its slides
        cells = [centre, str(whole.slides), _number(whole.dice)]
        for lesion in lesions:
            part = evaluation.group(label, centre, lesion)
            cells.append("" if part is None else _told(part))
        cells += [str(whole.patches), _number(whole.patch_score_mean)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(record: GroupRecord) -> str:
    """Dice, or on slides without the label what was wrongly found."""
    if record.true_positive + record.false_negative == 0:
        return f"{record.false_positive:,} px false"
    return _number(record.dice)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
