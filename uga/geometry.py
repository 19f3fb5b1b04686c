"""Coordinates that carry their unit: level-0 pixels of a slide, and pixels of the working grid.

The working grid is the slide resampled to one exact spacing (the model's, 1.0 um/px by default). Its origin
is the slide's top-left corner, so grid pixel ``i`` covers the level-0 interval ``[i * scale, (i + 1) * scale)``.
All maps, windows and patches live on this grid; level-0 coordinates are what other software sees.
Points are top-left corners, never centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_EDGE_TOLERANCE_PX = 1e-6


@dataclass(frozen=True, slots=True)
class SpacingUm:
    """Pixel size in micrometres per pixel."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Level0Point:
    """A top-left corner in level-0 pixels."""

    x: int
    y: int


LEVEL0_CORNER = Level0Point(0, 0)


@dataclass(frozen=True, slots=True)
class Level0Region:
    """A rectangle in level-0 pixels; ``x``, ``y`` is the top-left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class GridRegion:
    """A rectangle in working-grid pixels; may overhang the slide on any side."""

    x: int
    y: int
    width: int
    height: int

    @property
    def x_end(self) -> int:
        """First column to the right of the region."""
        return self.x + self.width

    @property
    def y_end(self) -> int:
        """First row below the region."""
        return self.y + self.height

    def intersection(self, other: GridRegion) -> GridRegion | None:
        """The common rectangle, or None if the two do not overlap."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        x_end, y_end = min(self.x_end, other.x_end), min(self.y_end, other.y_end)
        if x >= x_end or y >= y_end:
            return None
        return GridRegion(x, y, x_end - x, y_end - y)

    def within(self, outer: GridRegion) -> tuple[slice, slice]:
        """Rows and columns of this region in an array that holds ``outer``."""
        return (
            slice(self.y - outer.y, self.y_end - outer.y),
            slice(self.x - outer.x, self.x_end - outer.x),
        )

    def tiles(self, width: int, height: int | None = None) -> Iterator[GridRegion]:
        """Row-major tiles of at most this size, square by default, that cover the region without overlap."""
        height = width if height is None else height
        for y in range(self.y, self.y_end, height):
            for x in range(self.x, self.x_end, width):
                yield GridRegion(x, y, min(width, self.x_end - x), min(height, self.y_end - y))


@dataclass(frozen=True, slots=True)
class Grid:
    """The slide at one exact spacing.

    ``scale_x``/``scale_y`` are level-0 pixels per grid pixel; ``width``/``height`` cover the whole slide, so the
    last column and row may lie partly outside it. ``qupath_origin`` is where QuPath's coordinates begin
    (`uga.slide.reader.Reader.bounds`); the grid itself begins at the corner of level 0.
    """

    spacing_um: float
    scale_x: float
    scale_y: float
    width: int
    height: int
    qupath_origin: Level0Point = LEVEL0_CORNER

    @classmethod
    def over(
        cls,
        width_px: int,
        height_px: int,
        mpp: SpacingUm,
        spacing_um: float,
        qupath_origin: Level0Point = LEVEL0_CORNER,
    ) -> Grid:
        """Grid of ``spacing_um`` over a slide of ``width_px`` x ``height_px`` level-0 pixels of size ``mpp``."""
        scale_x, scale_y = spacing_um / mpp.x, spacing_um / mpp.y
        return cls(
            spacing_um=spacing_um,
            scale_x=scale_x,
            scale_y=scale_y,
            width=max(1, math.ceil(width_px / scale_x - _EDGE_TOLERANCE_PX)),
            height=max(1, math.ceil(height_px / scale_y - _EDGE_TOLERANCE_PX)),
            qupath_origin=qupath_origin,
        )

    @property
    def region(self) -> GridRegion:
        """The whole grid."""
        return GridRegion(0, 0, self.width, self.height)

    def to_level0(self, x: int, y: int) -> Level0Point:
        """Nearest level-0 corner of grid pixel ``(x, y)``; `to_grid` gives the grid pixel back."""
        return Level0Point(round(x * self.scale_x), round(y * self.scale_y))

    def to_grid(self, point: Level0Point) -> tuple[int, int]:
        """Grid pixel whose corner is nearest to a level-0 corner."""
        return round(point.x / self.scale_x), round(point.y / self.scale_y)

    def region_to_level0(self, region: GridRegion) -> Level0Region:
        """The rectangle in level-0 pixels, corners rounded to the nearest pixel."""
        start = self.to_level0(region.x, region.y)
        end = self.to_level0(region.x_end, region.y_end)
        return Level0Region(start.x, start.y, end.x - start.x, end.y - start.y)
