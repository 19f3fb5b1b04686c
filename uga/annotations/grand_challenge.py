"""grand-challenge.org's 'Multiple polygons' (or one 'Polygon'): points in mm from the slide's corner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from uga.annotations.jsonstream import MalformedError
from uga.annotations.shapes import Shape, to_polygon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.annotations.jsonstream import JsonStream, Rings
    from uga.geometry import SpacingUm

UM_PER_MM = 1000


@dataclass
class _Item:
    """A polygon of the list, or the list itself."""

    name: str = ""
    groups: list[str] = field(default_factory=list)
    rings: Rings = field(default_factory=list)


class GrandChallengeReader:
    """Yields the polygons of a file, in its order; the format knows no holes.

    A polygon's class is its group, else its name. ``left_out`` gets the numbers of those of fewer than three points.
    """

    def __init__(self, stream: JsonStream, mpp: SpacingUm, left_out: list[int]) -> None:
        self._stream = stream
        self._left_out = left_out
        self._px_per_mm = np.array([UM_PER_MM / mpp.x, UM_PER_MM / mpp.y])
        self._number = 0

    def shapes(self) -> Iterator[Shape]:
        """The polygons in level-0 pixels.

        Raises:
            MalformedError: the file is not of this format.
        """
        stream = self._stream
        if stream.next()[0] != "start_map":
            raise MalformedError("is no list of polygons")
        single, is_list = _Item(), False
        for key in stream.members():
            if key != "polygons":
                self._read(key, single)
            elif stream.enter("start_array"):
                is_list = True
                for kind, _ in stream.entries():
                    if kind != "start_map":
                        raise MalformedError("is no list of polygons: an entry is no object")
                    item = _Item()
                    for name in stream.members():
                        self._read(name, item)
                    yield from self._finished(item)
        stream.end()
        if not is_list:
            yield from self._finished(single)

    def _read(self, key: str, item: _Item) -> None:
        """Take the value of a key of a polygon."""
        stream = self._stream
        if key == "name":
            item.name = stream.text()
        elif key == "groups":
            if stream.enter("start_array"):
                item.groups = [str(group).strip() for kind, group in stream.entries() if kind == "string"]
        elif key == "path_points":
            depth, polygons = stream.polygons()
            if depth not in (0, 2):
                raise MalformedError(f"has path points in polygon {self._number + 1} that are no list of points")
            item.rings = polygons[0] if polygons else []
        else:
            stream.skip()

    def _finished(self, item: _Item) -> Iterator[Shape]:
        self._number += 1
        if len(item.groups) > 1:
            raise MalformedError(f"has polygon {self._number} in several groups", "leave it in one")
        polygon = to_polygon([ring * self._px_per_mm for ring in item.rings])
        if polygon is None:
            self._left_out.append(self._number)
        else:
            yield Shape((polygon,), item.groups[0] if item.groups else item.name, self._number)
