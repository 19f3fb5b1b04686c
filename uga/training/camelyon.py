"""Camelyon16 and Camelyon17 as a cohort: who made a slide, what is on it, and how far its annotation goes.

``python -m uga.training.camelyon ROOT cohort.csv --centre RUMC`` writes what ``uga train cohort.csv`` reads.
docs/camelyon.md says where each fact comes from.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from uga.cli.console import configure_logging
from uga.errors import UserError
from uga.training.cases import Case, safe_id, write_cohort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from uga.training.cases import LesionClass, Unannotated

log = logging.getLogger(__name__)

RUMC, UMCU = "RUMC", "UMCU"
_CAMELYON16 = re.compile(r"(normal|tumor|test)_(\d{3})", re.IGNORECASE)
_CAMELYON17 = re.compile(r"(patient_(\d{3}))_node_\d", re.IGNORECASE)
_ANNOTATION_FOLDERS = {"annotations", "lesion_annotations"}
_STAGES_FILES = ("stages.csv", "stage_labels.csv")
_REFERENCE_FILE = "reference.csv"
_LAST_OF_RUMC = {"normal": 100, "tumor": 70}
# Renamed from normal_086, so its number says nothing of its centre.
_TUMOR_111 = 111
# Renamed, and a duplicate: the data set's own README removed them, older copies still hold them.
_WITHDRAWN = {"normal_086", "test_049"}
_NOT_EXHAUSTIVE = {
    *(f"tumor_{n:03d}" for n in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)),
    "test_114",
}
_PATIENTS_PER_CENTRE = 20
_TRAINING_PATIENTS = 100


def find_camelyon(root: Path, *, centres: Sequence[str] = (), with_test: bool = False) -> list[Case]:
    """The slides of Camelyon16 and Camelyon17 below a folder that have an annotation or are benign.

    Args:
        root: Either data set, or a folder that holds one or both; in the layout of the public bucket or the older one
            of the challenges.
        centres: Only these: ``RUMC``, ``UMCU``, ``center_0`` to ``center_4``; empty for all.
        with_test: Also Camelyon16's test slides, held out; their centre is not published, ``unknown`` here.

    Raises:
        UserError: no such slides, or one of them twice.
    """
    slides = _by_stem(path for path in root.rglob("*.tif") if not path.stem.lower().endswith("_mask"))
    annotations = _by_stem(path for path in root.rglob("*.xml") if path.parent.name.lower() in _ANNOTATION_FOLDERS)
    classes, numbers = _stages(root)
    tests = _test_classes(root)
    found: list[Case] = []
    skipped: Counter[str] = Counter()
    for stem, slide in sorted(slides.items()):
        if stem in _WITHDRAWN:
            skipped["withdrawn by the data set's authors"] += 1
        elif match := _CAMELYON16.fullmatch(stem):
            if match[1].lower() != "test" or with_test:
                found += _camelyon16(slide, stem, annotations.get(stem), tests)
        elif (match := _CAMELYON17.fullmatch(stem)) and int(match[2]) < _TRAINING_PATIENTS:
            lesion = classes.get(stem)
            if lesion is None or (lesion != "negative" and stem not in annotations):
                skipped["without annotation"] += 1
                continue
            centre = f"center_{numbers.get(stem, int(match[2]) // _PATIENTS_PER_CENTRE)}"
            # Isolated tumour cells were not all outlined.
            unannotated: Unannotated = "ignore" if lesion == "itc" else "background"
            annotation = None if lesion == "negative" else annotations[stem]
            patient = match[1].lower()
            found.append(Case(safe_id(slide.stem), slide, annotation, centre, patient, lesion, unannotated=unannotated))
    for reason, count in skipped.items():
        log.info("%d slides are left out: %s.", count, reason)
    chosen = [slide for slide in found if not centres or slide.centre in centres or slide.subset == "holdout"]
    if not any(slide.subset == "train" for slide in chosen):
        known = sorted({slide.centre for slide in found})
        raise UserError(
            f"{root} holds no usable slide of Camelyon" + (f" from {', '.join(centres)}" if centres else "") + "; "
            f"the centres found are {', '.join(known) or 'none'}, and Camelyon17 needs its stages.csv."
        )
    return chosen


def _camelyon16(slide: Path, stem: str, annotation: Path | None, tests: dict[str, LesionClass]) -> Iterator[Case]:
    """The row of a slide of Camelyon16; each is taken as a patient, as the data set does not tell them apart."""
    kind, number = stem.split("_")
    lesion: LesionClass = tests.get(stem, "unknown") if kind == "test" else "unknown"
    if kind == "normal":
        lesion = "negative"
    if lesion != "negative" and annotation is None:
        log.warning("%s has no annotation and is left out; put its XML into a folder 'annotations'.", slide)
        return
    is_rumc = int(number) == _TUMOR_111 or int(number) <= _LAST_OF_RUMC.get(kind, 0)
    yield Case(
        id=safe_id(slide.stem),
        slide=slide,
        annotation=None if lesion == "negative" else annotation,
        centre="unknown" if kind == "test" else RUMC if is_rumc else UMCU,
        patient=stem,
        lesion=lesion,
        subset="holdout" if kind == "test" else "train",
        unannotated="ignore" if stem in _NOT_EXHAUSTIVE else "background",
    )


def _by_stem(files: Iterable[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for file in sorted(files):
        other = by_stem.setdefault(file.stem.lower(), file)
        if other != file:
            raise UserError(f"{other} and {file} have the same name; keep one of them.")
    return by_stem


def _stages(root: Path) -> tuple[dict[str, LesionClass], dict[str, int]]:
    """Class and centre number of Camelyon17's slides by stem; older files have no centre."""
    classes: dict[str, LesionClass] = {}
    numbers: dict[str, int] = {}
    for name in _STAGES_FILES:
        for path in sorted(root.rglob(name)):
            for row in _rows(path):
                stem, *rest = row
                if not stem.lower().endswith(".tif"):
                    continue  # the header, and the pN stage of a patient
                key = stem.lower().removesuffix(".tif")
                classes[key] = _lesion(rest[:1])
                if len(rest) > 1 and rest[1].isdigit():
                    numbers[key] = int(rest[1])
    return classes, numbers


