"""Label maps as shapes: what is needed to hand a prediction to a tool that people draw with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.annotations.shapes import Polygon, Shape
from uga.output.outline import outlines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from uga.geometry import Grid, GridRegion
    from uga.output.outline import Ring


def label_shapes(
    labels: NDArray[np.uint8], region: GridRegion, grid: Grid, values: Mapping[str, int]
) -> tuple[Shape, ...]:
    """A shape per 4-connected component, along pixel edges; `AnnotationReference` gives the labels back exactly.

    Args:
        labels: Label values (h, w).
        region: Where they lie on the grid.
        grid: The working grid.
        values: Class name -> label value; other values get no shape.

    Returns:
        Shapes in level-0 pixels, by class in the order of ``values``.
    """
    origin, scale = np.array([region.x, region.y], np.float64), np.array([grid.scale_x, grid.scale_y])

    def level0(ring: Ring) -> NDArray[np.float64]:
        points: NDArray[np.float64] = (np.array(ring[:-1], np.float64) + origin) * scale
        return points

    return tuple(
        Shape((Polygon(level0(outline.outer), tuple(level0(hole) for hole in outline.holes)),), name)
        for name, value in values.items()
        for outline in outlines(labels == value)
    )
