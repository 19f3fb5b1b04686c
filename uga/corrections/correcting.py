"""The correction of one package out of the files that may hold one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from uga.corrections.correction import UNKNOWN_CENTRE, Correction, correction_sha256
from uga.corrections.discovery import PICTURE_SUFFIXES, is_annotation, is_shown
from uga.corrections.outlines import Outlines, package_labels
from uga.corrections.package import CORRECTION_FILE
from uga.corrections.slides import LABELS_SUFFIX
from uga.errors import UserError
from uga.output.package import ANNOTATION_FILE, EXPORTED_FILES, IMAGE_FILE, PREDICTION_FILE
from uga.output.schema import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.correction import Kind
    from uga.corrections.package import Package
    from uga.corrections.predictor import Predictor
    from uga.corrections.refusals import Refusals

    UInt8 = NDArray[np.uint8]

IMAGE_OUTLINES_FILE = "image.geojson"
"""Shapes drawn on a package's picture: the name QuPath gives to what it exports of image.png."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The label map that a file draws of a patch.

    Attributes:
        source: The file.
        kind: What it is.
        labels: Label values uint8 (h, w), `NOT_JUDGED` where it says nothing.
        is_own: Whether the file is about this patch alone; one about the slide need not have judged all of it.
    """

    source: Path
    kind: Kind
    labels: UInt8
    is_own: bool

    def changes(self, prediction: UInt8) -> bool:
        """Whether it says anything else than the prediction."""
        differs = self.labels != prediction
        return bool((differs if self.is_own else differs & (self.labels != NOT_JUDGED)).any())


def correcting_files(package: Package, refusals: Refusals) -> list[Path]:
    """The files in a package that may correct it; work under a name that is not read is refused."""
    exported = {file.name: file for file in (package.record.files.annotation, package.record.files.prediction)}
    found = []
    for path in sorted(package.folder.iterdir()):
        name = path.name
        if name in (CORRECTION_FILE, IMAGE_OUTLINES_FILE) or (
            name in exported and not package.is_exported(path, exported[name])
        ):
            found.append(path)
        elif name not in EXPORTED_FILES and is_shown(name) and _is_meant(path):
            refusals.note(
                path,
                f"{path} is not read under this name; save a label map as {CORRECTION_FILE}, shapes drawn on "
                f"{IMAGE_FILE} as {IMAGE_OUTLINES_FILE}.",
            )
    return found


def correct(
    package: Package, files: Sequence[Path], on_slide: Sequence[Reading], model: Predictor, refusals: Refusals
) -> Correction | None:
    """The correction of a package; None if it is as predicted, or if one of its files is refused.

    Args:
        package: The package.
        files: Those that may correct it.
        on_slide: What files about its slide say.
        model: The model that made the prediction.
        refusals: Takes the files refused.

    Raises:
        UserError: the package as a whole cannot be used.
    """
    package.verify(model)
    package.check_accepted()
    files = [path for path in files if not package.supersedes(path)]
    prediction = predicted_labels(package, model)
    own = [refusals.attempt(path, partial(read_file, package, path, model)) for path in files]
    changed = [reading for reading in (*own, *on_slide) if reading is not None and reading.changes(prediction)]
    if None in own:
        for reading in changed:
            refusals.note(
                reading.source,
                f"{reading.source} is not used for {package.folder.name}, as another file that corrects it is refused; "
                "mend or remove that one.",
            )
        return None
    if len({reading.labels.tobytes() for reading in changed}) > 1:
        names = " and ".join(str(reading.source) for reading in changed)
        raise UserError(f"{package.folder} is corrected by {names}, which differ; keep the one that counts.")
    review = package.record.review
    if changed:
        if review is not None and review.state == "confirmed":
            raise UserError(
                f"{package.folder} was confirmed as predicted, but {changed[0].source} says otherwise; remove that "
                "file, or review the patch again."
            )
        return _correction(package, prediction, changed[0])
    if review is None:
        return None
    if review.state == "corrected":
        raise UserError(f"{package.folder} was reviewed as corrected, but nothing in it is changed; save it again.")
    return _correction(package, prediction, Reading(package.prediction_file, "png", prediction, is_own=True))


def predicted_labels(package: Package, model: Predictor) -> UInt8:
    """What the model predicted, uint8 (h, w); from the outlines if the label map was painted over.

    Raises:
        UserError: both were changed.
    """
    files = package.record.files
    if package.is_exported(package.prediction_file, files.prediction):
        return package.read_labels(package.prediction_file, model)
    if package.is_exported(package.annotation_file, files.annotation):
        return package_labels(package, model)
    raise UserError(
        f"{package.folder} has neither {PREDICTION_FILE} nor {ANNOTATION_FILE} as exported, so the prediction is lost; "
        f"put one of them back and save the corrected label map as {CORRECTION_FILE}."
    )


def read_file(package: Package, path: Path, model: Predictor) -> Reading:
    """The label map that a file in or beside a package draws of it.

    Raises:
        UserError: it cannot be used.
    """
    if path.suffix.lower() == LABELS_SUFFIX:
        labels = package.read_labels(path, model)
        values = set(np.unique(labels).tolist())
        if values == {NOT_JUDGED}:
            raise UserError(f"{path} is white all over, which means not judged; paint the labels into it.")
        if values == {0, NOT_JUDGED} and not package.is_accepted(path):
            # Most likely a black and white mask, whose white was meant as a label and would be lost.
            raise UserError(
                f"{path} is black and white only, and white means not judged; paint labels in their colours, or mark "
                "what you do not judge as Ignore* in QuPath."
            )
        return Reading(path, "png", labels, is_own=True)
    if path == package.annotation_file:
        return Reading(path, "geojson", package_labels(package, model), is_own=True)
    outlines = Outlines(path, package.image_grid, model)
    drawn = outlines.labels(package.image_grid.region)
    if drawn is None:
        raise UserError(f"{path} has no shape inside the patch; draw on {IMAGE_FILE} and export all objects.")
    return Reading(path, outlines.kind, drawn, is_own=True)


def _correction(package: Package, prediction: UInt8, reading: Reading) -> Correction:
    record = package.record
    for array in (reading.labels, prediction):
        array.setflags(write=False)
    return Correction(
        name=package.folder.name,
        slide_id=record.slide.id,
        centre=record.slide.centre or UNKNOWN_CENTRE,
        source=reading.source,
        kind=reading.kind,
        image_file=package.image_file,
        labels=reading.labels,
        prediction=prediction,
        sha256=correction_sha256(reading.labels, record.patch.image_sha256),
    )


def _is_meant(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return path.is_file() and is_annotation(path)
    return path.stem.casefold().startswith("correction") or suffix in {".geojson", ".xml", *PICTURE_SUFFIXES}
