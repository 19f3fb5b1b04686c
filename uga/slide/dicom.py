"""DICOM whole-slide images: a folder of instances of one series is one slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import SimpleITK as sitk  # noqa: N813 - the name under which the field knows it

from uga.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path


def series_file(folder: Path) -> Path:
    """Return one file of the folder's only series; OpenSlide finds the others by itself.

    Raises:
        SlideError: No DICOM files, or more than one series.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".dcm" and file.is_file())
    if not files:
        raise SlideError(f"{folder}: a folder without .dcm files is not a slide; name the slide file itself.")
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) > 1:
        raise SlideError(f"{folder}: the folder holds {len(series)} DICOM series; put each slide into its own folder.")
    return files[0]
