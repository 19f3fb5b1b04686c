"""The query pool: every patch with its scores by the baseline, and what its reference says."""

from __future__ import annotations

import csv
import io
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.evaluation.agreement import Agreement, Empty, dice
from uga.exporting import FinishedRuns
from uga.output.files import write_atomic
from uga.output.finished import finished_slides
from uga.output.maps import MapReader
from uga.scores import read_scores
from uga.training.dataset import open_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.geometry import Grid, GridRegion
    from uga.model.folder import Model
    from uga.output.finished import FinishedSlide
    from uga.ranking import Candidate
    from uga.simulation.sources import Cohorts
    from uga.training.cases import Case

PATCHES_FILE = "patches.csv"


@dataclass(frozen=True, slots=True)
class PoolPatch:
    """A patch that can be queried.

    Attributes:
        candidate: Its place and scores.
        patient: Whose slide.
        shifted: Whether its slide is unlike what the baseline has learnt from.
        agreement: Of the baseline's prediction with the reference, for the label that counts.
        judged: Share of the patch that the reference judges.
    """

    candidate: Candidate
    patient: str
    shifted: bool
    agreement: Agreement
    judged: float

    @property
    def holds_label(self) -> bool:
        """Whether the reference has the label anywhere in the patch."""
        return self.agreement.reference_px > 0

    @property
    def judged_px(self) -> int:
        """Pixels that the reference judges."""
        return round(self.judged * self.candidate.size**2)

    @property
    def agreement_if_all(self) -> Agreement:
        """What the agreement would be if every judged pixel were called by the label."""
        held = self.agreement.reference_px
        return Agreement(held, self.judged_px - held, 0)

    @property
    def smoothed_dice(self) -> float:
        """(2 TP + 1) / (2 TP + FP + FN + 1), the authors': 1 where there is nothing."""
        return float(dice(np.asarray(self.agreement.counts), Empty.SMOOTHED))


def open_runs(folder: Path, cohorts: Cohorts, model: Model) -> FinishedRuns:
    """The segmented query slides with their files, to export patches from.

    Raises:
        UserError: no slide is segmented.
    """
    finished = {one.id: one for one in finished_slides([folder / case.id for case in cohorts.query])}
    return FinishedRuns(
        finished=finished,
        sources={case.id: case.slide for case in cohorts.query},
        slides=folder,
        model=model,
        ranked=next(iter(finished.values())).ranked(),
    )


def read_patches(runs: FinishedRuns, cohorts: Cohorts, label: str) -> tuple[PoolPatch, ...]:
    """Every patch with tissue, excluded ones too, beside its reference.

    Args:
        runs: The segmented query slides.
        cohorts: Slides and the meaning of references.
        label: The label that counts.

    Raises:
        UserError: a reference does not fit, or the model has no such label.
    """
    labels = runs.model.labels
    if label not in labels:
        raise UserError(f"The model has no label '{label}'; set evaluation.label to one of {', '.join(labels)}.")
    return tuple(
        patch
        for case in cohorts.query
        for patch in _slide_patches(runs.finished[case.id], case, cohorts, labels[label], runs.ranked.spacing_um)
    )


def _slide_patches(
    one: FinishedSlide, case: Case, cohorts: Cohorts, value: int, spacing_um: float
) -> Iterable[PoolPatch]:
    grid = one.grid(spacing_um)
    with ExitStack() as stack:
        predicted = stack.enter_context(MapReader(one.segmentation))
        reference = stack.enter_context(open_reference(cohorts.resolved(case), grid, cohorts.mapping))
        for candidate in read_scores(one.folder):
            labels, truth = predicted.read(candidate.region), reference.read(candidate.region)
            judged = (truth != cohorts.mapping.ignore_label) & on_slide(candidate.region, grid)
            yield PoolPatch(
                candidate=candidate,
                patient=case.patient,
                shifted=case.id in cohorts.shifted,
                agreement=Agreement.of(labels == value, truth == value, judged),
                judged=float(np.mean(judged)),
            )


def on_slide(region: GridRegion, grid: Grid) -> NDArray[np.bool_]:
    """Pixels (h, w) of a region that lie on the slide; what overhangs its edge is white and nobody judges it."""
    inside = np.zeros((region.height, region.width), np.bool_)
    part = region.intersection(grid.region)
    if part is not None:
        inside[part.within(region)] = True
    return inside


def write_patches(path: Path, patches: Sequence[PoolPatch], *, ranks: Sequence[int] | None = None) -> None:
    """Write patches as a table; ``x``, ``y``, ``size`` are pixels of the working grid, counts are pixels too.

    A patch of which nothing is judged has no Dice.

    Args:
        path: The table.
        patches: In the order they are listed.
        ranks: A first column, the rank of each patch in its pool.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    extra = list(patches[0].candidate.extra) if patches else []
    head = ["centre", "slide", "patient", "shifted", "x", "y", "size", "score_mean", "reference_key"]
    head += [f"mean {name}" for name in extra]
    head += ["predicted_fraction", "judged_fraction", "tp", "fp", "fn", "smoothed_dice"]
    writer.writerow([*(["rank"] if ranks else []), *head])
    for number, patch in enumerate(patches):
        c, agreement = patch.candidate, patch.agreement
        writer.writerow(
            (
                *((ranks[number],) if ranks else ()),
                *(c.centre, c.slide_id, patch.patient, int(patch.shifted), c.x, c.y, c.size),
                *(c.score_mean, c.reference_key, *(c.extra[name] for name in extra)),
                *(f"{c.tumour_fraction:.6f}", f"{patch.judged:.6f}"),
                *agreement.counts,
                f"{patch.smoothed_dice:.6f}" if patch.judged else "",
            )
        )
    write_atomic(path, text.getvalue().encode())
