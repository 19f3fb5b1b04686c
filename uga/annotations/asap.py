"""ASAP's XML, as Camelyon16 and Camelyon17 ship it, in level-0 pixels."""

from __future__ import annotations

from array import array
from typing import IO, TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from uga.annotations.jsonstream import MAX_POINTS, MalformedError, checked_point, too_many_points
from uga.annotations.shapes import Shape, to_polygon

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKGROUND_CLASS = "background"

_ROOT = "ASAP_Annotations"
_NO_AREA = {"dot", "pointset", "measurement", "none"}
_CHUNK_BYTES = 1 << 20
# Camelyon17's normal tissue within metastases; elsewhere normal tissue is drawn around tumour as well.
_CAMELYON17 = {"metastases", "normal"}


def read_asap(file: IO[bytes], left_out: list[int]) -> list[Shape]:
    """The shapes of a file.

    A shape's class is its group. A spline is the polygon of its points, as in ASAP's own conversion to masks. ASAP
    knows no holes: Camelyon draws them as shapes of a group of their own (``_2``, ``Exclusion``; ``normal`` beside
    ``metastases``), anywhere in the file, and its own conversion paints them last, so these come last. A file with a
    group ``background`` says with it what is a hole, in its order.

    Args:
        file: The file, at its start.
        left_out: Gets the numbers of points, measurements and outlines of fewer than three points.

    Raises:
        MalformedError: no XML, unsafe XML, or not ASAP's.
    """
    target = _Target(left_out)
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        while chunk := file.read(_CHUNK_BYTES):
            parser.feed(chunk)
        parser.close()
    except DefusedXmlException as error:
        raise MalformedError(
            "declares entities, which are not read as they can be an attack", "save it in ASAP"
        ) from error
    except ParseError as error:
        raise MalformedError(f"is no valid XML ({error})") from error
    except (ValueError, LookupError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"is no XML that can be read ({error})") from error
    groups = {shape.class_name.casefold() for shape in target.shapes}
    if BACKGROUND_CLASS in groups:
        return target.shapes
    holes = {"_2", "exclusion"} | ({"normal"} if groups >= _CAMELYON17 else set())
    return sorted(target.shapes, key=lambda shape: shape.class_name.casefold() in holes)


class _Target:
    """Takes what the parser finds; no tree is built, so that memory follows the points."""

    def __init__(self, left_out: list[int]) -> None:
        self.shapes: list[Shape] = []
        self._left_out = left_out
        self._annotation: Mapping[str, str] = {}
        self._coordinates = array("d")  # order, x, y
        self._has_root = False
        self._number = self._points = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._has_root and tag != _ROOT:
            raise MalformedError(f"is no annotation of ASAP (it begins with <{tag}>)", "save it in ASAP")
        self._has_root = True
        if tag == "Annotation":
            self._number += 1
            self._annotation = attributes
            self._coordinates = array("d")
        elif tag == "Coordinate":
            self._points += 1
            if self._points > MAX_POINTS:
                raise too_many_points()
            self._coordinates.extend(self._ordered_point(attributes))

    def end(self, tag: str) -> None:
        if tag != "Annotation":
            return
        polygon = None
        if self._annotation.get("Type", "").casefold() not in _NO_AREA:
            points = np.array(self._coordinates, np.float64).reshape(-1, 3)
            polygon = to_polygon([points[np.argsort(points[:, 0], kind="stable"), 1:]])
        if polygon is None:
            self._left_out.append(self._number)
        else:
            self.shapes.append(Shape((polygon,), self._annotation.get("PartOfGroup", "").strip(), self._number))

    def close(self) -> None:
        pass

    def _ordered_point(self, attributes: Mapping[str, str]) -> tuple[float, float, float]:
        try:
            order, x, y = (float(attributes[name]) for name in ("Order", "X", "Y"))
        except (KeyError, ValueError) as error:
            raise MalformedError(
                f"has a point of annotation {self._number} without Order, X and Y as numbers"
            ) from error
        return order, *checked_point((x, y))