def _test_classes(root: Path) -> dict[str, LesionClass]:
    """Class of Camelyon16's test slides by stem: name, Normal or Tumor, type of tumour, size."""
    return {row[0].lower(): _lesion(row[1:]) for path in sorted(root.rglob(_REFERENCE_FILE)) for row in _rows(path)}


def _lesion(words: Sequence[str]) -> LesionClass:
    said = {word.strip().lower() for word in words}
    if said & {"normal", "negative"}:
        return "negative"
    return "macro" if "macro" in said else "micro" if "micro" in said else "itc" if "itc" in said else "unknown"


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file ({error}); download it again.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m uga.training.camelyon", description=__doc__)
    parser.add_argument("root", type=Path, help="folder with CAMELYON16, CAMELYON17 or both")
    parser.add_argument("cohort", type=Path, help="CSV to write")
    parser.add_argument("--centre", action="append", default=[], help="RUMC, UMCU, center_0 ... center_4; repeatable")
    parser.add_argument("--test", action="store_true", help="also Camelyon16's test slides, as held-out ones")
    options = parser.parse_args(arguments)
    configure_logging()
    try:
        slides = find_camelyon(options.root, centres=options.centre, with_test=options.test)
        write_cohort(slides, options.cohort)
    except UserError as error:
        parser.exit(error.exit_code, f"{error}\n")
    for (centre, subset, lesion), count in sorted(Counter((s.centre, s.subset, s.lesion) for s in slides).items()):
        log.info("%s, %s: %d %s", centre, subset, count, lesion)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
