"""A training cohort: slides with their reference, centre, patient and lesion class, from a CSV or a folder."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from uga.errors import UserError
from uga.inputs import find_slides
from uga.training.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

LesionClass = Literal["negative", "itc", "micro", "macro", "unknown"]
LESION_CLASSES: tuple[LesionClass, ...] = get_args(LesionClass)
Subset = Literal["train", "holdout"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
Unannotated = Literal["ignore", "background"]
UNANNOTATED: tuple[Unannotated, ...] = get_args(Unannotated)

_Known = TypeVar("_Known", bound=str)

MASK_SUFFIXES = frozenset({".tif", ".tiff"})
SHAPE_SUFFIXES = frozenset({".xml", ".geojson", ".json"})
_ANNOTATION_FOLDERS = ("annotations", "masks")
_MASK_ENDING = "_mask"
_COLUMNS = ("slide", "annotation", "centre", "patient", "class", "split", "unannotated", "tissue")
_COLUMN_ALIASES = {"mask": "annotation", "center": "centre"}
_CLASS_ALIASES = {"": "unknown", "normal": "negative", "benign": "negative", "tumor": "unknown", "tumour": "unknown"}


@dataclass(frozen=True, slots=True)
class Case:
    """One slide of a cohort.

    Attributes:
        id: Unique, safe in file names.
        slide: The slide file or DICOM folder.
        annotation: Reference: a label map (TIFF) or shapes (ASAP XML, GeoJSON) over the whole slide; None for a slide
            that is known to be benign.
        centre: Where the slide comes from.
        patient: Whose slide it is; patches of one patient never stand on both sides of a split.
        lesion: The slide's class.
        subset: Whether it is trained on or held out.
        unannotated: What area outside all shapes is; None leaves it to the run.
        tissue: A tissue mask; None finds tissue in the image.
    """

    id: str
    slide: Path
    annotation: Path | None
    centre: str
    patient: str
    lesion: LesionClass
    subset: Subset = "train"
    unannotated: Unannotated | None = None
    tissue: Path | None = None

    @property
    def has_shapes(self) -> bool:
        """Whether the annotation is shapes, which leave area unannotated; a label map says something everywhere."""
        return self.annotation is not None and self.annotation.suffix.lower() in SHAPE_SUFFIXES


def read_cohort(path: Path) -> tuple[Case, ...]:
    """Read a cohort from a CSV (`read_cohort_csv`) or a folder (`find_cohort`).

    Raises:
        UserError: anything that would spoil a training; all of it is named.
    """
    return find_cohort(path) if path.is_dir() else read_cohort_csv(path)


def read_cohort_csv(path: Path) -> tuple[Case, ...]:
    """Read a cohort CSV: slide, annotation (or mask), centre, patient, class, split, unannotated, tissue.

    Paths are relative to the CSV. Only `slide` and `annotation` are required. A slide of class `negative` may leave
    `annotation` empty. Without `patient`, a slide is its own patient.

    Raises:
        UserError: anything that would spoil a training; all of it is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [_plain(row, path, line) for line, row in enumerate(csv.DictReader(file), start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The cohort {path} cannot be read as a CSV file: {error}.") from error
    if not rows:
        raise UserError(f"The cohort {path} lists no slides; give one row per slide below a header.")
    missing = [column for column in ("slide", "annotation") if column not in rows[0]]
    if missing:
        raise UserError(f"The cohort {path} has no column '{missing[0]}'; its columns are {sorted(rows[0])}.")
    if unknown := sorted(set(rows[0]) - set(_COLUMNS)):
        log.warning("The columns %s of %s mean nothing here; known are %s.", unknown, path, ", ".join(_COLUMNS))
    faults = Faults(f"The cohort {path}")
    cases = []
    for line, row in enumerate(rows, start=2):
        with faults.collect():
            cases.append(_case(row, path, line))
    return _checked(cases, path, faults)


def find_cohort(folder: Path) -> tuple[Case, ...]:
    """Find the slides below a folder and the annotation of each.

    An annotation has its slide's stem (``.xml``, ``.geojson``, ``.json``; a label map is ``<stem>_mask.tif``) and lies
    beside it or in a folder ``annotations`` or ``masks`` beside it. Of the folders around a slide, one named after a
    lesion class gives the class; the innermost other one is the centre. A slide in ``negative`` needs no annotation.
    Every slide is a patient of its own.

    Raises:
        UserError: anything that would spoil a training; all of it is named.
    """
    faults = Faults(f"The cohort {folder}")
    cases = []
    for found in find_slides(folder):
        slide = found.path
        if _is_mask(slide):
            continue
        around = [name.lower() for name in slide.relative_to(folder).parent.parts]
        lesion: LesionClass = next((name for name in LESION_CLASSES if name in around), "unknown")
        centres = [name for name in slide.relative_to(folder).parent.parts if name.lower() not in LESION_CLASSES]
        annotations = _annotations_of(slide)
        if len(annotations) > 1:
            names = " and ".join(str(file.relative_to(folder)) for file in annotations)
            faults.add(f"The slide {slide} has {len(annotations)} annotations ({names}); keep one.")
        elif not annotations and lesion != "negative":
            faults.add(f"The slide {slide} has no annotation; add one, or put it below a folder 'negative'.")
        with faults.collect():
            annotation = _existing(annotations[0], f"The slide {slide}", "annotation") if annotations else None
            case_id = safe_id(found.slide_id)
            centre = centres[-1] if centres else "unknown"
            cases.append(Case(case_id, slide, annotation, centre, "", lesion, tissue=found.tissue_mask))
    log.info("%d slides below %s; each counts as a patient of its own, a CSV can say otherwise.", len(cases), folder)
    return _checked(cases, folder, faults)


def write_cohort(cases: Iterable[Case], path: Path) -> None:
    """Write a cohort CSV that `read_cohort_csv` reads; its paths are relative to it."""

    def relative(file: Path | None) -> str:
        return "" if file is None else os.path.relpath(file.resolve(), path.parent.resolve())

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for case in cases:
            files, about = (case.slide, case.annotation), (case.centre, case.patient, case.lesion, case.subset)
            writer.writerow((*map(relative, files), *about, case.unannotated or "", relative(case.tissue)))


def _is_mask(file: Path) -> bool:
    """Whether a file's name says that it is the label map of a slide beside it, or beside its folder of annotations."""
    beside = [file.parent, *([file.parent.parent] if file.parent.name in _ANNOTATION_FOLDERS else [])]
    stem = file.stem.removesuffix(_MASK_ENDING)
    return stem != file.stem and any(other.stem == stem for folder in beside for other in folder.iterdir())


def _annotations_of(slide: Path) -> list[Path]:
    names = [f"{slide.stem}{suffix}" for suffix in sorted(SHAPE_SUFFIXES)]
    names += [f"{slide.stem}{_MASK_ENDING}{suffix}" for suffix in sorted(MASK_SUFFIXES)]
    beside = [slide.parent, *(slide.parent / folder for folder in _ANNOTATION_FOLDERS)]
    files = [folder / name for folder in beside for name in names]
    # Masks in a folder of their own need no ending to tell them from slides.
    files += [slide.parent / "masks" / f"{slide.stem}{suffix}" for suffix in sorted(MASK_SUFFIXES)]
    return [file for file in files if file.is_file()]


def _plain(row: dict[str | None, str | list[str] | None], cohort: Path, line: int) -> dict[str, str]:
    if any(cell.strip() for cell in row.pop(None, None) or ()):  # where what is beyond the header is gathered
        raise UserError(f"Line {line} of {cohort} has more cells than the header; put what holds a comma in quotes.")
    plain = {key.strip().lower(): str(cell or "").strip() for key, cell in row.items() if key is not None}
    return {_COLUMN_ALIASES.get(name, name): cell for name, cell in plain.items()}


def _case(row: dict[str, str], cohort: Path, line: int) -> Case:
    where = f"Line {line} of {cohort}"
    if not row["slide"]:
        raise UserError(f"{where} names no slide; fill the column 'slide'.")
    slide = cohort.parent / row["slide"]
    if not slide.exists():
        raise UserError(f"{where} names the slide {slide}, which does not exist.")
    named = row.get("class", "").lower()
    lesion = _one_of(_CLASS_ALIASES.get(named, named), LESION_CLASSES, where, "class")
    if row["annotation"]:
        annotation = _existing(cohort.parent / row["annotation"], where, "annotation")
    elif lesion == "negative":
        annotation = None
    else:
        raise UserError(f"{where} has no annotation; only slides of class negative need none.")
    tissue = row.get("tissue", "")
    unannotated = row.get("unannotated", "").lower()
    case_id = safe_id(slide.stem) or f"slide-{line}"
    return Case(
        id=case_id,
        slide=slide,
        annotation=annotation,
        centre=row.get("centre", "") or "unknown",
        patient=row.get("patient", ""),
        lesion=lesion,
        subset=_one_of(row.get("split", "").lower() or "train", SUBSETS, where, "split"),
        unannotated=_one_of(unannotated, UNANNOTATED, where, "unannotated") if unannotated else None,
        tissue=_existing(cohort.parent / tissue, where, "tissue mask") if tissue else None,
    )


def _one_of(value: str, known: tuple[_Known, ...], where: str, column: str) -> _Known:
    for each in known:
        if value == each:
            return each
    raise UserError(f"{where} has the unknown {column} '{value}'; use one of {', '.join(known)}.")


def _existing(file: Path, where: str, what: str) -> Path:
    if file.suffix.lower() not in MASK_SUFFIXES | SHAPE_SUFFIXES and what == "annotation":
        known = " ".join(sorted(MASK_SUFFIXES | SHAPE_SUFFIXES))
        raise UserError(f"{where} names the annotation {file}, which is of no known kind; use one of {known}.")
    if not file.is_file() or file.stat().st_size == 0:
        raise UserError(f"{where} names the {what} {file}, which is missing or empty.")
    return file


def safe_id(name: str) -> str:
    """A name as an id: letters, digits and hyphens; empty if it has none of these."""
    return re.sub(r"[^0-9A-Za-z-]+", "-", name).strip("-")


def _checked(cases: list[Case], cohort: Path, faults: Faults) -> tuple[Case, ...]:
    by_slide: dict[Path, list[Case]] = defaultdict(list)
    for case in cases:
        by_slide[case.slide.resolve()].append(case)
    for same in by_slide.values():
        if len(same) > 1:
            faults.add(
                f"The cohort {cohort} lists the slide '{same[0].slide}' {len(same)} times; keep one annotation of it."
            )
    unique = _with_unique_ids([same[0] for same in by_slide.values()])
    for patient, subsets in _subsets_of_patients(unique).items():
        if len(subsets) > 1:
            faults.add(
                f"The cohort {cohort} has slides of patient '{patient}' both in training and held out; "
                "keep a patient on one side."
            )
    faults.raise_if_any()
    return unique


def _subsets_of_patients(cases: Iterable[Case]) -> dict[str, set[str]]:
    subsets: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        subsets[case.patient].add(case.subset)
    return subsets


def _with_unique_ids(cases: list[Case]) -> tuple[Case, ...]:
    """Slides of equal names are told apart by their folder, then by number; one without a patient is its own."""
    taken: set[str] = set()
    unique = []
    for case in cases:
        number, case_id = 1, case.id
        while case_id.casefold() in taken:
            number += 1
            suffix = "" if number == 2 else f"-{number}"
            case_id = f"{safe_id(case.slide.parent.name)}-{case.id}{suffix}"
        taken.add(case_id.casefold())
        unique.append(replace(case, id=case_id, patient=case.patient or case_id))
    return tuple(unique)
