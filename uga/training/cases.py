"""A training cohort: slides with their reference, centre, patient and lesion class, read from a CSV."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from uga.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

LesionClass = Literal["negative", "itc", "micro", "macro", "unknown"]
LESION_CLASSES: tuple[LesionClass, ...] = get_args(LesionClass)

_ALIASES = {"annotation": "mask", "center": "centre"}


@dataclass(frozen=True, slots=True)
class Case:
    """One slide of a cohort.

    Attributes:
        id: Unique, safe in file names.
        slide: The slide file or DICOM folder.
        mask: Reference label map over the whole slide; None for a slide that is known to be benign.
        centre: Where the slide comes from.
        patient: Whose slide it is; patches of one patient never stand on both sides of a split.
        lesion: The slide's class.
    """

    id: str
    slide: Path
    mask: Path | None
    centre: str
    patient: str
    lesion: LesionClass


def read_cohort(path: Path) -> tuple[Case, ...]:
    """Read a cohort CSV: columns slide, mask, centre, patient, class; paths are relative to the CSV.

    Only `slide` and `mask` are required. A slide of class `negative` may leave `mask` empty. Without `patient`, a
    slide is its own patient.

    Raises:
        UserError: anything that would spoil a training: unknown class, missing file, a slide twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [_plain(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The cohort {path} cannot be read as a CSV file: {error}.") from error
    if not rows:
        raise UserError(f"The cohort {path} lists no slides; give one row per slide below a header.")
    missing = [column for column in ("slide", "mask") if column not in rows[0]]
    if missing:
        raise UserError(f"The cohort {path} has no column '{missing[0]}'; its columns are {sorted(rows[0])}.")
    cases = tuple(_case(row, path, line) for line, row in enumerate(rows, start=2))
    for case_id, count in Counter(case.id for case in cases).items():
        if count > 1:
            raise UserError(f"The cohort {path} lists the slide '{case_id}' {count} times; keep one annotation of it.")
    return cases


def _plain(row: dict[str, str | None]) -> dict[str, str]:
    names = {key: (key or "").strip().lower() for key in row}
    return {_ALIASES.get(name, name): (row[key] or "").strip() for key, name in names.items()}


def _case(row: dict[str, str], cohort: Path, line: int) -> Case:
    where = f"Line {line} of {cohort}"
    if not row["slide"]:
        raise UserError(f"{where} names no slide; fill the column 'slide'.")
    slide = cohort.parent / row["slide"]
    if not slide.exists():
        raise UserError(f"{where} names the slide {slide}, which does not exist.")
    lesion = row.get("class", "").lower() or "unknown"
    if lesion not in LESION_CLASSES:
        raise UserError(f"{where} has the unknown class '{lesion}'; use one of {', '.join(LESION_CLASSES)}.")
    mask: Path | None = None
    if row["mask"]:
        mask = cohort.parent / row["mask"]
        if not mask.is_file() or mask.stat().st_size == 0:
            raise UserError(f"{where} names the mask {mask}, which is missing or empty.")
    elif lesion != "negative":
        raise UserError(f"{where} has no mask; only slides of class negative need none.")
    case_id = re.sub(r"[^0-9A-Za-z-]+", "-", slide.stem).strip("-") or f"slide-{line}"
    return Case(
        id=case_id,
        slide=slide,
        mask=mask,
        centre=row.get("centre", "") or "unknown",
        patient=row.get("patient", "") or case_id,
        lesion=lesion,
    )
