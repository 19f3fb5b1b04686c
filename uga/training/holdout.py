"""Agreement of an ensemble with the reference on whole slides it has not seen."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.geometry import GridRegion
from uga.inference import InferenceSettings, SlideInference
from uga.measures import Measure
from uga.slide import open_slide
from uga.statistics import slide_statistics
from uga.tissue import detect_tissue
from uga.training.dataset import open_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uga.model.ensemble import Ensemble
    from uga.training.cases import Case
    from uga.training.labels import LabelMapping

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaseScore:
    """Tumour pixels of one slide at the model's spacing; ``mean_uncertainty`` is over its tissue."""

    case: Case
    true_positive: int
    false_positive: int
    false_negative: int
    mean_uncertainty: float

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None on a negative slide without false positives."""
        return pooled_dice([self])


def pooled_dice(scores: Iterable[CaseScore]) -> float | None:
    """Tumour Dice over the pixels of all slides together; None if there is no tumour in reference or prediction."""
    listed = list(scores)
    true_positive = sum(score.true_positive for score in listed)
    errors = sum(score.false_positive + score.false_negative for score in listed)
    return 2 * true_positive / (2 * true_positive + errors) if true_positive + errors else None


def score_cases(ensemble: Ensemble, cases: Sequence[Case], mapping: LabelMapping) -> list[CaseScore]:
    """Segment every slide as `uga infer` does and compare it with its reference, ignored pixels left out.

    Tumour outside the detected tissue counts as missed.

    Raises:
        UserError: the mapping's labels are not the model's.
    """
    model = ensemble.model
    labels = {name: value for value, name in enumerate(mapping.labels)}
    if labels != dict(model.labels):
        raise UserError(f"The mapping's labels {labels} are not those of {model.path}, {dict(model.labels)}.")
    scores = []
    for case in cases:
        score = _score(ensemble, case, mapping)
        scores.append(score)
        dice = "no tumour" if score.dice is None else f"Dice {score.dice:.3f}"
        log.info("%s (centre %s, %s): %s", case.id, case.centre, case.lesion, dice)
    return scores


def _score(ensemble: Ensemble, case: Case, mapping: LabelMapping) -> CaseScore:
    model = ensemble.model
    counts = np.zeros(3, np.int64)
    uncertainty, tissue_pixels = 0.0, 0
    with ExitStack() as stack:
        slide = stack.enter_context(open_slide(case.slide))
        grid = slide.grid(model.spacing_um)
        tissue = detect_tissue(slide, grid)
        statistics = slide_statistics(slide, grid, tissue) if model.normalisation.needs_statistics else None
        settings = InferenceSettings(measure=Measure.SOFT_CROSS_ENTROPY)
        reference = stack.enter_context(open_reference(case, grid, mapping))
        for band in SlideInference(slide, grid, tissue, ensemble, statistics, settings).bands():
            height, width = band.labels.shape
            truth = reference.read(GridRegion(0, band.y, width, height))
            judged = truth != mapping.ignore_label
            true, predicted = (truth == model.tumour_value) & judged, (band.labels == model.tumour_value) & judged
            counts += [(predicted & true).sum(), (predicted & ~true).sum(), (~predicted & true).sum()]
            uncertainty += float(band.uncertainty[band.tissue].sum(dtype=np.float64))
            tissue_pixels += int(band.tissue.sum())
    return CaseScore(case, int(counts[0]), int(counts[1]), int(counts[2]), uncertainty / max(1, tissue_pixels))
