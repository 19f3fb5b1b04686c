"""grand-challenge's sockets: which input is the slide, which the tissue mask, and where the outputs go.

The platform writes ``inputs.json``, a list with one entry per input socket: its slug and the folder below the input
where its only image lies. Slugs and output paths belong to a challenge; ``sockets.json`` names them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uga.errors import UserError
from uga.model.card import first_problem
from uga.output.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

INPUTS_FILE = "inputs.json"
SOCKETS_FILE = "sockets.json"
_MASK_ENDING = "tissue-mask"
_IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".mha"})
_DICOM_SUFFIX = ".dcm"

Role = Literal["slide", "tissue mask"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class InputSockets(BaseModel):
    """Slugs of the input sockets, one list per role.

    An empty ``tissue_mask`` stands for every slug that ends in ``tissue-mask``, an empty ``slide`` for every other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slide: tuple[Slug, ...] = ()
    tissue_mask: tuple[Slug, ...] = ()

    @model_validator(mode="after")
    def _roles_differ(self) -> Self:
        if both := sorted(set(self.slide) & set(self.tissue_mask)):
            raise ValueError(f"{both[0]} cannot be both slide and tissue_mask")
        return self

    def role(self, slug: str) -> Role | None:
        """What a slug stands for, or None if it is not one of these sockets."""
        if slug in self.slide:
            return "slide"
        if slug in self.tissue_mask or (not self.tissue_mask and slug.endswith(_MASK_ENDING)):
            return "tissue mask"
        return None if self.slide else "slide"

    def __str__(self) -> str:
        slides = ", ".join(self.slide) or "any"
        return f"slide: {slides}; tissue mask: {', '.join(self.tissue_mask) or f'*{_MASK_ENDING}'}"


class Sockets(BaseModel):
    """The content of ``sockets.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["1.0"] = "1.0"
    inputs: InputSockets = InputSockets()
    outputs: Layout = Layout()


@dataclass(frozen=True, slots=True)
class SocketImages:
    """The images of one job; ``slide`` is a file, or the folder of a DICOM series."""

    slide: Path
    tissue_mask: Path | None


def load_sockets(choice: Path | None, model: Path) -> Sockets:
    """The sockets to use: the user's file, else the model folder's, else the defaults.

    Raises:
        UserError: the file cannot be read or does not describe sockets.
    """
    path = model / SOCKETS_FILE if choice is None else choice
    if choice is None and not path.is_file():
        return Sockets()
    try:
        return Sockets.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name an existing file with --sockets.") from error
    except ValidationError as error:
        raise UserError(f"{path} is not valid ({first_problem(error)}); see docs/grand-challenge.md.") from error


def find_images(inputs_json: Path, sockets: InputSockets) -> SocketImages:
    """The slide and the optional tissue mask that ``inputs.json`` names.

    Raises:
        UserError: the file cannot be understood, names an unknown socket, no slide or several, or an image is missing.
    """
    found: dict[Role, list[tuple[str, str]]] = {"slide": [], "tissue mask": []}
    for slug, relative_path in _image_sockets(inputs_json):
        role = sockets.role(slug)
        if role is None:
            raise UserError(
                f"{inputs_json} names the image socket {slug}, which this algorithm does not know ({sockets}); "
                f"correct the job or list it in {SOCKETS_FILE}."
            )
        found[role].append((slug, relative_path))
    slides, masks = found["slide"], found["tissue mask"]
    if not slides:
        raise UserError(f"{inputs_json} names no slide ({sockets}); give the job a whole-slide image.")
    for kind, images in found.items():
        if len(images) > 1:
            slugs = ", ".join(slug for slug, _ in images)
            raise UserError(
                f"{inputs_json} names {len(images)} images as {kind} ({slugs}), but a job has one; start a job for "
                f"each, or give them their roles in {SOCKETS_FILE}."
            )
    return SocketImages(
        slide=_only_image(inputs_json.parent, slides[0][1], dicom=True),
        tissue_mask=_only_image(inputs_json.parent, masks[0][1], dicom=False) if masks else None,
    )


def _image_sockets(inputs_json: Path) -> list[tuple[str, str]]:
    """Slug and relative path of every image socket; sockets of other kinds play no part in a run."""
    try:
        sockets = [_socket(value) for value in json.loads(inputs_json.read_text(encoding="utf-8"))]
        images = [(str(s["slug"]), str(s["relative_path"])) for s in sockets if s["super_kind"] == "Image"]
        ignored = [str(s["slug"]) for s in sockets if s["super_kind"] != "Image"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{inputs_json} is not the list of sockets that grand-challenge writes; see docs/grand-challenge.md."
        ) from error
    if ignored:
        log.info("not used: %s", ", ".join(ignored))
    return images


def _socket(value: dict[str, Any]) -> dict[str, Any]:
    # Platform versions before December 2025 write the key "interface" only.
    socket = value.get("socket") or value["interface"]
    if not isinstance(socket, dict):
        raise TypeError(type(socket).__name__)
    return socket


def _only_image(root: Path, relative_path: str, *, dicom: bool) -> Path:
    folder = root / relative_path
    # The platform's /input is itself a link, so both sides are resolved, but only to compare them.
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{INPUTS_FILE} names {relative_path}, which lies outside {root}; correct the socket's relative path."
        )
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if dicom and any(path.suffix.lower() == _DICOM_SUFFIX for path in files):
        return folder
    images = [path for path in files if path.suffix.lower() in _IMAGE_SUFFIXES]
    if len(images) != 1:
        raise UserError(f"{folder} must hold exactly one .tif, .tiff or .mha file but holds {len(images)}.")
    return images[0]
