"""A finished slide against its reference, band by band, so that no map is ever whole in memory."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.evaluation.agreement import Agreement
from uga.geometry import GridRegion
from uga.output.finished import finished_slides
from uga.output.maps import MapReader
from uga.ranking import Exclusion
from uga.scores import read_scores
from uga.training.dataset import open_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from uga.output.finished import FinishedSlide
    from uga.training.cases import Case, Unannotated
    from uga.training.labels import LabelMapping

log = logging.getLogger(__name__)

_BAND_ROWS = 512


@dataclass(frozen=True, slots=True)
class SlideEvaluation:
    """What came out for one slide.

    Attributes:
        case: The slide and its reference.
        labels: Agreement for each label but the background, pixels of the maps.
        patch_scores: Scores of the patches that the paper's rule does not drop, in the unit of the measure.
    """

    case: Case
    labels: dict[str, Agreement]
    patch_scores: tuple[float, ...]


def evaluate_slides(
    folders: Sequence[Path], cases: Sequence[Case], mapping: LabelMapping, *, unannotated: Unannotated = "ignore"
) -> list[SlideEvaluation]:
    """Compare every finished slide below the folders with its reference.

    Args:
        folders: Output folders of `uga infer`.
        cases: The references, found by the slide's file name; those without a finished slide are left out.
        mapping: What values and classes of the references mean; its labels must be the model's.
        unannotated: What area outside all shapes is, where a case does not say.

    Raises:
        UserError: a finished slide has no reference or several, a reference does not fit, or the labels differ.
    """
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        resolved = replace(case, unannotated=case.unannotated or unannotated)
        by_name.setdefault(case.slide.name, []).append(resolved)
    finished = list(finished_slides(folders))
    evaluations = []
    for number, one in enumerate(finished, start=1):
        known = by_name.get(one.record.file, [])
        if len(known) != 1:
            count = "no" if not known else f"{len(known)} possible"
            raise UserError(f"The slide {one.record.file} in {one.folder} has {count} reference; name each slide once.")
        evaluation = _evaluate(one, known[0], mapping)
        evaluations.append(evaluation)
        scores = ", ".join(_told(label, agreement) for label, agreement in evaluation.labels.items())
        log.info("%s (%d of %d): %s", one.id, number, len(finished), scores)
    return evaluations


def _evaluate(one: FinishedSlide, case: Case, mapping: LabelMapping) -> SlideEvaluation:
    ranked = one.ranked()
    grid = one.grid(ranked.spacing_um)
    names = list(mapping.labels)
    counts: dict[str, list[Agreement]] = {name: [] for name in names[1:]}
    with ExitStack() as stack:
        predicted = stack.enter_context(MapReader(one.segmentation))
        reference = stack.enter_context(open_reference(case, grid, mapping))
        for band in _bands(grid.region):
            labels, truth = predicted.read(band), reference.read(band)
            if labels.max() >= len(names):
                raise UserError(
                    f"{one.segmentation} holds the label {labels.max()}, the mapping ends with {names[-1]}; "
                    "name the model's labels in their order with --labels."
                )
            judged = truth != mapping.ignore_label
            for value, name in enumerate(names[1:], start=1):
                counts[name].append(Agreement.of(labels == value, truth == value, judged))
    kept = [candidate for candidate in read_scores(one.folder) if not Exclusion.PAPER.excludes(candidate)]
    return SlideEvaluation(
        case=case,
        labels={name: Agreement.pooled(parts) for name, parts in counts.items()},
        patch_scores=tuple(candidate.score_mean for candidate in kept),
    )


def _bands(region: GridRegion) -> Iterator[GridRegion]:
    for y in range(0, region.height, _BAND_ROWS):
        yield GridRegion(0, y, region.width, min(_BAND_ROWS, region.height - y))


def _told(label: str, agreement: Agreement) -> str:
    if agreement.dice is None:
        return f"{label} neither there nor found"
    return f"{label} Dice {agreement.dice:.3f}"
