"""A rectangle of tissue on 1 um pixels: its noises, its outlines and the quantities that are laid out on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from uga.virtual.noise import Floats, derive, smooth_noise

if TYPE_CHECKING:
    from uga.virtual.cells import CellKind
    from uga.virtual.plan import Ellipse, Lesion, Node, SlidePlan

_FAR = np.float32(-1e6)


@dataclass(slots=True)
class Tissue:
    """Tissue on 1 um pixels (h, w), all float32.

    Attributes:
        solid_um: distance to the next empty space (glass, lumen, fat vacuole); negative in it.
        eosin: concentration in the ground substance.
        haematoxylin: the same.
        fibre: share of collagen fibres.
        across_um: coordinate across the fibres: they run along its contour lines.
        density: share of occupied lattice sites of each cell type.
        inside_um: distance to the tissue's outer edge, holes ignored; negative on glass.
        lesion_um: distance to the edge of the nearest metastasis; positive in it.

    """

    solid_um: Floats
    eosin: Floats
    haematoxylin: Floats
    fibre: Floats
    across_um: Floats
    inside_um: Floats
    lesion_um: Floats
    density: dict[CellKind, Floats] = field(default_factory=dict)


class Place:
    """A rectangle of 1 um pixels with the noises that several structures share, each computed once."""

    def __init__(self, plan: SlidePlan, x0_um: int, y0_um: int, width: int, height: int) -> None:
        self.plan = plan
        self.x = np.arange(x0_um, x0_um + width, dtype=np.float64) + 0.5
        self.y = np.arange(y0_um, y0_um + height, dtype=np.float64) + 0.5
        self.row = self.x.astype(np.float32)[None, :]
        self.column = self.y.astype(np.float32)[:, None]
        self.shape = (height, width)
        self._noises: dict[tuple[float, int], Floats] = {}

    def noise(self, pitch_um: float, which: int = 0) -> Floats:
        """Smooth noise of the slide, made once per pitch and number."""
        key = (pitch_um, which)
        if key not in self._noises:
            seed = derive(self.plan.seed, 7, round(pitch_um * 10), which)
            self._noises[key] = smooth_noise(seed, pitch_um, self.x, self.y)
        return self._noises[key]

    def near(self, x_um: float, y_um: float, reach_um: float) -> bool:
        """Whether a point is within reach of the rectangle."""
        dx = max(self.x[0] - x_um, x_um - self.x[-1], 0.0)
        dy = max(self.y[0] - y_um, y_um - self.y[-1], 0.0)
        return bool(dx * dx + dy * dy < reach_um * reach_um)

    def inside(self, ellipse: Ellipse) -> Floats:
        """Distance (about, in um) to the edge of an ellipse; positive inside."""
        return np.asarray(
            (1 - ellipse.to_circle(self.row, self.column)) * np.float32(ellipse.radius_um), dtype=np.float32
        )


def nodes_near(plan: SlidePlan, x0_um: float, y0_um: float, x1_um: float, y1_um: float) -> list[Node]:
    """Nodes that may reach into a rectangle; without any, it is glass."""
    found = []
    for node in plan.nodes:
        dx = max(x0_um - node.shape.x_um, node.shape.x_um - x1_um, 0.0)
        dy = max(y0_um - node.shape.y_um, node.shape.y_um - y1_um, 0.0)
        if dx * dx + dy * dy < node.reach_um**2:
            found.append(node)
    return found


def outline(place: Place, nodes: list[Node]) -> tuple[Floats, Floats, Floats, Floats]:
    """Depth in the node (um), its share of the node's radius, tissue's outer edge (um), metastasis edge (um)."""
    depth = np.full(place.shape, _FAR)
    relative, inside, lesion = depth.copy(), depth.copy(), depth.copy()
    for node in nodes:
        radius = node.shape.radius_um
        here = node.depth(place.x, place.y)
        halo = radius * (0.13 + 0.11 * smooth_noise(derive(node.seed, 3), 0.5 * radius, place.x, place.y))
        edge = here + np.clip(halo, 35.0, 0.42 * radius).astype(np.float32)
        edge += 9 * place.noise(60.0) + 3.5 * place.noise(17.0)
        nearer = here > depth
        depth = np.where(nearer, here, depth)
        relative = np.where(nearer, here / np.float32(radius), relative)
        inside = np.maximum(inside, edge.astype(np.float32))
        for deposit in node.lesions:
            if place.near(deposit.shape.x_um, deposit.shape.y_um, 1.6 * deposit.shape.a_um + 30):
                lesion = np.maximum(lesion, np.minimum(_lesion_edge(place, deposit), here - 2))
    return depth, relative, inside, lesion


def _lesion_edge(place: Place, lesion: Lesion) -> Floats:
    pitch = max(12.0, round(0.45 * lesion.shape.radius_um))
    edge = place.inside(lesion.shape) + np.float32(lesion.roughness_um) * place.noise(pitch, 3)
    if lesion.shape.radius_um > 100:
        edge += 6 * place.noise(45.0, 1) + 2.5 * place.noise(17.0)
    return edge
