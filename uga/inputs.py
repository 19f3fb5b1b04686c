"""Finds the slides of a run below an input folder; the three layouts are recognised, no flag is needed.

1. grand-challenge: ``inputs.json`` names the sockets (`uga.sockets`); one slide, optionally a tissue mask.
2. DICOM: the ``.dcm`` instances of one series in one folder are one slide.
3. files: every slide below the folder; ``<stem>_tissue.tif|.mha|.png`` beside a slide is its tissue mask, and the name
   of the folder a slide lies in is its centre. Folders named ``masks`` hold references and are not searched.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.output.layout import DEFAULT_LAYOUT, Layout
from uga.slide.dicom import series_uid
from uga.sockets import INPUTS_FILE, Sockets, find_images

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

SLIDE_SUFFIXES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".mha"}
)
_MASK_SUFFIXES = (".tif", ".tiff", ".mha", ".png")
_MASK_ENDING = "_tissue"
_MASKS_FOLDER = "masks"


@dataclass(frozen=True, slots=True)
class SlideInput:
    """One slide to process.

    Attributes:
        path: the slide file, or the folder of one DICOM series.
        slide_id: unique in the run; names its output folder.
        stem: names its output images.
        centre: where it comes from; empty if unknown.
        tissue_mask: the user's tissue mask, if any.
        layout: where its outputs go.
        owns_output: whether the output folder is for this slide alone, as that of a platform's job is; results of
            another slide in it are then leftovers, else somebody's.
    """

    path: Path
    slide_id: str
    stem: str
    centre: str = ""
    tissue_mask: Path | None = None
    layout: Layout = DEFAULT_LAYOUT
    owns_output: bool = False


def find_slides(folder: Path, sockets: Sockets | None = None, *, without: Iterable[Path] = ()) -> list[SlideInput]:
    """All slides below ``folder``, in a stable order.

    Args:
        folder: the input folder.
        sockets: the algorithm's sockets, for jobs of grand-challenge; None takes the defaults.
        without: folders below it that are not searched, such as those of results, whose maps are no slides.

    Raises:
        UserError: the folder does not exist, cannot be listed, holds no slide, or its ``inputs.json`` cannot be
            followed; a slide has a name that no JSON file can hold.
    """
    if not folder.is_dir():
        msg = f"The input folder {folder} does not exist; name an existing one with --input."
        raise UserError(msg)
    if (folder / INPUTS_FILE).is_file():
        return [_socket_slide(folder / INPUTS_FILE, sockets or Sockets())]
    files = sorted(_files_below(folder))
    root = folder.resolve()
    left_out = [place for each in without if (place := each.resolve()) != root and place.is_relative_to(root)]
    slides = [
        slide
        for slide in (*_dicom_slides(files, folder), *_file_slides(files, folder))
        if not any(slide.path.resolve().is_relative_to(each) for each in left_out)
    ]
    if not slides:
        known = " ".join(sorted(SLIDE_SUFFIXES | {".dcm"}))
        msg = f"No slide was found below {folder}; put files with one of these endings there: {known}."
        raise UserError(msg)
    for slide in slides:
        _check_name(slide.path)
    return _with_unique_ids(slides, folder)


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise UserError(f"The name of {shown} is not UTF-8, which no JSON file can hold; rename it.") from error


def _files_below(root: Path) -> Iterator[Path]:
    """All files at any depth, also behind links to folders, but hidden ones: macOS leaves ``._a.svs`` beside ``a.svs``.

    Links come last, and each folder but once: what lies below ``root`` is found in its own place.
    """

    def refuse(error: OSError) -> None:
        if Path(error.filename) == root:
            msg = f"The input folder {root} cannot be listed ({error.strerror}); check its permissions."
            raise UserError(msg) from error
        log.warning("%s cannot be listed (%s), so no slide is sought there; check its permissions.",
                    error.filename, error.strerror)  # fmt: skip

    seen = set(root.resolve().parents)  # links may lead round in circles
    tops = [root]
    for top in tops:
        for name, folders, files in os.walk(top, onerror=refuse):
            place = Path(name)
            if (real := place.resolve()) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            yield from (place / each for each in files if not each.startswith("."))
            tops += [link for each in folders if (link := place / each).is_symlink()]


def _file_slides(files: Sequence[Path], folder: Path) -> list[SlideInput]:
    slides = []
    for path in files:
        if path.suffix.lower() not in SLIDE_SUFFIXES or not path.is_file() or _is_mask(path):
            continue
        if _MASKS_FOLDER in path.relative_to(folder).parent.parts:
            continue
        centre = "" if path.parent == folder else path.parent.name
        slides.append(SlideInput(path, path.stem, path.stem, centre, _mask_beside(path)))
    return slides


def _is_mask(path: Path) -> bool:
    """A file named like a mask is one only where the slide it belongs to lies beside it."""
    if not path.stem.endswith(_MASK_ENDING) or path.suffix.lower() not in _MASK_SUFFIXES:
        return False
    slide_stem = path.stem.removesuffix(_MASK_ENDING)
    return any(p.stem == slide_stem and p.suffix.lower() in SLIDE_SUFFIXES for p in path.parent.iterdir())


def _mask_beside(slide: Path) -> Path | None:
    endings = [ending for suffix in _MASK_SUFFIXES for ending in (suffix, suffix.upper())]
    found = [m for e in endings if (m := slide.with_name(f"{slide.stem}{_MASK_ENDING}{e}")).is_file()]
    if len(found) > 1:
        names = " and ".join(m.name for m in found)
        msg = f"{slide.name} has more than one tissue mask ({names}); keep one."
        raise UserError(msg)
    return found[0] if found else None


def _dicom_slides(files: Sequence[Path], folder: Path) -> list[SlideInput]:
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() == ".dcm" and path.is_file():
            by_folder[path.parent].append(path)
    slides = []
    for parent, instances in by_folder.items():
        centre = "" if parent == folder else parent.parent.name if parent.parent != folder else ""
        series: dict[str, list[Path]] = defaultdict(list)
        for path in instances:
            # An unreadable file is a series of its own, and fails by itself when opened.
            series[series_uid(path) or f"unreadable {path.name}"].append(path)
        for members in series.values():
            path, stem = (parent, parent.resolve().name) if len(series) == 1 else (members[0], members[0].stem)
            slides.append(SlideInput(path, stem, stem, centre))
    return slides


def _with_unique_ids(slides: list[SlideInput], folder: Path) -> list[SlideInput]:
    """Slides whose stems collide are told apart by their path below the input folder, if need be by a number too."""
    counts = Counter(slide.slide_id.casefold() for slide in slides)
    taken = {name for name, count in counts.items() if count == 1}
    unique = []
    for slide in slides:
        slide_id = slide.slide_id
        if counts[slide_id.casefold()] > 1:
            # A series right in the input folder has no path below it.
            place = "_".join(slide.path.relative_to(folder).parts).replace(".", "_") or slide_id
            slide_id = _unused(place, taken)
            taken.add(slide_id.casefold())
        unique.append(replace(slide, slide_id=slide_id))
    return sorted(unique, key=lambda s: s.slide_id)


def _unused(name: str, taken: Container[str]) -> str:
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each.casefold() not in taken)


def _socket_slide(inputs_json: Path, sockets: Sockets) -> SlideInput:
    images = find_images(inputs_json, sockets.inputs)
    stem = images.slide.name if images.slide.is_dir() else images.slide.stem
    mask, layout = images.tissue_mask, sockets.outputs
    return SlideInput(images.slide, stem, stem, tissue_mask=mask, layout=layout, owns_output=True)
