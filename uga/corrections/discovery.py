"""Finds packages and annotation files below a folder; links are not followed, and links that lead out are told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from uga.corrections.package import CORRECTION_FILE
from uga.errors import UserError
from uga.output.files import PARTIAL_SUFFIX
from uga.output.package import ANNOTATION_FILE, PACKAGES_FOLDER, PREDICTION_FILE, RECORD_FILE

_PACKAGE_FILES = {CORRECTION_FILE, PREDICTION_FILE, ANNOTATION_FILE}
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".xcf", ".psd"})
"""What paint programs save; of these only PNG is read."""
_PICTURE_SUFFIX = ".png"
_SUFFIXES = {".xml", ".geojson", ".json", _PICTURE_SUFFIX}
_MARKS = (b"ASAP_Annotations", b"FeatureCollection", b'"Feature"', b"path_points")
_HEAD_BYTES = 1 << 16


@dataclass(slots=True)
class Found:
    """What lies below a folder, each list sorted by path.

    Attributes:
        packages: Folders.
        files: Outside packages: JSON, XML and PNG files, whatever they hold.
        pictures: Outside packages: pictures of kinds that are not read.
        leaving: Links to places outside.
        unreadable: Folders that may not be looked into.
    """

    packages: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    leaving: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


def search(folder: Path) -> Found:
    """Everything below ``folder`` that can be or hold a correction; hidden and unfinished names are passed over.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the folder that holds the corrected packages.")
    found = Found()
    for parent, folders, names in os.walk(folder, onerror=lambda error: found.unreadable.append(Path(error.filename))):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if is_shown(name))
        shown = [name for name in names if is_shown(name)]
        if RECORD_FILE in shown or (not shown and not folders and here.parent.name == PACKAGES_FOLDER):
            found.packages.append(here)
            folders.clear()
            continue
        # A package without its record, or a file that was saved one folder too high: below it there may be others.
        stray = _PACKAGE_FILES.intersection(shown)
        if stray:
            found.packages.append(here)
        files = [here / name for name in shown if name not in stray and Path(name).suffix.lower() in _SUFFIXES]
        leaving = [path for path in (*(here / name for name in folders), *files) if is_leaving(path, folder)]
        found.leaving += leaving
        found.files += [path for path in files if path not in leaving]
        unread = PICTURE_SUFFIXES - _SUFFIXES
        found.pictures += [here / name for name in shown if Path(name).suffix.lower() in unread]
    for paths in (found.packages, found.files, found.pictures, found.leaving, found.unreadable):
        paths.sort()
    return found


def check_name(path: Path, folder: Path) -> None:
    """Refuse a package below ``folder`` whose name, or that of a folder it lies in, no report can hold.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        "".join((path.name, *path.relative_to(folder).parts)).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"The name of {path} is not UTF-8, which no JSON file can hold; rename it.") from error


def is_shown(name: str) -> bool:
    """Whether a name is neither hidden nor that of something unfinished."""
    return not name.startswith(".") and not name.endswith(PARTIAL_SUFFIX)


def is_leaving(path: Path, folder: Path) -> bool:
    """Whether a path leads out of the folder by a link."""
    return not path.resolve().is_relative_to(folder.resolve())


def is_annotation(path: Path) -> bool:
    """Whether a file outside packages was meant as annotation, by its suffix or its beginning."""
    suffix = path.suffix.lower()
    if suffix in (".geojson", _PICTURE_SUFFIX):
        return suffix != _PICTURE_SUFFIX
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return any(mark in head for mark in _MARKS)
