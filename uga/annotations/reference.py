"""Shapes as a label map on the working grid, read region by region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from uga.annotations.spans import CrossedRingError, TooIntricateError, polygon_spans
from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from uga.annotations.shapes import Polygon, Shape
    from uga.geometry import Grid, GridRegion


class AnnotationReference:
    """Labels of the grid pixels whose centres lie in shapes; a later shape paints over an earlier one.

    Holes belong to no shape: what lies below shows in them. A polygon whose rings cross is refused, unless at most 1 %
    of its pixels are concerned (`uga.annotations.spans` has the exact rule). What reaches beyond the slide is cut off.

    Memory grows with the length of the outlines, not with the slide.
    """

    def __init__(
        self, shapes: Sequence[Shape], grid: Grid, values: Mapping[str, int], *, unannotated: int, source: str
    ) -> None:
        """Check and rasterise the shapes.

        Args:
            shapes: In painting order, in level-0 pixels of the grid's slide.
            grid: The working grid of the slide.
            values: Class name, upper or lower case -> label value.
            unannotated: Label of slide area outside all shapes.
            source: The file, for messages.

        Raises:
            UserError: a class that ``values`` lacks, a polygon outside the slide, rings that cross.
        """
        self._grid = grid
        self._unannotated = unannotated
        known = {name.casefold(): value for name, value in values.items()}
        labels = [_value(shape, known, values, source) for shape in shapes]
        owner = np.repeat(np.arange(len(shapes)), [len(shape.polygons) for shape in shapes])
        polygons = [polygon for shape in shapes for polygon in shape.polygons]
        for polygon, shape in zip(polygons, owner.tolist(), strict=True):
            if not _touches(polygon, grid):
                raise UserError(
                    f"{source}: {_named(shapes[shape])} lies outside the slide; check that the annotation belongs to "
                    "this slide and is in pixels of its full resolution."
                )
        try:
            spans = polygon_spans(polygons, grid)
        except CrossedRingError as error:
            raise UserError(
                f"{source}: the outline of {_named(shapes[owner[error.polygon]])} crosses itself, so its inside is "
                "unclear; redraw it without crossings."
            ) from error
        except TooIntricateError as error:
            raise UserError(f"{source}: its outlines are too long to be drawn by hand; simplify them.") from error
        # Stable: within a row, spans stay in painting order.
        order = np.argsort(spans.row, kind="stable")
        self._rows, self._starts, self._ends = spans.row[order], spans.start[order], spans.end[order]
        self._labels = np.array(labels, np.uint8)[owner][spans.polygon[order]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def read(self, region: GridRegion) -> NDArray[np.uint8]:
        """Labels (height, width), uint8; 0 outside the slide."""
        labels = np.zeros((region.height, region.width), np.uint8)
        inside = region.intersection(self._grid.region)
        if inside is None:
            return labels
        top, left = inside.y - region.y, inside.x - region.x
        view = labels[top : top + inside.height, left : left + inside.width]
        view[...] = self._unannotated
        first, last = np.searchsorted(self._rows, [inside.y, inside.y_end])
        starts, ends = self._starts[first:last], self._ends[first:last]
        touched = first + np.flatnonzero((starts < inside.x_end) & (ends > inside.x))
        rows = (self._rows[touched] - inside.y).tolist()
        starts_here = np.maximum(self._starts[touched] - inside.x, 0).tolist()
        ends_here = (self._ends[touched] - inside.x).tolist()
        for row, start, end, label in zip(rows, starts_here, ends_here, self._labels[touched].tolist(), strict=True):
            view[row, start:end] = label
        return labels


def _value(shape: Shape, known: Mapping[str, int], values: Mapping[str, int], source: str) -> int:
    value = known.get(shape.class_name.casefold())
    if value is not None:
        return value
    names = ", ".join(values)
    if not shape.class_name:
        raise UserError(f"{source}: {_named(shape)} has no class; give it one of {names}.")
    raise UserError(f"{source}: {_named(shape)} has the unknown class '{shape.class_name}'; name it one of {names}.")


def _named(shape: Shape) -> str:
    return f"shape {shape.number}" if shape.number else "a shape"


def _touches(polygon: Polygon, grid: Grid) -> bool:
    low, high = polygon.exterior.min(axis=0), polygon.exterior.max(axis=0)
    size = (grid.width * grid.scale_x, grid.height * grid.scale_y)
    return bool((high > 0).all() and (low < size).all())
