"""Cells: small libraries of pre-drawn sprites, and the stamping of thousands of them into a picture.

A sprite is the haematoxylin and the eosin concentration of one cell. All sprites are drawn once at a fine
spacing and reduced to the slide's, so cells have the same size in um at every spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from uga.virtual.noise import Floats, derive, hash_lattice, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FINE_UM = 0.125  # spacing at which sprites are drawn
VARIANTS = 96
ANGLES = 16  # directions of the sprites of oriented cells, over half a turn


class CellKind(Enum):
    """Cell types; the value is the pitch in um of the lattice that places them."""

    LYMPHOCYTE = 6.7
    CENTROBLAST = 9.6
    PLASMA_CELL = 10.4
    HISTIOCYTE = 14.5
    SPINDLE = 15.2
    ERYTHROCYTE = 6.6
    TUMOUR = 14.2
    DEBRIS = 8.3


@dataclass(frozen=True, slots=True)
class _Look:
    """How the nucleus and the cytoplasm of one cell type look; lengths in um, stain in concentration units."""

    extent: float  # side of the sprite
    radius: tuple[float, float]
    elongation: tuple[float, float]
    roughness: float
    interior: tuple[float, float]
    rim: float
    chromatin: float
    nucleoli: tuple[int, int] = (0, 0)
    cytoplasm: float = 0.0  # its radius
    eosin: float = 0.0
    basophilia: float = 0.0  # haematoxylin of the cytoplasm
    eccentric: float = 0.0
    dark_share: float = 0.0  # share of hyperchromatic nuclei
    mitoses: float = 0.0


_LOOKS = {
    CellKind.LYMPHOCYTE: _Look(11, (2.7, 3.6), (1.0, 1.2), 0.06, (0.85, 1.25), 0.25, 0.22, eosin=0.0),
    CellKind.CENTROBLAST: _Look(
        16, (3.9, 5.2), (1.0, 1.35), 0.08, (0.30, 0.52), 0.42, 0.22, (1, 3), 6.2, 0.17, 0.14, 0.6, 0.08, 0.03
    ),
    CellKind.PLASMA_CELL: _Look(16, (2.8, 3.5), (1.0, 1.15), 0.05, (0.8, 1.1), 0.2, 0.35, (0, 0), 6.0, 0.34, 0.26, 2.2),
    CellKind.HISTIOCYTE: _Look(
        24, (3.2, 4.3), (1.15, 1.7), 0.12, (0.22, 0.42), 0.34, 0.16, (0, 1), 9.5, 0.27, 0.02, 2.5
    ),
    CellKind.SPINDLE: _Look(24, (2.9, 4.1), (3.2, 6.5), 0.1, (0.6, 1.0), 0.2, 0.18),
    CellKind.ERYTHROCYTE: _Look(10, (0, 0), (1.0, 1.15), 0.05, (0, 0), 0, 0, cytoplasm=3.5, eosin=1.05),
    CellKind.TUMOUR: _Look(
        32, (4.9, 7.6), (1.0, 1.55), 0.14, (0.30, 0.60), 0.42, 0.20, (1, 2), 10.8, 0.40, 0.10, 1.6, 0.14, 0.02
    ),
    CellKind.DEBRIS: _Look(10, (0.7, 2.4), (1.0, 1.5), 0.2, (0.7, 1.2), 0.1, 0.2, cytoplasm=3.6, eosin=0.3),
}


@dataclass(frozen=True, slots=True)
class Sprites:
    """Sprites of one cell type at one spacing: concentrations (n, side, side); None where the stain is absent."""

    haematoxylin: Floats | None
    eosin: Floats | None
    side: int


def _blob(
    angle: Floats, radius_um: Floats, size: float, elongation: float, roughness: float, random: np.random.Generator
) -> Floats:
    """Signed distance (positive inside, um, along the ray) of a wobbly ellipse."""
    a, b = size * np.sqrt(elongation), size / np.sqrt(elongation)
    edge = a * b / np.sqrt((b * np.cos(angle)) ** 2 + (a * np.sin(angle)) ** 2)
    for k in range(2, 6):
        edge *= 1 + roughness / (k - 1) * random.normal() * np.cos(k * angle + random.uniform(0, 2 * np.pi))
    return np.asarray(edge - radius_um, dtype=np.float32)


def _draw(look: _Look, random: np.random.Generator, turn: float) -> tuple[Floats, Floats]:
    n = round(look.extent / _FINE_UM)
    axis = (np.arange(n, dtype=np.float32) + 0.5) * _FINE_UM - look.extent / 2
    x, y = np.meshgrid(axis, axis)
    haematoxylin, eosin = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    shift = random.normal(0, look.eccentric / 2, 2) if look.eccentric else np.zeros(2)
    if look.cytoplasm:
        angle, radius = np.arctan2(y, x) - random.uniform(0, 2 * np.pi), np.hypot(x, y)
        size = look.cytoplasm * random.uniform(0.85, 1.1)
        body = np.clip(_blob(angle, radius, size, random.uniform(1, 1.3), 0.08, random) / (0.28 * size), 0, 1)
        foam = cv2.GaussianBlur(random.standard_normal((n, n)).astype(np.float32), (0, 0), 0.7 / _FINE_UM)
        body *= 1 + 0.16 * foam / foam.std()
        eosin = body * np.float32(look.eosin * random.uniform(0.8, 1.2))
        haematoxylin = body * np.float32(look.basophilia)
    if look.radius[1]:
        nx, ny = x - shift[0], y - shift[1]
        angle, radius = np.arctan2(ny, nx) - turn, np.hypot(nx, ny)
        size = random.uniform(*look.radius)
        distance = _blob(angle, radius, size, random.uniform(*look.elongation), look.roughness, random)
        nucleus = _nucleus(look, distance, size, (nx, ny), random)
        # The nucleus displaces the cytoplasm's stain, all but a little above and below it.
        cover = np.clip(distance / 0.4 + 0.5, 0, 1)
        haematoxylin = np.maximum(haematoxylin * (1 - cover), nucleus)
    return haematoxylin, eosin


def _nucleus(
    look: _Look, distance: Floats, size: float, position: tuple[Floats, Floats], random: np.random.Generator
) -> Floats:
    noise = random.standard_normal(distance.shape).astype(np.float32)
    if random.random() < look.mitoses:  # a metaphase plate, seen from the side or slightly tilted
        turn = random.uniform(0, np.pi)
        across = position[0] * np.cos(turn) + position[1] * np.sin(turn)
        along = position[1] * np.cos(turn) - position[0] * np.sin(turn)
        ragged = cv2.GaussianBlur(noise, (0, 0), 0.6 / _FINE_UM)
        ragged /= ragged.std()
        plate = np.minimum(random.uniform(1.0, 1.8) - np.abs(across), 0.75 * size - np.abs(along)) + 0.45 * ragged
        return np.asarray(np.clip(plate / 0.5, 0, 1) * 1.25, dtype=np.float32)
    cover = np.clip(distance / 0.4 + 0.5, 0, 1)
    clumps = cv2.GaussianBlur(noise, (0, 0), 0.55 / _FINE_UM)
    coarse = cv2.GaussianBlur(noise, (0, 0), 1.1 / _FINE_UM)
    texture = 0.6 * clumps / clumps.std() + 0.6 * coarse / coarse.std()
    dark = random.random() < look.dark_share
    level = random.uniform(0.85, 1.15) if dark else random.uniform(*look.interior)
    rim = look.rim * np.exp(-((np.maximum(distance, 0) / 0.55) ** 2))
    stain = level + look.chromatin * texture + rim
    for _ in range(0 if dark else int(random.integers(look.nucleoli[0], look.nucleoli[1] + 1))):
        angle, reach, radius = random.uniform(0, 2 * np.pi), random.uniform(0, 0.5) * size, random.uniform(0.7, 1.35)
        spot = np.hypot(position[0] - reach * np.cos(angle), position[1] - reach * np.sin(angle))
        stain = np.maximum(stain, 1.1 * np.clip((radius - spot) / 0.35 + 0.5, 0, 1))
    return np.asarray(np.clip(stain, 0.08, 1.5) * cover, dtype=np.float32)


@lru_cache(maxsize=64)
def sprites(kind: CellKind, spacing_um: float) -> Sprites:
    """Draw the sprite library of a cell type; oriented cells (spindles) come as `ANGLES` groups of equal size."""
    look = _LOOKS[kind]
    side = 2 * round(look.extent / spacing_um / 2) + 1
    fine = round(look.extent / _FINE_UM)
    # Centre of the fine picture onto the centre of the sprite; the area is averaged by a small blur before.
    scale = spacing_um / _FINE_UM
    matrix = np.array([[scale, 0, fine / 2 - scale * side / 2], [0, scale, fine / 2 - scale * side / 2]])
    matrix[:, 2] += 0.5 * scale - 0.5
    pictures: list[list[Floats]] = [[], []]
    for k in range(VARIANTS):
        random = np.random.default_rng([k, sorted(c.name for c in CellKind).index(kind.name)])
        turn = np.pi * (k % ANGLES) / ANGLES if kind is CellKind.SPINDLE else random.uniform(0, 2 * np.pi)
        for stain, picture in zip(pictures, _draw(look, random, turn), strict=True):
            smooth = cv2.GaussianBlur(picture, (0, 0), 0.35 * scale)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            stain.append(cv2.warpAffine(smooth, matrix, (side, side), flags=flags))
    haematoxylin, eosin = np.stack(pictures[0]), np.stack(pictures[1])
    return Sprites(haematoxylin if haematoxylin.any() else None, eosin if eosin.any() else None, side)


@dataclass(frozen=True, slots=True)
class Placement:
    """Cells of one type: centres in um (n,) and uniform random numbers (n,) for the choice of sprite."""

    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    draw: Floats


def place(kind: CellKind, seed: int, density: Floats, x0_um: int, y0_um: int) -> Placement:
    """Put cells on a jittered hexagonal lattice, each kept with the probability that ``density`` gives there.

    Args:
        kind: cell type.
        seed: of the slide.
        density: share of the lattice sites that are occupied, on 1 um pixels (h, w).
        x0_um: left edge of ``density``.
        y0_um: top edge.

    """
    height, width = density.shape
    pitch_x, pitch_y = kind.value, kind.value * 0.8660254
    j = np.arange(int(np.floor(y0_um / pitch_y)), int(np.ceil((y0_um + height) / pitch_y)) + 1)[:, None]
    i = np.arange(int(np.floor(x0_um / pitch_x)) - 1, int(np.ceil((x0_um + width) / pitch_x)) + 1)[None, :]
    hashes = hash_lattice(derive(seed, round(kind.value * 10)), i, j)
    x = (i + 0.5 * (j % 2) + 0.5 + 0.62 * (unit(hashes) - 0.5)) * pitch_x
    y = (j + 0.5 + 0.62 * (unit(hashes, 1) - 0.5)) * pitch_y
    column, row = np.floor(x).astype(np.int64) - x0_um, np.floor(y).astype(np.int64) - y0_um
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    keep = inside.copy()
    keep[inside] = unit(hashes, 2)[inside] < density[row[inside], column[inside]]
    return Placement(x[keep], y[keep], unit(hashes, 3)[keep])


def stamp(
    canvas: Floats, library: Floats, chosen: NDArray[np.int64], left: NDArray[np.int64], top: NDArray[np.int64]
) -> None:
    """Lay sprites onto the canvas, keeping the greater concentration; sprites that stick out are left out."""
    side = library.shape[1]
    height, width = canvas.shape
    fits = (left >= 0) & (top >= 0) & (left + side <= width) & (top + side <= height)
    for k, x, y in zip(chosen[fits].tolist(), left[fits].tolist(), top[fits].tolist(), strict=True):
        view = canvas[y : y + side, x : x + side]
        np.maximum(view, library[k], out=view)
