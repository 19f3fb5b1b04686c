"""GeoJSON as QuPath writes it: a feature collection, a list of features or one feature, in level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uga.annotations.jsonstream import MalformedError
from uga.annotations.shapes import Shape, to_polygon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.annotations.jsonstream import JsonStream, Rings

_POLYGON_DEPTHS = {"Polygon": 3, "MultiPolygon": 4}
_NO_AREA = {"", "Point", "MultiPoint", "LineString", "MultiLineString"}
# Cells, tiles and TMA cores are results of QuPath's own detection, not annotations.
_ANNOTATION_TYPES = {"", "annotation", "PathAnnotationObject", "unknown"}
_MAX_GENERATIONS = 32


@dataclass
class _Feature:
    """What a feature says about itself."""

    number: int
    geometry: str = ""
    polygons: list[Rings] = field(default_factory=list)
    class_name: str = ""
    object_type: str = ""
    children: list[Shape] = field(default_factory=list)


class GeoJsonReader:
    """Yields the annotated areas of a file, in its order; objects within objects come after those around them.

    ``left_out`` gets the numbers of features that are no annotated area: cells, points, lines, no geometry.
    """

    def __init__(self, stream: JsonStream, left_out: list[int]) -> None:
        self._stream = stream
        self._left_out = left_out
        self._number = self._generation = 0

    def shapes(self) -> Iterator[Shape]:
        """The shapes.

        Raises:
            MalformedError: the file is no GeoJSON, or has areas of a kind that is not read.
        """
        kind, _ = self._stream.next()
        if kind == "start_array":
            yield from self._features()
        elif kind == "start_map":
            yield from self._collection_or_feature()
        else:
            raise MalformedError("is no GeoJSON")
        self._stream.end()

    def _features(self) -> Iterator[Shape]:
        for kind, _ in self._stream.entries():
            if kind != "start_map":
                raise MalformedError("is no GeoJSON: its features are no objects")
            feature = self._next_feature()
            for key in self._stream.members():
                self._read(key, feature)
            yield from self._finished(feature)

    def _collection_or_feature(self) -> Iterator[Shape]:
        feature: _Feature | None = None
        is_collection = False
        for key in self._stream.members():
            if key == "features":
                is_collection = True
                if self._stream.enter("start_array"):
                    yield from self._features()
            elif key in ("geometry", "properties"):
                feature = feature or self._next_feature()
                self._read(key, feature)
            else:
                self._stream.skip()
        if feature and not is_collection:
            yield from self._finished(feature)

    def _next_feature(self) -> _Feature:
        self._number += 1
        return _Feature(self._number)

    def _finished(self, feature: _Feature) -> Iterator[Shape]:
        polygons = tuple(polygon for rings in feature.polygons if (polygon := to_polygon(rings)) is not None)
        is_annotation = feature.object_type in _ANNOTATION_TYPES
        if is_annotation and feature.geometry not in _NO_AREA and feature.geometry not in _POLYGON_DEPTHS:
            raise MalformedError(
                f"has a feature of type {feature.geometry}, number {feature.number}", "leave only polygons"
            )
        if is_annotation and feature.geometry not in _NO_AREA and polygons:
            yield Shape(polygons, feature.class_name, feature.number)
        else:
            self._left_out.append(feature.number)
        yield from feature.children

    def _read(self, key: str, feature: _Feature) -> None:
        """Take the value of a key of a feature."""
        if key == "geometry":
            self._read_geometry(feature)
        elif key == "properties" and self._stream.enter("start_map"):
            for name in self._stream.members():
                self._read_property(name, feature)
        elif key != "properties":
            self._stream.skip()

    def _read_geometry(self, feature: _Feature) -> None:
        stream, depth = self._stream, 0
        if not stream.enter("start_map"):
            return
        for name in stream.members():
            if name == "type":
                feature.geometry = stream.text()
            elif name == "coordinates":
                depth, feature.polygons = stream.polygons()
            else:
                stream.skip()
        if depth and depth != _POLYGON_DEPTHS.get(feature.geometry, depth):
            raise MalformedError(f"has coordinates in feature {feature.number} that are no {feature.geometry}")

    def _read_property(self, name: str, feature: _Feature) -> None:
        if name == "classification":
            feature.class_name = self._classification()
        elif name in ("objectType", "object_type"):
            feature.object_type = self._stream.text()
        elif name in ("childObjects", "children") and self._stream.enter("start_array"):
            self._generation += 1
            if self._generation > _MAX_GENERATIONS:
                raise MalformedError(f"has objects within objects more than {_MAX_GENERATIONS} deep")
            feature.children += self._features()
            self._generation -= 1
        elif name not in ("childObjects", "children"):
            self._stream.skip()

    def _classification(self) -> str:
        """A text, or an object with a name, or with names from general to special."""
        stream = self._stream
        kind, value = stream.next()
        if kind == "string":
            return str(value).strip()
        if kind != "start_map":
            stream.skip_rest(kind)
            return ""
        name, names = "", ""
        for key in stream.members():
            if key == "name":
                name = stream.text()
            elif key == "names" and stream.enter("start_array"):
                names = ": ".join(str(item) for kind, item in stream.entries() if kind == "string")
            elif key != "names":
                stream.skip()
        return name or names
