"""Reads all corrections below a folder: what can be used, what is as exported, and what is refused and why."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from uga.corrections.correcting import Reading, correct, correcting_files
from uga.corrections.correction import CorrectionSet
from uga.corrections.discovery import check_name, is_leaving, is_shown, search
from uga.corrections.package import CORRECTION_FILE, open_package
from uga.corrections.refusals import Refusals
from uga.corrections.slides import LABELS_SUFFIX, files_beside, misnamed_beside, slide_outlines
from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from uga.corrections.correction import Correction
    from uga.corrections.outlines import Outlines
    from uga.corrections.package import Package
    from uga.corrections.predictor import Predictor

_Corrected = tuple["Package", "Correction"]


def read_corrections(folder: Path, model: Predictor) -> CorrectionSet:
    """Find, verify and read every correction below a folder.

    A package is corrected by its ``correction.png``, its changed ``annotation.geojson``, ``image.geojson``, a
    ``prediction.png`` that was painted over, a file beside it that has its name (``<package>.png`` or ``.geojson``), or
    a file named after its slide (ASAP XML, GeoJSON, polygons of grand-challenge) anywhere below the folder. Of several
    that differ none is used.

    Args:
        folder: Holds packages at any depth.
        model: The model that made the predictions.

    Returns:
        All packages, used, unchanged or refused, and the files refused.

    Raises:
        UserError: there is no such folder. A file that cannot be used is a refusal, never an error.
    """
    found, refusals = search(folder), Refusals(folder)
    for link in found.leaving:
        refusals.note(link, f"{link} is a link that leaves the folder of corrections; copy what it stands for instead.")
    for path in found.unreadable:
        refusals.note(path, f"{path} cannot be read; check its rights.")
    opened = [refusals.attempt(path, partial(_open, path, folder)) for path in found.packages]
    packages = [package for package in opened if package is not None]
    beside = files_beside(found.files, found.packages)
    taken = {file for files in beside.values() for file in files}
    misnamed = misnamed_beside((*(file for file in found.files if file not in taken), *found.pictures), found.packages)
    on_slides = [file for file in found.files if file not in taken and file.suffix.lower() != LABELS_SUFFIX]
    outlines = slide_outlines(on_slides, packages, model, refusals)

    used: list[_Corrected] = []
    unchanged: list[Path] = []
    touching: set[Path] = set()
    for package in packages:
        refused = len(refusals.noted)
        for path in misnamed[package.folder]:
            refusals.note(
                path,
                f"{path} is not read under this name; save a label map as {package.folder.name}{LABELS_SUFFIX} here, "
                f"or as {CORRECTION_FILE} in {package.folder}.",
            )
        drawn = _readings(package, outlines[package.record.slide])
        touching.update(reading.source for reading in drawn)
        correction = refusals.attempt(
            package.folder, partial(_correct, package, beside[package.folder], drawn, model, refusals)
        )
        if correction is not None:
            used.append((package, correction))
        elif len(refusals.noted) == refused:
            unchanged.append(package.folder)
    for path in sorted({drawn.path for several in outlines.values() for drawn in several} - touching):
        refusals.note(path, f"{path} has no shape in any package of its slide; draw inside their frames.")
    kept = _without_copies(used, refusals)
    return CorrectionSet(tuple(kept), tuple(unchanged), tuple(refusals.noted))


def _open(path: Path, folder: Path) -> Package:
    check_name(path, folder)
    for entry in sorted(path.iterdir()):
        if is_shown(entry.name) and is_leaving(entry, folder):
            raise UserError(
                f"{entry} is a link that leaves the folder of corrections; copy the file itself into the package."
            )
    return open_package(path)


def _readings(package: Package, outlines: Iterable[Outlines]) -> list[Reading]:
    """What the files about the slide say of a package; those that say nothing are left out."""
    drawn = ((one, one.labels(package.region)) for one in outlines)
    return [Reading(one.path, one.kind, labels, is_own=False) for one, labels in drawn if labels is not None]


def _correct(
    package: Package, beside: list[Path], drawn: list[Reading], model: Predictor, refusals: Refusals
) -> Correction | None:
    """The correction of a package, None if there is none; a package nobody has touched is not looked into further."""
    review = package.record.review
    if review is not None and review.state == "skipped":
        return None
    if review is not None and review.state == "started":
        raise UserError(
            f"{package.folder} was begun by {review.reviewer} but not accepted; accept or skip it in `uga review`."
        )
    files = [*correcting_files(package, refusals), *beside]
    if files or drawn or review is not None:
        return correct(package, files, drawn, model, refusals)
    if not package.is_exported(package.image_file, package.record.files.image):  # perhaps painted over
        package.verify(model)
    return None


def _without_copies(used: Iterable[_Corrected], refusals: Refusals) -> list[Correction]:
    """Of packages of the same patch the first is used if all agree, otherwise none."""
    places: defaultdict[object, list[_Corrected]] = defaultdict(list)
    for package, correction in used:
        places[package.record.slide.quickhash, package.region].append((package, correction))
    kept = []
    for (first, correction), *others in places.values():
        agree = len({correction.sha256, *(other.sha256 for _, other in others)}) == 1
        if agree:
            kept.append(correction)
        for package, _ in others if agree else [*others, (first, correction)]:
            same = others[0][0] if package is first else first
            remedy = "is a copy of it; remove one" if agree else "differs; keep the one that counts"
            refusals.note(package.folder, f"{package.folder} holds the same patch as {same.folder} and {remedy}.")
    return kept
