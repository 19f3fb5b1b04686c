"""Finds the slides of a run below an input folder; the three layouts are recognised, no flag is needed.

1. grand-challenge: ``inputs.json`` names the sockets; one slide, optionally a tissue mask.
2. DICOM: the ``.dcm`` instances of one series in one folder are one slide.
3. files: every slide below the folder; ``<stem>_tissue.tif|.mha|.png`` beside a slide is its tissue mask, and the name
   of the folder a slide lies in is its centre. Folders named ``masks`` hold references and are not searched.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import SimpleITK

from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

SLIDE_SUFFIXES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".mha"}
)
_MASK_SUFFIXES = (".tif", ".tiff", ".mha", ".png")
_MASK_ENDING = "_tissue"
_MASKS_FOLDER = "masks"
_SOCKET_SUFFIXES = frozenset({".tif", ".tiff", ".mha"})
_SERIES_INSTANCE_UID = "0020|000e"


@dataclass(frozen=True, slots=True)
class SlideInput:
    """One slide to process.

    Attributes:
        path: the slide file, or the folder of one DICOM series.
        slide_id: unique in the run; names its output folder.
        stem: names its output images.
        centre: where it comes from; empty if unknown.
        tissue_mask: the user's tissue mask, if any.
    """

    path: Path
    slide_id: str
    stem: str
    centre: str = ""
    tissue_mask: Path | None = None


def find_slides(folder: Path) -> list[SlideInput]:
    """All slides below ``folder``, in a stable order.

    Raises:
        UserError: the folder does not exist, holds no slide, or its ``inputs.json`` cannot be followed.
    """
    if not folder.is_dir():
        msg = f"The input folder {folder} does not exist; name an existing one with --input."
        raise UserError(msg)
    sockets = folder / "inputs.json"
    if sockets.is_file():
        return [_socket_slide(sockets)]
    slides = [*_dicom_slides(folder), *_file_slides(folder)]
    if not slides:
        known = " ".join(sorted(SLIDE_SUFFIXES | {".dcm"}))
        msg = f"No slide was found below {folder}; put files with one of these endings there: {known}."
        raise UserError(msg)
    return _with_unique_ids(slides, folder)


def _file_slides(folder: Path) -> list[SlideInput]:
    slides = []
    for path in sorted(folder.rglob("*")):
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
    found = [m for s in _MASK_SUFFIXES if (m := slide.with_name(f"{slide.stem}{_MASK_ENDING}{s}")).is_file()]
    if len(found) > 1:
        names = " and ".join(m.name for m in found)
        msg = f"{slide.name} has more than one tissue mask ({names}); keep one."
        raise UserError(msg)
    return found[0] if found else None


def _dicom_slides(folder: Path) -> list[SlideInput]:
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == ".dcm" and path.is_file():
            by_folder[path.parent].append(path)
    slides = []
    for parent, instances in by_folder.items():
        centre = "" if parent == folder else parent.parent.name if parent.parent != folder else ""
        series: dict[str, list[Path]] = defaultdict(list)
        for path in instances:
            series[_series_uid(path)].append(path)
        for members in series.values():
            path, stem = (parent, parent.name) if len(series) == 1 else (members[0], members[0].stem)
            slides.append(SlideInput(path, stem, stem, centre))
    return slides


def _series_uid(path: Path) -> str:
    """Series of a DICOM instance; an unreadable file is a series of its own, and fails by itself when opened."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        return str(reader.GetMetaData(_SERIES_INSTANCE_UID))
    except RuntimeError:
        log.debug("%s: no DICOM series could be read", path.name)
        return f"unreadable {path.name}"


def _with_unique_ids(slides: list[SlideInput], folder: Path) -> list[SlideInput]:
    """Slides whose stems collide are told apart by their path below the input folder."""
    counts = Counter(slide.slide_id.casefold() for slide in slides)
    unique = []
    for slide in slides:
        slide_id = slide.slide_id
        if counts[slide_id.casefold()] > 1:
            slide_id = "_".join(slide.path.relative_to(folder).parts).replace(".", "_")
        unique.append(SlideInput(slide.path, slide_id, slide.stem, slide.centre, slide.tissue_mask))
    return sorted(unique, key=lambda s: s.slide_id)


def _socket_slide(inputs_json: Path) -> SlideInput:
    """The slide and the optional tissue mask that grand-challenge's ``inputs.json`` names."""
    try:
        values = json.loads(inputs_json.read_text(encoding="utf-8"))
        sockets = [_socket(value) for value in values]
        images = [(str(s["slug"]), str(s["relative_path"])) for s in sockets if s["super_kind"] == "Image"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{inputs_json} is not the list of sockets that grand-challenge writes; see docs/inputs.md."
        raise UserError(msg) from error
    masks = [image for image in images if image[0].endswith("tissue-mask")]
    slides = [image for image in images if image not in masks]
    if len(slides) != 1 or len(masks) > 1:
        slugs = ", ".join(slug for slug, _ in images) or "none"
        msg = (
            f"{inputs_json} must name one slide and at most one image socket that ends in 'tissue-mask', but names "
            f"these image sockets: {slugs}."
        )
        raise UserError(msg)
    path = _only_image(inputs_json.parent, slides[0][1])
    mask = _only_image(inputs_json.parent, masks[0][1]) if masks else None
    return SlideInput(path, path.stem, path.stem, tissue_mask=mask)


def _socket(value: dict[str, Any]) -> dict[str, Any]:
    # Platform versions before December 2025 write the key "interface" only.
    socket = value.get("socket") or value["interface"]
    if not isinstance(socket, dict):
        raise TypeError(type(socket).__name__)
    return socket


def _only_image(root: Path, relative_path: str) -> Path:
    folder = (root / relative_path).resolve()
    if not folder.is_relative_to(root.resolve()):
        msg = f"inputs.json names {relative_path}, which lies outside {root}; correct the socket's relative path."
        raise UserError(msg)
    found = _images(folder.iterdir()) if folder.is_dir() else []
    if len(found) != 1:
        msg = f"{root / relative_path} must hold exactly one .tif, .tiff or .mha file but holds {len(found)}."
        raise UserError(msg)
    return found[0]


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in _SOCKET_SUFFIXES and p.is_file())
