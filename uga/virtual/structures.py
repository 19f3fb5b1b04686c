"""The structures of a lymph node and its surroundings, painted one over the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from uga.virtual.cells import CellKind
from uga.virtual.noise import Floats, cell_distances, derive, ramp
from uga.virtual.place import Place, Tissue
from uga.virtual.plan import Ellipse, Growth

if TYPE_CHECKING:
    from uga.virtual.plan import Follicle, Node, Vessel


class Painter:
    """Lays one structure over the other; a structure covers with a weight between 0 and 1."""

    def __init__(
        self, place: Place, nodes: list[Node], depth: Floats, relative: Floats, inside: Floats, lesion: Floats
    ) -> None:
        self.place, self.depth, self.relative, self.lesion = place, depth, relative, lesion
        zeros = np.zeros(place.shape, dtype=np.float32)
        self.hilar = np.zeros(place.shape, dtype=np.float32)
        for node in nodes:
            wide = Ellipse(node.hilum.x_um, node.hilum.y_um, 2 * node.hilum.a_um, 2 * node.hilum.b_um)
            self.hilar += 0.55 / (1 + wide.to_circle(place.row, place.column) ** 2) ** 2
        self.cells: dict[CellKind, Floats] = {}
        # Undisturbed fibres run in one direction, bent by noise; structures with an edge bend them along it.
        swirl = 60 * place.noise(170.0, 1) + 14 * place.noise(48.0)
        self.swirl = (0.83 * place.row + 0.56 * place.column + swirl).astype(np.float32)
        self.tissue = Tissue(inside.copy(), zeros.copy(), zeros.copy(), zeros.copy(), self.swirl, inside, lesion)

    def cover(
        self, weight: Floats, *, eosin: Floats | float, haematoxylin: float, fibre: float = 0.0, **cells: Floats | float
    ) -> None:
        """Replace what is there by a structure: its ground substance and its cells (named as in `CellKind`)."""
        box = _bounds(weight)
        if box is None:
            return
        part = weight[box]
        keep = 1 - part

        def lay(target: Floats, value: Floats | float) -> None:
            view = target[box]
            view *= keep
            if isinstance(value, np.ndarray):
                view += part * value[box]
            elif value:
                view += part * np.float32(value)

        t = self.tissue
        lay(t.eosin, eosin)
        lay(t.haematoxylin, haematoxylin)
        lay(t.fibre, fibre)
        for kind in CellKind:
            density = cells.get(kind.name.lower(), 0.0)
            if kind.name.lower() in cells and kind not in self.cells:
                self.cells[kind] = np.zeros(weight.shape, dtype=np.float32)
            if kind in self.cells:
                lay(self.cells[kind], density)

    def empty(self, distance_um: Floats) -> None:
        """Make a hole where ``distance_um`` is positive."""
        np.minimum(self.tissue.solid_um, -distance_um, out=self.tissue.solid_um)

    def fill(self, weight: Floats) -> None:
        """Close the holes of what was there before."""
        t = self.tissue
        t.solid_um = np.where(weight > 0.5, np.maximum(t.solid_um, 3), t.solid_um)

    def along(self, weight: Floats, coordinate_um: Floats) -> None:
        """Bend the fibres along the contour lines of a coordinate."""
        t = self.tissue
        t.across_um = np.where(weight > 0.5, coordinate_um, t.across_um)

    def surroundings(self) -> None:
        """Loose connective tissue and fat around the node, and the capsule."""
        place, depth = self.place, self.depth
        everywhere = np.ones(place.shape, dtype=np.float32)
        self.cover(everywhere, eosin=0.30, haematoxylin=0.02, fibre=0.8, spindle=0.34, lymphocyte=0.01, histiocyte=0.03)
        thickness = 26 + 9 * place.noise(210.0)
        outside = -depth - thickness
        if outside.max() > 0:
            fatty = np.minimum(outside - 8, self.tissue.inside_um - 14) + np.minimum(
                0, 60 * (place.noise(190.0, 2) + 0.55)
            )
            fatty = np.minimum(fatty, 60 * (np.abs(place.noise(240.0, 4)) - 0.1))
            if fatty.max() > 0:
                warp = 5.5
                first, second, _ = cell_distances(
                    derive(place.plan.seed, 11),
                    62.0,
                    place.row + warp * place.noise(38.0, 1),
                    place.column + warp * place.noise(38.0, 2),
                )
                gap = 0.5 * (second - first)
                # Corners between three vacuoles are rounded: near them the first distance is large.
                vacuole = np.minimum(gap - 1.1, 39 - first)
                self.cover(
                    ramp(fatty, -3, 3), eosin=0.42, haematoxylin=0.04, fibre=0.25, spindle=0.12, erythrocyte=0.01
                )
                self.empty(np.minimum(vacuole, fatty))
        capsule = ramp(depth, 1.5, -1.5) * ramp(outside, 2.5, -2.5)
        self.cover(capsule, eosin=0.52, haematoxylin=0.03, fibre=1.0, spindle=0.42)
        self.along(ramp(outside, 20, -20), depth + 4 * place.noise(48.0))

    def lymphoid(self) -> None:
        """Subcapsular sinus, cortex, paracortex, medulla with cords and sinuses."""
        place, depth, relative = self.place, self.depth, self.relative
        node = ramp(depth, -1, 1.5)
        patchy = 0.9 + 0.05 * place.noise(45.0, 1)
        self.cover(node, eosin=0.16, haematoxylin=0.16, lymphocyte=patchy, histiocyte=0.012, spindle=0.01)
        zone = relative + 0.05 * place.noise(170.0) + self.hilar
        para = ramp(zone, 0.26, 0.36) * ramp(zone, 0.62, 0.5)
        self.cover(
            para * ramp(place.noise(300.0, 3), -1.5, 0.0),
            eosin=0.24, haematoxylin=0.13, lymphocyte=0.78 * patchy, centroblast=0.05, histiocyte=0.07, spindle=0.03,
        )  # fmt: skip
        medulla = ramp(zone, 0.44, 0.56)
        if medulla.any():
            self.cover(
                medulla,
                eosin=0.24,
                haematoxylin=0.13,
                lymphocyte=0.66 * patchy,
                plasma_cell=0.35,
                histiocyte=0.06,
                spindle=0.05,
            )
        cords = np.abs(place.noise(95.0, 2)) - 0.26 - 0.6 * ramp(place.noise(400.0, 5), 0.3, 1.4)
        medullary = ramp(cords, 0.06, -0.06) * medulla
        subcapsular = ramp(depth, 2, 5) * ramp(depth - 3 * place.noise(60.0), 27, 20)
        radial = (
            ramp(np.abs(place.noise(230.0, 6)), 0.055, 0.03)
            * ramp(zone, 0.5, 0.3)
            * ramp(place.noise(260.0, 7), 0.0, 0.6)
        )
        sinus = np.maximum(np.maximum(medullary, subcapsular), 0.9 * radial) * node
        busy = ramp(place.noise(260.0, 7), -0.6, 1.2)  # sinus histiocytosis differs from place to place
        self.cover(
            sinus,
            eosin=0.13,
            haematoxylin=0.03,
            fibre=0.7,
            lymphocyte=0.20,
            histiocyte=0.22 + 0.7 * busy,
            spindle=0.06,
            erythrocyte=0.02,
        )
        # The fluid in the sinuses leaves clear spaces between the cells.
        self.empty(np.minimum(6 * (sinus - 0.75), 4 * (place.noise(11.0) - 0.6)) - 3.0 * busy)

    def follicle(self, follicle: Follicle) -> None:
        """Paint a dense mantle around a paler germinal centre of larger cells."""
        shape, centre_fraction = follicle.shape, follicle.centre_fraction
        place = self.place
        body = place.inside(shape) + 6 * place.noise(45.0)
        room = ramp(self.depth, 22, 30)
        self.fill(ramp(body, -4, 6) * room)
        self.cover(ramp(body, -4, 6) * room, eosin=0.13, haematoxylin=0.20, lymphocyte=1.0, spindle=0.004)
        if centre_fraction:
            core = body - np.float32(shape.radius_um * (1 - centre_fraction))
            light = ramp(place.noise(90.0, 6), -1.2, 1.2)  # dark and light zone
            self.cover(
                ramp(core, -5, 5) * room,
                eosin=0.20, haematoxylin=0.13, lymphocyte=0.10 + 0.16 * light, centroblast=0.96 - 0.3 * light,
                histiocyte=0.10, debris=0.025,
            )  # fmt: skip

    def strands(self) -> None:
        """Trabeculae from the capsule inwards, and capillaries with plump endothelium."""
        place, depth = self.place, self.depth
        present = ramp(place.noise(380.0, 9), -0.1, 0.4) * ramp(self.relative, 0.7, 0.35)
        trabecula = 170 * (0.07 * present - np.abs(place.noise(420.0, 1)) - 0.01)
        weight = ramp(trabecula, -1, 1.5) * ramp(depth, 0, 2)
        if weight.any():
            self.fill(weight)
            self.cover(weight, eosin=0.48, haematoxylin=0.04, fibre=0.95, spindle=0.42)
            self.along(weight, 230 * place.noise(420.0, 1))
        capillary = (
            ramp(np.abs(place.noise(120.0, 3)), 0.034, 0.018)
            * ramp(depth, 30, 45)
            * ramp(place.noise(150.0, 1), -0.2, 0.3)
        )
        self.cover(0.85 * capillary, eosin=0.36, haematoxylin=0.07, fibre=0.3, spindle=0.75, erythrocyte=0.12)
        self.along(capillary, 75 * place.noise(120.0, 3))

    def metastasis(self) -> None:
        """Tumour cells in sheets, nests, glands or cords, with desmoplastic stroma and sometimes necrosis between."""
        place, edge = self.place, self.lesion
        growth = place.plan.growth
        body = ramp(edge, -1.5, 1.5)
        self.fill(body)
        mature = ramp(edge, 40, 110)  # small deposits and the invading front are solid
        nest = _nests(place, growth)
        solid = nest + (1 - mature) * 60
        inflamed = 0.12 + 0.22 * ramp(place.noise(130.0, 5), -0.5, 1.5)
        self.cover(body, eosin=0.36, haematoxylin=0.04, fibre=0.85, spindle=0.42, lymphocyte=inflamed, histiocyte=0.03)
        self.along(ramp(edge, 2, 6), 0.45 * self.swirl + 0.8 * nest)
        rim = ramp(np.minimum(solid, edge), -1.0, 2.0) * body
        self.cover(rim, eosin=0.27, haematoxylin=0.13, tumour=1.0, lymphocyte=0.015)
        if edge.max() > 220:
            dead = ramp(edge, 190, 260) * ramp(place.noise(260.0, 8), 1.0, 1.25) * ramp(nest, 8, 20)
            self.cover(dead, eosin=0.55, haematoxylin=0.10, debris=0.5, tumour=0.06)
        cleft = np.minimum(2.2 - np.abs(nest + 1.5), 9 * (place.noise(60.0, 4) - 0.9))
        self.empty(np.minimum(cleft, edge - 30))
        if growth is Growth.GLANDS:
            first, _, number = _glands(place)
            lumen = (5 + 26 * number) - first
            self.empty(np.minimum(np.minimum(lumen, 60 * (number - 0.15)), edge - 26))

    def vessel(self, vessel: Vessel) -> None:
        """Paint a lumen with or without blood, endothelium and wall."""
        place = self.place
        lumen = place.inside(vessel.shape) + 1.5 * place.noise(17.0)
        present = ramp(self.tissue.inside_um, 4, 10) * ramp(self.lesion, 8, 0)
        wall = ramp(lumen + np.float32(vessel.wall_um), -1, 1) * present
        self.fill(wall)
        self.cover(wall, eosin=0.46, haematoxylin=0.03, fibre=0.9, spindle=0.5)
        self.along(wall, lumen)
        endothelium = wall * ramp(np.abs(lumen + 1.2), 2.4, 1.6)
        self.cover(endothelium, eosin=0.4, haematoxylin=0.1, fibre=0.4, spindle=0.85)
        hollow = ramp(lumen, 0, 2) * present
        self.cover(hollow, eosin=0.10, haematoxylin=0.0, erythrocyte=min(1.0, vessel.blood * 1.3), lymphocyte=0.01)
        if vessel.blood < 0.45:
            self.empty(
                np.minimum(
                    np.minimum(lumen, 8 * (present - 0.5)), 3 * (place.noise(26.0, 3) + 1.4 - 3.2 * vessel.blood)
                )
            )

    def finish(self) -> Tissue:
        """Variation of the stain from place to place; no cells where there is no tissue."""
        place, t = self.place, self.tissue
        # Where two fibre directions meet, the fibres fade instead of showing a seam.
        jump = cv2.morphologyEx(t.across_um, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        t.fibre *= ramp(jump, 10, 6)
        t.haematoxylin *= 1 + 0.10 * place.noise(45.0, 2)
        t.eosin *= 1 + 0.09 * place.noise(26.0, 1) + 0.08 * place.noise(190.0, 6)
        there = ramp(t.solid_um, 0.0, 1.5)
        t.density = {kind: density * there for kind, density in self.cells.items() if density.any()}
        return t


def _bounds(weight: Floats) -> tuple[slice, slice] | None:
    """Find the rectangle outside which a weight is zero; None if it is zero everywhere."""
    rows, columns = np.flatnonzero(weight.any(axis=1)), np.flatnonzero(weight.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _glands(place: Place) -> tuple[Floats, Floats, Floats]:
    return cell_distances(
        derive(place.plan.seed, 12),
        112.0,
        place.row + 9 * place.noise(60.0, 5),
        place.column + 9 * place.noise(60.0, 6),
    )


def _nests(place: Place, growth: Growth) -> Floats:
    """Distance to the edge of the tumour nests, about in um; positive inside a nest."""
    if growth is Growth.GLANDS:
        first, _, number = _glands(place)
        return np.asarray(26 + 26 * number + 5 * place.noise(26.0, 2) - first, dtype=np.float32)
    if growth is Growth.CORDS:
        return np.asarray(34 * (0.52 - np.abs(place.noise(70.0, 4))) + 3 * place.noise(17.0), dtype=np.float32)
    if growth is Growth.NESTS:
        return np.asarray(85 * (np.abs(place.noise(150.0, 4)) - 0.17) + 3 * place.noise(17.0), dtype=np.float32)
    return np.asarray(150 * (np.abs(place.noise(260.0, 4)) - 0.05) + 3 * place.noise(17.0), dtype=np.float32)
