"""A perfect pathologist: corrections that are the reference, as annotation packages in the form of the product."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from uga.corrections.package import open_package
from uga.output.files import sha256_file, write_json
from uga.output.package import RECORD_FILE
from uga.output.schema import NOT_JUDGED, Review
from uga.simulation.pool import on_slide
from uga.training.dataset import open_reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.package import Package
    from uga.exporting import FinishedRuns
    from uga.simulation.pool import PoolPatch
    from uga.simulation.sources import Cohorts


_REVIEWER = "reference"


def correct(
    patches: Sequence[PoolPatch], runs: FinishedRuns, cohorts: Cohorts, folder: Path, *, unsure_um: float
) -> int:
    """Export patches and save the reference of each as its correction.

    Packages are numbered by their place, not by their rank, so that a set of patches gives the same corrections in the
    same order whoever chose it.

    Args:
        patches: To correct.
        runs: The segmented query slides.
        cohorts: The references.
        folder: Gets ``patches/``; an older one is replaced.
        unsure_um: Pixels nearer than this to the border of a label are left unjudged.

    Returns:
        How many of them hold anything that is judged, and so can be learnt from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    cases = {case.id: case for case in cohorts.query}
    ordered = sorted(patches, key=lambda patch: patch.candidate.place)
    judged = 0
    for number, patch in enumerate(ordered, start=1):
        slide_id = patch.candidate.slide_id
        with runs.exporter(slide_id, folder) as exporter:
            package, _ = exporter.export(patch.candidate, number)
        grid = runs.finished[slide_id].grid(runs.ranked.spacing_um)
        with open_reference(cohorts.resolved(cases[slide_id]), grid, cohorts.mapping) as reference:
            labels = reference.read(patch.candidate.region)
        saved = np.where(labels == cohorts.mapping.ignore_label, np.uint8(NOT_JUDGED), labels)
        saved[unsure(labels, unsure_um / grid.spacing_um) | ~on_slide(patch.candidate.region, grid)] = NOT_JUDGED
        _review(open_package(package), saved)
        judged += bool((saved != NOT_JUDGED).any())
    return judged


def _review(package: Package, labels: NDArray[np.uint8]) -> None:
    """Save a correction and what was decided; a patch of which nothing is judged is skipped."""
    state: Literal["corrected", "confirmed", "skipped"] = "corrected"
    if (labels == NOT_JUDGED).all():
        state = "skipped"
    elif np.array_equal(labels, np.asarray(Image.open(package.prediction_file))):
        state = "confirmed"  # what was predicted right is learnt from too
    else:
        Image.fromarray(labels).save(package.correction_file)
    accepted = sha256_file(package.correction_file) if state == "corrected" else None
    review = Review(state=state, reviewer=_REVIEWER, at=datetime.now(UTC), correction_sha256=accepted)
    write_json(package.folder / RECORD_FILE, package.record.model_copy(update={"review": review}))


def unsure(labels: NDArray[np.uint8], within_px: float) -> NDArray[np.bool_]:
    """Pixels (h, w) whose centre is nearer than so many pixels to the centre of one with another label."""
    if within_px <= 0 or labels.min() == labels.max():
        return np.zeros(labels.shape, dtype=np.bool_)
    near = np.zeros(labels.shape, dtype=np.bool_)
    for value in np.unique(labels):
        own = labels == value
        near |= own & (ndimage.distance_transform_edt(own) < within_px)
    return near
