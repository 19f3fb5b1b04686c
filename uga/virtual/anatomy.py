"""The tissue of a slide on 1 um pixels: what is where, how much of each cell type, how the ground substance stains.

Everything is a function of the place (see `uga.virtual.noise`), evaluated on whatever rectangle is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.virtual.place import Place, Tissue, nodes_near, outline
from uga.virtual.structures import Painter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uga.virtual.plan import SlidePlan


def labels(plan: SlidePlan, x0_um: int, y0_um: int, width: int, height: int) -> NDArray[np.uint8]:
    """Label 1 um pixels: 0 glass, 1 benign tissue, 2 tumour (height, width)."""
    result = np.zeros((height, width), dtype=np.uint8)
    nodes = nodes_near(plan, x0_um, y0_um, x0_um + width, y0_um + height)
    if nodes:
        _, _, inside, lesion = outline(Place(plan, x0_um, y0_um, width, height), nodes)
        result[inside > 0] = 1
        result[(inside > 0) & (lesion > 0)] = 2
    return result


def tissue(plan: SlidePlan, x0_um: int, y0_um: int, width: int, height: int) -> Tissue | None:
    """Lay out the tissue of a rectangle; None if there is only glass."""
    nodes = nodes_near(plan, x0_um, y0_um, x0_um + width, y0_um + height)
    if not nodes:
        return None
    place = Place(plan, x0_um, y0_um, width, height)
    depth, relative, inside, lesion = outline(place, nodes)
    if inside.max() < -40:
        return None
    painter = Painter(place, nodes, depth, relative, inside, lesion)
    painter.surroundings()
    if depth.max() > -5:
        painter.lymphoid()
        for follicle in (follicle for node in nodes for follicle in node.follicles):
            if place.near(follicle.shape.x_um, follicle.shape.y_um, 1.3 * follicle.shape.a_um):
                painter.follicle(follicle)
        painter.strands()
        if lesion.max() > -25:
            painter.metastasis()
    for vessel in (vessel for node in nodes for vessel in node.vessels):
        if place.near(vessel.shape.x_um, vessel.shape.y_um, 1.2 * vessel.shape.a_um + vessel.wall_um + 4):
            painter.vessel(vessel)
    return painter.finish()
