"""``report.html`` and ``report.json`` of a fine-tuning: one page without any outside request, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uga.corrections.correction import UNKNOWN_CENTRE
from uga.finetuning.balance import balance_warnings
from uga.finetuning.comparison import shown_dice
from uga.measures import Measure
from uga.model.card import RESEARCH_USE
from uga.output import pictures
from uga.output.colours import heat, heat_stops, label_colours
from uga.output.files import write_atomic
from uga.output.report import page_template
from uga.output.schema import NOT_JUDGED
from uga.ranking import to_uint8

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from uga.finetuning.comparison import Comparison, Pair
    from uga.finetuning.schema import FinetuningReport, UsedCorrection
    from uga.model.folder import Model

    UInt8 = NDArray[np.uint8]

REPORT_JSON, REPORT_HTML = "report.json", "report.html"

_TEMPLATES = Path(__file__).parent / "templates"
_PATCH_PX = 300
_MOST_CARDS = 40
_MEASURE = Measure.SOFT_CROSS_ENTROPY
_NOT_JUDGED_COLOUR = (150, 150, 150)


@dataclass(frozen=True)
class CorrectionPictures:
    """Small pictures of one correction: tissue, labels of three sources, uncertainty of both ensembles."""

    tissue: UInt8
    reference: UInt8
    predictions: tuple[UInt8, UInt8]
    uncertainties: tuple[UInt8, UInt8]

    @classmethod
    def of(cls, pair: Pair) -> CorrectionPictures:
        """The pictures of a correction, reduced to what the page shows."""
        both = (pair.before, pair.after)
        return cls(
            tissue=pictures.shrink(pair.patch.read_image(), _PATCH_PX, nearest=False),
            reference=pictures.shrink(pair.patch.read_labels(), _PATCH_PX, nearest=True),
            predictions=_both(pictures.shrink(_labels(p_f), _PATCH_PX, nearest=True) for p_f in both),
            uncertainties=_both(pictures.shrink(_uncertainty(p_f), _PATCH_PX, nearest=False) for p_f in both),
        )


@dataclass
class Album:
    """The pictures of the first corrections, as many as a page can bear."""

    entries: list[CorrectionPictures] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        """Add a correction; beyond the page's capacity it is left out."""
        if len(self.entries) < _MOST_CARDS:
            self.entries.append(CorrectionPictures.of(pair))


def write_reports(folder: Path, report: FinetuningReport, album: Album, model: Model) -> None:
    """Write both reports into ``folder``; ``album`` has the pictures of ``report.corrections``, in that order."""
    display_max = pictures.display_max([values for entry in album.entries for values in entry.uncertainties])
    colours = label_colours(model.labels, model.tumour_label)
    page = page_template(_TEMPLATES, "finetuning.html.j2").render(
        report=report,
        notice=RESEARCH_USE,
        rows=_rows(report),
        warnings=_warnings(report),
        cards=[
            (used.name, _facts(used), _card_pictures(entry, model.labels, colours, display_max))
            for used, entry in zip(report.corrections, album.entries, strict=False)
        ],
        colours=colours,
        heat_stops=heat_stops(),
        scale_end=display_max / 255 * _MEASURE.full_scale,
    )
    write_atomic(folder / REPORT_HTML, page.encode())
    write_atomic(folder / REPORT_JSON, (report.model_dump_json(indent=2) + "\n").encode())


def _rows(report: FinetuningReport) -> list[dict[str, Any]]:
    """A row for each set of patches: what it is, and each figure before and after."""
    compared = report.comparisons
    old = {
        "holdout": "Hold-out patches of the old centres",
        "replay": "Replayed old patches, each judged by the fold that has not learned from it",
        None: "Old patches",
    }[compared.old_source]
    named = (
        ("Corrections, each judged by the fold that has not learned from it", compared.held_out_corrections),
        ("Corrections, whole ensembles (most folds have learned from them)", compared.corrections),
        (old, compared.old),
    )
    return [{"name": name, "figures": _figures(each)} for name, each in named if each is not None]


def _figures(comparison: Comparison) -> list[tuple[str, float | None, float | None]]:
    before, after = comparison.before, comparison.after
    dice = [(f"Dice {label}", before.dice[label], after.dice[label]) for label in before.dice]
    return [
        *dice,
        ("calibration error", before.calibration_error, after.calibration_error),
        ("uncertainty (nats)", before.uncertainty, after.uncertainty),
        ("disagreement of the folds (nats)", before.disagreement, after.disagreement),
    ]


def _warnings(report: FinetuningReport) -> list[str]:
    compared, found = report.comparisons, balance_warnings(report.balance)
    if compared.old is not None and compared.old.folds_have_converged:
        found.append(
            "On old patches the folds disagree less than half as much as before: the uncertainty of the new ensemble "
            "tells less. Fewer epochs or a lower learning rate keep them apart."
        )
    if all(used.fold is None for used in report.corrections):
        one = len({used.slide for used in report.corrections}) == 1
        found.append(
            "All corrections come from one slide, so none could be held out: how well the new model does on other "
            "slides of that centre is not known. Correct patches of two slides or more."
            if one
            else "All folds learn from all corrected slides, so none could be held out: how well the new model does on "
            "other slides of those centres is not known. Correct patches of another slide."
        )
    if report.guard.passed is None:
        found.append(report.guard.sentence)
    return found


def _facts(used: UsedCorrection) -> list[str]:
    """What there is to say about a correction, besides its pictures."""
    facts = [used.slide, f"centre {used.centre}" if used.centre != UNKNOWN_CENTRE else "", used.kind]
    facts.append(f"{100 * used.changed:.1f} % of the judged pixels changed")
    facts.append(f"{100 * used.judged:.0f} % judged" if used.judged < 1 else "")
    facts.append("learned by all folds" if used.fold is None else f"held out of fold {used.fold}")
    for label, before in used.before.items():
        facts.append(f"Dice {label} {shown_dice(before)} \u2192 {shown_dice(used.after[label])}")
    return [fact for fact in facts if fact]


def _card_pictures(
    entry: CorrectionPictures, labels: Mapping[str, int], colours: Mapping[str, Any], display_max: int
) -> list[tuple[str, str]]:
    reference = pictures.outlined(entry.tissue, entry.reference, labels, colours)
    reference[entry.reference == NOT_JUDGED] = _NOT_JUDGED_COLOUR
    shown = [("Correction", reference)]
    for moment, predicted in zip(("before", "after"), entry.predictions, strict=True):
        shown.append((f"Prediction {moment}", pictures.outlined(entry.tissue, predicted, labels, colours)))
    for moment, values in zip(("before", "after"), entry.uncertainties, strict=True):
        shown.append((f"Uncertainty {moment}", heat(values, display_max)))
    return [(name, pictures.jpeg_uri(picture)) for name, picture in shown]


def _labels(probabilities: torch.Tensor) -> UInt8:
    labels: UInt8 = probabilities.mean(0).argmax(0).cpu().numpy().astype(np.uint8)
    return labels


def _uncertainty(probabilities: torch.Tensor) -> UInt8:
    return to_uint8(_MEASURE.of(probabilities).cpu().numpy(), _MEASURE.full_scale)


def _both(values: Any) -> tuple[UInt8, UInt8]:
    before, after = values
    return before, after
