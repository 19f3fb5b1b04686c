"""DICOM whole-slide images: a folder of instances of one series is one slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
from pydicom.errors import InvalidDicomError

from uga.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path


def series_file(folder: Path) -> Path:
    """Return one file of the folder's only series; OpenSlide finds the others by itself.

    Raises:
        SlideError: No DICOM files, or more than one series.
    """
    files = instances(folder)
    if not files:
        raise SlideError(f"{folder}: a folder without .dcm files is not a slide; name the slide file itself.")
    series = {series_uid(file) for file in files} - {None}
    if len(series) > 1:
        raise SlideError(f"{folder}: the folder holds {len(series)} DICOM series; put each slide into its own folder.")
    return files[0]


def instances(folder: Path) -> list[Path]:
    """The DICOM files right in a folder, in a stable order, but hidden ones (macOS leaves ``._1.dcm`` beside files)."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() == ".dcm" and not file.name.startswith(".") and file.is_file()
    )


def series_uid(file: Path) -> str | None:
    """The series of an instance, of which no pixel is read; None if the file cannot be read as DICOM."""
    try:
        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, OSError, ValueError, AttributeError, NotImplementedError, EOFError):
        return None
    return str(head.SeriesInstanceUID) if "SeriesInstanceUID" in head else None
