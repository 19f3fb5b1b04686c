"""Areas drawn on a slide, in level-0 pixels: pixel (0, 0) covers [0, 1) x [0, 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

REGION_CLASS = "Region*"
"""QuPath's class of frames. In a correction, the area inside a frame was judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """An area between an outer ring and its holes.

    Rings are float64 (n, 2) of (x, y), n >= 3, in any direction; the last point is joined to the first and does not
    repeat it.
    """

    exterior: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()

    @property
    def rings(self) -> tuple[NDArray[np.float64], ...]:
        """The outer ring, then the holes."""
        return self.exterior, *self.holes


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One annotated area.

    Attributes:
        polygons: Its parts.
        class_name: As the file has it; "" where the file names none.
        number: Its place in the file, from 1; counts what is no area too.
    """

    polygons: tuple[Polygon, ...]
    class_name: str
    number: int = 0

    @property
    def is_region(self) -> bool:
        """Whether it is a frame around what was judged, not a labelled area."""
        return self.class_name.casefold() == REGION_CLASS.casefold()

    def moved(self, x_px: float, y_px: float) -> Shape:
        """The shape so many pixels further right and down."""
        if not (x_px or y_px):
            return self
        by = np.array([x_px, y_px])
        return replace(
            self, polygons=tuple(Polygon(p.exterior + by, tuple(hole + by for hole in p.holes)) for p in self.polygons)
        )


def split_regions(shapes: Iterable[Shape]) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Labelled areas, and frames."""
    everything = tuple(shapes)
    return tuple(s for s in everything if not s.is_region), tuple(s for s in everything if s.is_region)


def to_polygon(rings: Sequence[NDArray[np.float64]]) -> Polygon | None:
    """A polygon of an outer ring and holes, closed or not; None if the outer ring encloses nothing."""
    opened = [ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring for ring in rings]
    if not opened or len(opened[0]) < 3:
        return None
    return Polygon(opened[0], tuple(ring for ring in opened[1:] if len(ring) >= 3))


def ring_area(ring: NDArray[np.float64]) -> float:
    """Area within a ring, in square pixels."""
    # About its first point: far from the origin the products would lose digits.
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
