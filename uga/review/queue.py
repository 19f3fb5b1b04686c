"""The patches of an output folder, in the order in which they are worth a correction."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from uga.corrections.correcting import correcting_files
from uga.corrections.discovery import check_name, search
from uga.corrections.package import CORRECTION_FILE, open_package
from uga.corrections.refusals import Refusals
from uga.corrections.slides import files_beside
from uga.errors import UserError
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.package import ANNOTATION_FILE, PREDICTION_FILE, RECORD_FILE
from uga.output.schema import RankedPatches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from uga.corrections.correction import Refusal
    from uga.corrections.package import Package
    from uga.output.schema import PatchRecord, Review

State = Literal["new", "started", "corrected", "confirmed", "skipped"]
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """A patch to review.

    Attributes:
        id: What its addresses hold; says nothing about files.
        place: 1, 2, 3, ... in the queue.
        name: Its folder below the reviewed one, with forward slashes.
        folder: Its package.
        record: Its record as it was when the queue was made.
        beside: Files of other tools beside the package.
    """

    id: str
    place: int
    name: str
    folder: Path
    record: PatchRecord
    beside: tuple[Path, ...]

    def read(self) -> Package:
        """The package as it is now.

        Raises:
            UserError: its record is gone or damaged, or something in it is a link.
        """
        return _open(self.folder)

    def stamp(self) -> str:
        """Changes with whatever a reviewer, or another tool, has done to the package; needs no file to be read."""
        files = (self.folder / name for name in ("", RECORD_FILE, CORRECTION_FILE, ANNOTATION_FILE, PREDICTION_FILE))
        times = [_changed_ns(path) for path in (*files, *self.beside)]
        return hashlib.sha256(repr(times).encode()).hexdigest()[:_ID_DIGITS]


@dataclass(frozen=True, slots=True)
class Standing:
    """What has become of a patch; ``review`` is None where another tool has left a correction, or nobody has."""

    state: State
    review: Review | None


@dataclass(frozen=True, slots=True)
class Queue:
    """What can be reviewed below a folder, and what cannot."""

    folder: Path
    entries: Mapping[str, Entry]
    problems: tuple[Refusal, ...]

    @classmethod
    def find(cls, folder: Path) -> Queue:
        """Look for packages: of one slide, of several, of `uga rank` or of `uga export-patches`.

        Order: as in the folder's own ``ranked-patches.json``; packages that it does not name follow, those of one slide
        by rank, those of several by score.

        Raises:
            UserError: there is no package.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; name the output folder whose patches are to be reviewed.")
        found, refusals = search(folder), Refusals(folder)
        opened = [refusals.attempt(path, partial(_find, path, folder)) for path in found.packages]
        packages = [package for package in opened if package is not None]
        if not packages:
            more = f" ({refusals.noted[0].reason})" if refusals.noted else ""
            raise UserError(f"{folder} holds no patch to review{more}; name an output folder of `uga infer`.")
        beside = files_beside(found.files, found.packages)
        entries = {}
        for place, package in enumerate(_in_order(packages, folder), start=1):
            name = package.folder.relative_to(folder).as_posix() if package.folder != folder else folder.name
            identity = hashlib.sha256(name.encode()).hexdigest()[:_ID_DIGITS]
            entries[identity] = Entry(
                identity, place, name, package.folder, package.record, tuple(beside[package.folder])
            )
        return cls(folder, entries, tuple(refusals.noted))


def standing(package: Package) -> Standing:
    """What has become of a package."""
    review = package.record.review
    if review is not None:
        return Standing(review.state, review)
    # Work under a name that is not read is `finetune`'s to refuse; here it corrects nothing.
    found = correcting_files(package, Refusals(package.folder))
    return Standing("corrected" if found else "new", None)


def _find(path: Path, folder: Path) -> Package:
    check_name(path, folder)
    return _open(path)


def _open(folder: Path) -> Package:
    """A package that can be read and written without touching anything outside.

    Raises:
        UserError: as `open_package`; or there is a link in it, under whatever name.
    """
    path = next(_links(folder), None)
    if path is not None:
        raise UserError(f"{path} is a link, and `uga review` follows none; put the file itself in its place.")
    return open_package(folder)


def _links(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        yield from (path for name in (*folders, *names) if (path := Path(parent, name)).is_symlink())


def _in_order(packages: list[Package], folder: Path) -> list[Package]:
    listed = {(folder / name).resolve(): place for place, name in enumerate(_listed(folder))}
    one_slide = len({package.record.slide.quickhash for package in packages}) == 1

    def key(package: Package) -> tuple[float, float, str]:
        place = listed.get(package.folder.resolve(), len(listed))
        patch = package.record.patch
        return place, patch.rank if one_slide else -patch.score_mean, package.folder.as_posix()

    return sorted(packages, key=key)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _listed(folder: Path) -> list[str]:
    """Packages named by the folder's list; a list in a place of its own is one slide's, whose packages have ranks."""
    try:
        ranked = RankedPatches.model_validate_json((folder / DEFAULT_LAYOUT.ranked_patches).read_bytes())
    except (OSError, ValidationError):
        return []
    return [patch.folder for patch in ranked.patches if patch.folder is not None]
