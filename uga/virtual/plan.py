"""Where things are on a virtual slide: nodes, follicles, vessels, metastases and artefacts, all in micrometres."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.virtual.noise import Floats, derive, smooth_noise
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ITC_LIMIT_UM = 200.0  # isolated tumour cells: no greater than 0.2 mm
MICRO_LIMIT_UM = 2000.0  # micrometastasis: greater than 0.2 mm, none greater than 2.0 mm


class Growth(Enum):
    """How a tumour grows; the same all over a patient."""

    SHEETS = 0
    NESTS = 1
    GLANDS = 2
    CORDS = 3


@dataclass(frozen=True, slots=True)
class Ellipse:
    """Centre, semi-axes and rotation (cosine and sine of the angle of the first axis)."""

    x_um: float
    y_um: float
    a_um: float
    b_um: float
    cos: float = 1.0
    sin: float = 0.0

    @property
    def radius_um(self) -> float:
        """Radius of the circle of equal area."""
        return float(np.sqrt(self.a_um * self.b_um))

    def to_circle(self, x_um: Floats, y_um: Floats) -> Floats:
        """Distance from the centre relative to the edge (1 on the edge), broadcast over the two arrays."""
        dx, dy = x_um - np.float32(self.x_um), y_um - np.float32(self.y_um)
        u = (dx * np.float32(self.cos) + dy * np.float32(self.sin)) * np.float32(1 / self.a_um)
        v = (dy * np.float32(self.cos) - dx * np.float32(self.sin)) * np.float32(1 / self.b_um)
        return np.asarray(np.sqrt(u * u + v * v), dtype=np.float32)

    def at(self, angle: float, q: float) -> tuple[float, float]:
        """Point at relative distance ``q`` in the direction ``angle`` (radians, of the ellipse's own frame)."""
        u, v = self.a_um * q * np.cos(angle), self.b_um * q * np.sin(angle)
        return float(self.x_um + u * self.cos - v * self.sin), float(self.y_um + u * self.sin + v * self.cos)


@dataclass(frozen=True, slots=True)
class Follicle:
    """A lymph follicle; ``centre_fraction`` is the germinal centre's share of the radius (0: a primary follicle)."""

    shape: Ellipse
    centre_fraction: float


@dataclass(frozen=True, slots=True)
class Vessel:
    """A blood or lymph vessel in cross section."""

    shape: Ellipse
    wall_um: float
    blood: float


@dataclass(frozen=True, slots=True)
class Lesion:
    """A tumour deposit; its edge is the ellipse, roughened by ``roughness_um``."""

    shape: Ellipse
    roughness_um: float


@dataclass(frozen=True, slots=True)
class Node:
    """A lymph node section with what lies in it; ``hilum`` is the centre of the notch in its edge."""

    seed: int
    shape: Ellipse
    hilum: Ellipse
    follicles: tuple[Follicle, ...]
    vessels: tuple[Vessel, ...]
    lesions: tuple[Lesion, ...]

    @property
    def reach_um(self) -> float:
        """No tissue of this node is farther than this from its centre."""
        return 1.3 * max(self.shape.a_um, self.shape.b_um) + 0.45 * self.shape.radius_um + 120.0

    def depth(self, x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> Floats:
        """Depth below the capsule's inner side on the grid ``y_um`` x ``x_um``; negative outside the node."""
        radius = self.shape.radius_um
        x32, y32 = x_um.astype(np.float32)[None, :], y_um.astype(np.float32)[:, None]
        depth = (1 - self.shape.to_circle(x32, y32)) * np.float32(radius)
        depth += np.float32(0.06 * radius) * smooth_noise(derive(self.seed, 1), 0.6 * radius, x_um, y_um)
        depth += np.float32(0.011 * radius) * smooth_noise(derive(self.seed, 2), 0.18 * radius, x_um, y_um)
        notch = 1 / (1 + self.hilum.to_circle(x32, y32) ** 2) ** 2
        return np.asarray(depth - np.float32(0.5 * radius) * notch, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Stroke:
    """A felt pen stroke along points (um); ``rgb`` is what the ink lets through, 0 to 1."""

    points: tuple[tuple[float, float], ...]
    width_um: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What is wrong with the preparation: ``folds`` are drawn like strokes, the others are round."""

    strokes: tuple[Stroke, ...] = ()
    folds: tuple[Stroke, ...] = ()
    blurred: tuple[Ellipse, ...] = ()
    bubbles: tuple[Ellipse, ...] = ()
    dust: tuple[Ellipse, ...] = ()


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """Everything on a slide."""

    seed: int
    growth: Growth
    nodes: tuple[Node, ...]
    artefacts: Artefacts


def plan_slide(spec: SlideSpec) -> SlidePlan:
    """Lay out a slide; only the tissue's seed and the sizes matter, not the centre.

    Raises:
        UserError: the nodes do not fit on the slide.

    """
    random = np.random.default_rng([spec.seed, 1])
    outlines = _place_nodes(spec, random)
    # The metastasis that names the class is in the first node; the others carry at most smaller ones.
    lesser = {LesionClass.MACRO: LesionClass.MICRO, LesionClass.MICRO: LesionClass.ITC}
    nodes = tuple(
        _plan_node(outline, spec.lesion if k == 0 else lesser.get(spec.lesion, LesionClass.NEGATIVE), random)
        for k, outline in enumerate(outlines)
    )
    growth = Growth(int(np.random.default_rng([spec.seed, 2]).integers(4)))
    return SlidePlan(spec.seed, growth, nodes, _plan_artefacts(spec, nodes, np.random.default_rng([spec.seed, 3])))


def _place_nodes(spec: SlideSpec, random: np.random.Generator) -> list[Ellipse]:
    outlines: list[Ellipse] = []
    margin = 0.62 * spec.node_um
    for _ in range(400 * max(1, spec.node_count)):
        if len(outlines) == spec.node_count:
            break
        radius = 0.5 * spec.node_um * random.uniform(0.94, 1.06)
        aspect, angle = random.uniform(1.05, 1.3), random.uniform(0, np.pi)
        if spec.node_count == 1:
            jitter = random.uniform(-0.02, 0.02, 2)
            x, y = spec.width_um * (0.5 + jitter[0]), spec.height_um * (0.5 + jitter[1])
        else:
            if min(spec.width_um, spec.height_um) <= 2 * margin:
                break
            x, y = random.uniform(margin, spec.width_um - margin), random.uniform(margin, spec.height_um - margin)
        if any((x - o.x_um) ** 2 + (y - o.y_um) ** 2 < (1.35 * spec.node_um) ** 2 for o in outlines):
            continue
        root = np.sqrt(aspect)
        outlines.append(Ellipse(x, y, radius * root, radius / root, float(np.cos(angle)), float(np.sin(angle))))
    if len(outlines) < spec.node_count:
        raise UserError(
            f"{spec.node_count} nodes of {spec.node_um:g} um do not fit on a virtual slide of {spec.width_um:g} x "
            f"{spec.height_um:g} um; make the slide larger or the nodes fewer or smaller."
        )
    return outlines


def _plan_node(outline: Ellipse, lesion: LesionClass, random: np.random.Generator) -> Node:
    radius = outline.radius_um
    hilum_angle = random.uniform(0, 2 * np.pi)
    hilum_x, hilum_y = outline.at(hilum_angle, 1.0)
    bare = Node(
        seed=int(random.integers(2**31)),
        shape=outline,
        hilum=Ellipse(hilum_x, hilum_y, 0.42 * radius, 0.42 * radius),
        follicles=(),
        vessels=(),
        lesions=(),
    )
    lesions = _plan_lesions(bare, lesion, random)
    return Node(
        seed=bare.seed,
        shape=outline,
        hilum=bare.hilum,
        follicles=_plan_follicles(bare, hilum_angle, random),
        vessels=_plan_vessels(bare, hilum_angle, random),
        lesions=lesions,
    )


def _plan_follicles(node: Node, hilum_angle: float, random: np.random.Generator) -> tuple[Follicle, ...]:
    scale = float(np.clip(np.sqrt(node.shape.radius_um / 1300), 0.6, 1.5))
    follicles: list[Follicle] = []
    for _ in range(int(60 * max(1.0, node.shape.radius_um / 1300))):
        angle = random.uniform(0, 2 * np.pi)
        radius = random.uniform(100, 210) * scale
        depth = radius * random.uniform(0.9, 1.25) + 40 + (random.random() < 0.25) * radius * 1.5
        x, y = node.shape.at(angle, 1 - depth / node.shape.radius_um)
        away = abs((angle - hilum_angle + np.pi) % (2 * np.pi) - np.pi)
        if away < 0.6 or any(
            np.hypot(x - f.shape.x_um, y - f.shape.y_um) < 0.95 * (radius + f.shape.radius_um) for f in follicles
        ):
            continue
        turn, aspect = random.uniform(0, np.pi), random.uniform(1, 1.25)
        shape = Ellipse(x, y, radius * aspect, radius / aspect, float(np.cos(turn)), float(np.sin(turn)))
        follicles.append(Follicle(shape, random.uniform(0.5, 0.7) if random.random() < 0.7 else 0.0))
    return tuple(follicles)


def _plan_vessels(node: Node, hilum_angle: float, random: np.random.Generator) -> tuple[Vessel, ...]:
    vessels = []
    sites = [(random.uniform(0, 2 * np.pi), random.uniform(1.05, 1.14)) for _ in range(9)]
    sites += [(hilum_angle + random.normal(0, 0.25), random.uniform(0.6, 1.1)) for _ in range(7)]
    sites += [(random.uniform(0, 2 * np.pi), random.uniform(0.35, 0.75)) for _ in range(8)]
    for angle, q in sites:
        x, y = node.shape.at(angle, q)
        radius = random.uniform(9, 26) if q < 0.8 else random.uniform(14, 60)
        turn, aspect = random.uniform(0, np.pi), random.uniform(1.0, 1.5)
        shape = Ellipse(x, y, radius * aspect, radius / aspect, float(np.cos(turn)), float(np.sin(turn)))
        wall = random.uniform(0.12, 0.55) * radius + 3 if q > 0.8 else random.uniform(4, 9)
        vessels.append(Vessel(shape, wall, random.uniform(0, 1) ** 2))
    return tuple(vessels)


def _plan_lesions(node: Node, lesion: LesionClass, random: np.random.Generator) -> tuple[Lesion, ...]:
    lesions: list[Lesion] = []
    radius = node.shape.radius_um

    def add(diameter_um: float, aspect: float, depth_um: float, roughness: float) -> None:
        semi = 0.5 * diameter_um
        for _ in range(50):
            angle = random.uniform(0, 2 * np.pi)
            x, y = node.shape.at(angle, 1 - depth_um / radius)
            clear = all(
                np.hypot(x - o.shape.x_um, y - o.shape.y_um) > 1.35 * (semi + o.shape.a_um) + 40 for o in lesions
            )
            if clear and float(node.depth(np.array([x]), np.array([y]))[0, 0]) > min(0.6 * semi, 0.2 * radius) + 15:
                turn = random.uniform(0, 2 * np.pi)
                shape = Ellipse(x, y, semi, semi / aspect, float(np.cos(turn)), float(np.sin(turn)))
                lesions.append(Lesion(shape, roughness * semi))
                return

    if lesion is LesionClass.MACRO:
        # A macrometastasis replaces a large part of the node: its long axis lies along the node's, the node clips it.
        semi = max(1.16 * 0.5 * MICRO_LIMIT_UM, radius * random.uniform(0.85, 1.0))
        x, y = node.shape.at(random.uniform(0, 2 * np.pi), random.uniform(0.05, 0.3))
        shape = Ellipse(x, y, semi, semi * random.uniform(0.55, 0.75), node.shape.cos, node.shape.sin)
        lesions.append(Lesion(shape, 0.06 * semi))
    if lesion in {LesionClass.MACRO, LesionClass.MICRO}:
        largest = min(1500.0, 0.8 * node.shape.b_um)
        for k in range(1 if lesion is LesionClass.MACRO else int(random.integers(1, 4))):
            diameter = (
                random.uniform(0.55 * largest, largest) if k == 0 else random.uniform(260, max(280, 0.5 * largest))
            )
            add(diameter, random.uniform(1.0, 1.3), 0.5 * diameter * random.uniform(0.7, 1.3) + 25, 0.07)
    if lesion is not LesionClass.NEGATIVE:
        for _ in range(int(random.integers(5, 11))):
            diameter = random.choice([34.0, 55.0, 90.0, 150.0], p=[0.25, 0.25, 0.25, 0.25]) * random.uniform(0.85, 1.1)
            deep = random.random() < 0.3
            add(diameter, random.uniform(1.0, 1.4), random.uniform(90, 500) if deep else 0.5 * diameter + 22, 0.05)
    return tuple(lesions)


_INKS = ((0.10, 0.55, 0.32), (0.12, 0.22, 0.62), (0.10, 0.10, 0.12), (0.75, 0.12, 0.15))


def _walk(
    start: tuple[float, float], length_um: float, bend: float, random: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """Points of a curved line."""
    steps = 12
    heading, (x, y) = random.uniform(0, 2 * np.pi), start
    points = [start]
    for _ in range(steps):
        heading += random.normal(0, bend)
        x, y = x + np.cos(heading) * length_um / steps, y + np.sin(heading) * length_um / steps
        points.append((float(x), float(y)))
    return tuple(points)


def _plan_strokes(
    spec: SlideSpec, nodes: tuple[Node, ...], somewhere: Callable[[], tuple[float, float]], random: np.random.Generator
) -> tuple[Stroke, ...]:
    strokes = []
    for _ in range(spec.pen_marks):
        if nodes:
            outline = nodes[int(random.integers(len(nodes)))].shape
            start = outline.at(random.uniform(0, 2 * np.pi), random.uniform(0.95, 1.25))
        else:
            start = somewhere()
        length = random.uniform(0.5, 1.2) * spec.node_um
        ink = _INKS[int(random.integers(len(_INKS)))]
        strokes.append(Stroke(_walk(start, length, 0.25, random), random.uniform(140, 260), ink))
    return tuple(strokes)


def _plan_artefacts(spec: SlideSpec, nodes: tuple[Node, ...], random: np.random.Generator) -> Artefacts:
    def somewhere() -> tuple[float, float]:
        return random.uniform(0.05, 0.95) * spec.width_um, random.uniform(0.05, 0.95) * spec.height_um

    strokes = _plan_strokes(spec, nodes, somewhere, random)
    folds, blurred, bubbles, dust = [], [], [], []
    for node in nodes:
        for _ in range(spec.folds):
            start = node.shape.at(random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.9))
            points = _walk(start, random.uniform(0.3, 0.8) * node.shape.radius_um, 0.12, random)
            folds.append(Stroke(points, random.uniform(22, 60), (1.0, 1.0, 1.0)))
        for _ in range(spec.blurred_areas):
            x, y = node.shape.at(random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.9))
            radius = random.uniform(0.15, 0.4) * node.shape.radius_um
            blurred.append(Ellipse(x, y, radius * 1.3, radius, 1.0, 0.0))
    for _ in range(spec.bubbles):
        radius = random.uniform(60, 260)
        bubbles.append(Ellipse(*somewhere(), radius, radius * random.uniform(0.85, 1.0)))
    for _ in range(spec.dust):
        turn = random.uniform(0, np.pi)
        size = random.uniform(2, 7), random.uniform(2, 4)
        dust.append(Ellipse(*somewhere(), *size, float(np.cos(turn)), float(np.sin(turn))))
    return Artefacts(strokes, tuple(folds), tuple(blurred), tuple(bubbles), tuple(dust))
