"""Which annotation file outside packages belongs to which package or slide: it has the name of what was drawn on."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from uga.corrections.discovery import PICTURE_SUFFIXES, is_annotation
from uga.corrections.outlines import Outlines
from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from uga.corrections.package import Package
    from uga.corrections.predictor import Predictor
    from uga.corrections.refusals import Refusals
    from uga.output.schema import SlideRecord

LABELS_SUFFIX = ".png"
_BESIDE_SUFFIXES = (".geojson", LABELS_SUFFIX)


def files_beside(files: Iterable[Path], packages: Iterable[Path]) -> dict[Path, list[Path]]:
    """``<package>.geojson`` and ``<package>.png`` beside packages, by package folder."""
    beside: dict[Path, list[Path]] = {package: [] for package in packages}
    for file in files:
        if file.suffix.lower() in _BESIDE_SUFFIXES and file.with_suffix("") in beside:
            beside[file.with_suffix("")].append(file)
    return beside


def misnamed_beside(files: Iterable[Path], packages: Iterable[Path]) -> dict[Path, list[Path]]:
    """Pictures beside packages whose names only begin with a package's, by package folder."""
    misnamed: dict[Path, list[Path]] = {package: [] for package in packages}
    neighbours: defaultdict[Path, list[Path]] = defaultdict(list)
    for package in sorted(misnamed, reverse=True):  # of names that begin alike the longest first
        neighbours[package.parent].append(package)
    for file in files:
        if file.suffix.lower() in PICTURE_SUFFIXES:
            name = file.name.casefold()
            mates = (package for package in neighbours[file.parent] if name.startswith(package.name.casefold()))
            if (mate := next(mates, None)) is not None:
                misnamed[mate].append(file)
    return misnamed


def slide_outlines(
    files: Iterable[Path], packages: Sequence[Package], model: Predictor, refusals: Refusals
) -> dict[SlideRecord, list[Outlines]]:
    """The annotation files of slides, read, by slide; what cannot be read or assigned is refused.

    Args:
        files: JSON and XML files; what is no annotation at all is passed over.
        packages: All packages; their slides are the ones known.
        model: Names the labels.
        refusals: Takes the files refused.
    """
    outlines: dict[SlideRecord, list[Outlines]] = {package.record.slide: [] for package in packages}
    named: defaultdict[str, list[Package]] = defaultdict(list)
    for package in packages:
        slide = package.record.slide
        for name in {slide.id.casefold(), slide.file.casefold(), Path(slide.file).stem.casefold()}:
            named[name].append(package)
    for file in files:
        for slide in refusals.attempt(file, partial(_slides, file, named)) or ():
            drawn = refusals.attempt(file, partial(Outlines, file, slide.grid(model.spacing_um), model))
            if drawn is not None:
                outlines[slide].append(drawn)
    return outlines


def _slides(file: Path, named: Mapping[str, Sequence[Package]]) -> set[SlideRecord]:
    """The slide a file is named after; none if the file is no annotation.

    Raises:
        UserError: an annotation with the name of no slide, or of several.
    """
    packages = named.get(file.stem.casefold(), ())
    if not packages:
        if not is_annotation(file):
            return set()
        known = ", ".join(sorted({package.record.slide.id for several in named.values() for package in several}))
        raise UserError(
            f"{file} has the name of no slide of these packages ({known or 'none'}); rename it to its slide."
        )
    if _count(packages) > 1:
        packages = [package for package in packages if file.parent in package.folder.parents]
    if _count(packages) != 1:
        raise UserError(
            f"{file} has the name of several slides; put it in the folder that holds the packages of its own."
        )
    return {package.record.slide for package in packages}


def _count(packages: Iterable[Package]) -> int:
    return len({package.record.slide.quickhash for package in packages})
