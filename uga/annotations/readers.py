"""Reads annotation files; the format is told by the content, not by the name."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING, Literal

from uga.annotations.asap import read_asap
from uga.annotations.geojson import GeoJsonReader
from uga.annotations.grand_challenge import GrandChallengeReader
from uga.annotations.jsonstream import JsonStream, MalformedError
from uga.annotations.shapes import Shape, split_regions
from uga.errors import UserError
from uga.geometry import LEVEL0_CORNER

if TYPE_CHECKING:
    from pathlib import Path

    from uga.geometry import Level0Point, SpacingUm

Format = Literal["asap", "geojson", "grand-challenge"]

log = logging.getLogger(__name__)

_HEAD_BYTES = 1 << 10
_MAX_NUMBERS_TOLD = 5
_KEYS: dict[str, Format] = {
    "features": "geojson",
    "geometry": "geojson",
    "polygons": "grand-challenge",
    "path_points": "grand-challenge",
}


def read_annotation(path: Path, mpp: SpacingUm | None = None) -> tuple[Shape, ...]:
    """The labelled areas of a file, in painting order, in level-0 pixels; frames of class ``Region*`` are left out.

    Args:
        path: ASAP XML, GeoJSON, or polygons of grand-challenge.
        mpp: Spacing of the slide's level 0; only grand-challenge's polygons need it, which are in mm.

    Raises:
        UserError: the file cannot be read, is unsafe, of no known format, or holds no polygon.
    """
    shapes, _ = split_regions(read_shapes(path, mpp))
    if not shapes:
        raise UserError(f"{path} holds no polygon; draw outlines and export them all.")
    return shapes


def read_shapes(
    path: Path, mpp: SpacingUm | None = None, *, qupath_origin: Level0Point = LEVEL0_CORNER
) -> tuple[Shape, ...]:
    """As `read_annotation`, with frames; may be empty if the file is a list of none.

    Points, lines, cells and outlines of fewer than three points are left out with a warning.

    Args:
        path: As for `read_annotation`.
        mpp: As for `read_annotation`.
        qupath_origin: Level-0 corner from which the coordinates of GeoJSON count.

    Raises:
        UserError: as `read_annotation`.
    """
    left_out: list[int] = []
    try:
        with path.open("rb") as file:
            shapes = tuple(_read(file, mpp, qupath_origin, left_out))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check that it exists and its rights.") from error
    except MalformedError as error:
        raise UserError(f"{path} {error}.") from error
    if left_out:
        told = ", ".join(map(str, left_out[:_MAX_NUMBERS_TOLD])) + (
            ", ..." if len(left_out) > _MAX_NUMBERS_TOLD else ""
        )
        log.warning("%s: %d of its objects are no area and left out (number %s).", path, len(left_out), told)
    return shapes


def detect_format(path: Path) -> Format | None:
    """The format of a file by its beginning; None for none of them.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return _format(file)


def _format(file: IO[bytes]) -> Format | None:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"<" or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "asap"
    if start == b"[":
        return "geojson"
    return _json_format(file) if start == b"{" else None


def _json_format(file: IO[bytes]) -> Format | None:
    """By the first telling key; a damaged file counts as GeoJSON, whose reader says what is wrong."""
    stream = JsonStream(file)
    try:
        stream.next()
        for key in stream.members():
            if key in _KEYS:
                return _KEYS[key]
            stream.skip()
    except MalformedError:
        return "geojson"
    finally:
        file.seek(0)
    return None


def _read(file: IO[bytes], mpp: SpacingUm | None, qupath_origin: Level0Point, left_out: list[int]) -> list[Shape]:
    kind = _format(file)
    if kind == "asap":
        return read_asap(file, left_out)
    if kind == "geojson":
        shapes = GeoJsonReader(JsonStream(file), left_out).shapes()
        return [shape.moved(qupath_origin.x, qupath_origin.y) for shape in shapes]
    if kind == "grand-challenge":
        if mpp is None:
            raise MalformedError("holds polygons of grand-challenge in mm", "give them as ASAP XML or GeoJSON")
        return list(GrandChallengeReader(JsonStream(file), mpp, left_out).shapes())
    raise MalformedError("is neither ASAP XML nor GeoJSON nor polygons in JSON" if file.read(1) else "is empty")
