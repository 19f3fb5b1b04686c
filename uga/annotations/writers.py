"""Writes areas as files that QuPath, ASAP and grand-challenge open.

ASAP and grand-challenge know no holes: a hole is written as a shape of the class `background` on top of its polygon,
and larger polygons come before smaller ones, so that an area within a hole shows. Areas must not overlap, as those of
a label map do not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from uga.annotations.asap import BACKGROUND_CLASS
from uga.annotations.grand_challenge import UM_PER_MM
from uga.annotations.shapes import ring_area
from uga.geometry import LEVEL0_CORNER
from uga.output.boxes import Version
from uga.output.files import write_atomic, write_json
from uga.output.schema import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.annotations.shapes import Shape
    from uga.geometry import Level0Point, SpacingUm
    from uga.output.colours import Colour

_LEVEL0_DECIMALS = 4
_MM_DECIMALS = 7
_Z_MM = 0.5
_OTHER_COLOUR = (128, 128, 128)

PointMm = tuple[float, float, float]


class PolygonRecord(Record):
    """One outline in mm from the slide's corner; the platform demands every field."""

    name: str
    type: Literal["Polygon"] = "Polygon"
    seed_point: PointMm
    path_points: tuple[PointMm, ...]
    sub_type: str = "brush"
    groups: tuple[str, ...]


class PolygonsRecord(Record):
    """A grand-challenge 'Multiple polygons' file."""

    name: str
    type: Literal["Multiple polygons"] = "Multiple polygons"
    polygons: tuple[PolygonRecord, ...]
    version: Version = Version()


def write_geojson(
    path: Path, shapes: Iterable[Shape], colours: Mapping[str, Colour], *, qupath_origin: Level0Point = LEVEL0_CORNER
) -> None:
    """Write shapes in order as a feature collection for QuPath, in level-0 pixels.

    Args:
        path: The file, replaced if it exists.
        shapes: Areas; a shape of several polygons becomes one feature, and a frame is locked.
        colours: Class name -> RGB; a class that is missing gets QuPath's own colour.
        qupath_origin: Where QuPath's coordinates begin.
    """
    placed = (shape.moved(-qupath_origin.x, -qupath_origin.y) for shape in shapes)
    collection = {"type": "FeatureCollection", "features": [_feature(shape, colours) for shape in placed]}
    write_atomic(path, json.dumps(collection, ensure_ascii=False).encode())


def write_asap_xml(path: Path, shapes: Iterable[Shape], colours: Mapping[str, Colour]) -> None:
    """Write areas that do not overlap for ASAP, in level-0 pixels; a group per class.

    Args:
        path: The file, replaced if it exists.
        shapes: Areas, each with a class.
        colours: Class name -> RGB; a class that is missing becomes grey.
    """
    root = Element("ASAP_Annotations")
    annotations, groups = SubElement(root, "Annotations"), SubElement(root, "AnnotationGroups")
    used: dict[str, str] = {}
    for number, (ring, name) in enumerate(_outlines(shapes)):
        colour = used.setdefault(name, "#{:02x}{:02x}{:02x}".format(*colours.get(name, _OTHER_COLOUR)))
        annotation = SubElement(
            annotations, "Annotation", Name=f"Annotation {number}", Type="Polygon", PartOfGroup=name, Color=colour
        )
        coordinates = SubElement(annotation, "Coordinates")
        for order, (x, y) in enumerate(np.round(ring, _LEVEL0_DECIMALS).tolist()):
            SubElement(coordinates, "Coordinate", Order=str(order), X=str(x), Y=str(y))
    for name, colour in used.items():
        SubElement(SubElement(groups, "Group", Name=name, PartOfGroup="None", Color=colour), "Attributes")
    indent(root)
    write_atomic(path, lambda partial: ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True))


def write_polygons(path: Path, shapes: Iterable[Shape], mpp: SpacingUm, name: str) -> None:
    """Write areas that do not overlap as grand-challenge 'Multiple polygons'; the class is group and name.

    Args:
        path: The file, replaced if it exists.
        shapes: Areas in level-0 pixels, each with a class.
        mpp: Spacing of level 0.
        name: Title of the file.
    """
    mm_per_px = np.array([mpp.x, mpp.y]) / UM_PER_MM
    records = []
    for ring, class_name in _outlines(shapes):
        points = tuple((x, y, _Z_MM) for x, y in np.round(ring * mm_per_px, _MM_DECIMALS).tolist())
        records.append(PolygonRecord(name=class_name, seed_point=points[0], path_points=points, groups=(class_name,)))
    write_json(path, PolygonsRecord(name=name, polygons=tuple(records)))


def _feature(shape: Shape, colours: Mapping[str, Colour]) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in polygon.rings] for polygon in shape.polygons]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    properties: dict[str, Any] = {"objectType": "annotation"}
    if shape.class_name:
        properties["classification"] = {"name": shape.class_name}
        if shape.class_name in colours:
            properties["classification"]["color"] = list(colours[shape.class_name])
    if shape.is_region:
        properties["isLocked"] = True
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: NDArray[np.float64]) -> list[list[float]]:
    points: list[list[float]] = np.round(ring, _LEVEL0_DECIMALS).tolist()
    return [*points, points[0]]


def _outlines(shapes: Iterable[Shape]) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Rings without holes and their classes, in painting order."""
    polygons = [(polygon, shape.class_name) for shape in shapes for polygon in shape.polygons]
    for polygon, name in sorted(polygons, key=lambda item: -ring_area(item[0].exterior)):
        yield polygon.exterior, name
        for hole in polygon.holes:
            yield hole, BACKGROUND_CLASS
