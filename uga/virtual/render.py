"""Pixels of a virtual slide.

A slide is drawn in square blocks on a fixed lattice; each block is a function of the specification alone, and any
region is cut out of blocks. So a region has the same pixels whatever was drawn before, and memory stays bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from uga.geometry import GridRegion, Level0Region
from uga.virtual import artefacts
from uga.virtual.anatomy import labels, tissue
from uga.virtual.cells import ANGLES, VARIANTS, CellKind, place, sprites, stamp
from uga.virtual.noise import Floats, derive, hash_lattice, unit
from uga.virtual.place import Tissue, nodes_near
from uga.virtual.plan import SlidePlan, plan_slide

if TYPE_CHECKING:
    from uga.virtual.spec import SlideSpec

BLOCK_PX = 1024
_MARGIN_UM = 18  # half the largest sprite and a little more
_DEFOCUS_UM = 3.0
_PERIOD_PX = 1280  # of the textures that have no structure
_FIBRE_UM = 0.5  # spacing of the fibre texture
_STRETCH = 0.14  # fibres are this much thinner than long
_CACHED_BLOCKS = 24

Rgb8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Window:
    """Level-0 pixels that a picture covers and the 1 um pixels of the tissue under it."""

    x_px: int
    y_px: int
    width: int
    height: int
    spacing_um: float
    x0_um: int
    y0_um: int

    @property
    def x_um(self) -> NDArray[np.float64]:
        return (self.x_px + np.arange(self.width, dtype=np.float64) + 0.5) * self.spacing_um

    @property
    def y_um(self) -> NDArray[np.float64]:
        return (self.y_px + np.arange(self.height, dtype=np.float64) + 0.5) * self.spacing_um

    def grid_um(self, width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of 1 um pixels from the tissue's corner on."""
        x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
        return self.x0_um + x + 0.5, self.y0_um + y + 0.5

    def magnify(self, field: Floats) -> Floats:
        """Linear interpolation of values on 1 um pixels at the picture's pixels."""
        s = self.spacing_um
        shift_x = (self.x_px + 0.5) * s - self.x0_um - 0.5
        shift_y = (self.y_px + 0.5) * s - self.y0_um - 0.5
        matrix = np.array([[s, 0, shift_x], [0, s, shift_y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (self.width, self.height)
        return np.asarray(cv2.warpAffine(field, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


class Renderer:
    """Draws the regions of one slide; keeps the last few blocks."""

    def __init__(self, spec: SlideSpec) -> None:
        self.spec = spec
        self.plan = plan_slide(spec)
        self._block = lru_cache(maxsize=_CACHED_BLOCKS)(self._draw_block)
        glass = np.rint(np.clip(spec.centre.white, 0, 255)).astype(np.uint8)
        self.glass: tuple[int, int, int] = (int(glass[0]), int(glass[1]), int(glass[2]))

    def region(self, region: Level0Region) -> Rgb8:
        """RGB of a level-0 region, uint8 (h, w, 3); outside the slide is white."""
        out = np.full((region.height, region.width, 3), 255, dtype=np.uint8)
        x_end = min(region.x + region.width, self.spec.width_px)
        y_end = min(region.y + region.height, self.spec.height_px)
        for by in range(max(0, region.y) // BLOCK_PX, math.ceil(y_end / BLOCK_PX)):
            for bx in range(max(0, region.x) // BLOCK_PX, math.ceil(x_end / BLOCK_PX)):
                x0, x1 = max(region.x, bx * BLOCK_PX, 0), min(x_end, (bx + 1) * BLOCK_PX)
                y0, y1 = max(region.y, by * BLOCK_PX, 0), min(y_end, (by + 1) * BLOCK_PX)
                target = out[y0 - region.y : y1 - region.y, x0 - region.x : x1 - region.x]
                if self.is_blank(bx, by):
                    target[:] = self.glass
                else:
                    block = self._block(bx, by)
                    target[:] = block[y0 - by * BLOCK_PX : y1 - by * BLOCK_PX, x0 - bx * BLOCK_PX : x1 - bx * BLOCK_PX]
        return out

    def is_blank(self, bx: int, by: int) -> bool:
        """Whether a block is empty glass for certain, without drawing it."""
        side = BLOCK_PX * self.spec.centre.spacing_um
        x0, y0 = bx * side, by * side
        x1, y1 = x0 + side, y0 + side
        if nodes_near(self.plan, x0 - _MARGIN_UM, y0 - _MARGIN_UM, x1 + _MARGIN_UM, y1 + _MARGIN_UM):
            return False
        marks = self.plan.artefacts
        for stroke in marks.strokes:
            xs, ys = zip(*stroke.points, strict=True)
            reach = stroke.width_um
            if min(xs) - reach < x1 and max(xs) + reach > x0 and min(ys) - reach < y1 and max(ys) + reach > y0:
                return False
        return not any(
            x0 - 1.3 * e.a_um - 30 < e.x_um < x1 + 1.3 * e.a_um + 30
            and y0 - 1.3 * e.a_um - 30 < e.y_um < y1 + 1.3 * e.a_um + 30
            for e in (*marks.bubbles, *marks.dust)
        )

    def _draw_block(self, bx: int, by: int) -> Rgb8:
        spacing, centre, marks = self.spec.centre.spacing_um, self.spec.centre, self.plan.artefacts
        side_um = BLOCK_PX * spacing
        x_um, y_um = bx * side_um, by * side_um
        soft = any(
            e.a_um + side_um > abs(e.x_um - x_um - side_um / 2) and e.a_um + side_um > abs(e.y_um - y_um - side_um / 2)
            for e in marks.blurred
        )
        blur_um = max(centre.blur_um, _DEFOCUS_UM if soft else 0.0)
        border = math.ceil(3 * blur_um / spacing) + 1
        x0_um, y0_um = math.floor(x_um) - _MARGIN_UM - border, math.floor(y_um) - _MARGIN_UM - border
        side = math.ceil(side_um) + 2 * (_MARGIN_UM + border) + 2
        window = _Window(
            bx * BLOCK_PX - border,
            by * BLOCK_PX - border,
            BLOCK_PX + 2 * border,
            BLOCK_PX + 2 * border,
            spacing,
            x0_um,
            y0_um,
        )
        found = tissue(self.plan, x0_um, y0_um, side, side)
        x, y = window.x_um, window.y_um
        if found is None:
            rgb = np.empty((window.height, window.width, 3), dtype=np.float32)
            rgb[:] = centre.white
        else:
            rgb = centre.develop(*self._stains(found, window))
            rgb = artefacts.defocus(rgb, marks.blurred, _DEFOCUS_UM, spacing, x, y)
        grid_x, grid_y = window.grid_um(side, side)
        ink = artefacts.ink(marks.strokes, self.plan.seed, grid_x, grid_y)
        if ink is not None:
            rgb *= np.dstack([window.magnify(np.ascontiguousarray(ink[..., c])) for c in range(3)])
        artefacts.shade(rgb, marks.bubbles, marks.dust, x, y)
        if found is not None:
            rgb = cv2.GaussianBlur(rgb, (0, 0), max(0.3, centre.blur_um / spacing))
        inner = slice(border, border + BLOCK_PX)
        return np.asarray(np.clip(rgb[inner, inner] + 0.5, 0, 255), dtype=np.float32).astype(np.uint8)

    def _stains(self, found: Tissue, window: _Window) -> tuple[Floats, Floats]:
        """Concentrations of haematoxylin and eosin (h, w) at the pixels of a window."""
        haematoxylin = window.magnify(found.haematoxylin)
        eosin = window.magnify(found.eosin)
        grain, cloud = self._grain(window)
        if found.fibre.any():
            self._fibres(found, window, eosin)
        eosin *= 1 + 0.10 * cloud
        haematoxylin *= 1 + 0.18 * cloud
        self._cells(found, window, haematoxylin, eosin)
        solid = window.magnify(found.solid_um)
        solid += 0.12 * cloud
        cover = np.clip(solid * np.float32(0.8) + np.float32(0.5), 0, 1)
        # Nuclei are cut with the tissue but do not end at a hole's edge.
        eosin *= cover * (1 - 0.42 * np.minimum(haematoxylin, 1.0))
        haematoxylin *= cover
        height, width = found.eosin.shape
        grid_x, grid_y = window.grid_um(width, height)
        folds = artefacts.fold_density(self.plan.artefacts.folds, self.plan.seed, grid_x, grid_y)
        noise = 1 + np.float32(self.spec.centre.noise) * grain
        if folds is not None:
            noise *= window.magnify(folds)
        batch = hash_lattice(
            derive(self.spec.seed, 31, self.spec.centre_id), np.zeros(1, np.int64), np.zeros(1, np.int64)
        )
        haematoxylin *= noise * (0.92 + 0.16 * unit(batch)[0])
        eosin *= noise * (0.90 + 0.20 * unit(batch, 1)[0])
        return haematoxylin, eosin

    def _grain(self, window: _Window) -> tuple[Floats, Floats]:
        """Two periodic textures, the same at a pixel whichever block draws it: sensor noise and protoplasm."""
        i, j = window.x_px % _PERIOD_PX, window.y_px % _PERIOD_PX
        view = (slice(j, j + window.height), slice(i, i + window.width))
        fine, coarse = _tiles(window.spacing_um, max(window.width, window.height))
        return fine[view], coarse[view]

    def _fibres(self, found: Tissue, window: _Window, eosin: Floats) -> None:
        """Collagen: bundles along the contour lines of `Tissue.across_um`, with clefts between."""
        texture = _fibre_texture()
        period = texture.shape[0] * _FIBRE_UM
        x = np.arange(found.eosin.shape[1], dtype=np.float32)[None, :] + window.x0_um
        y = np.arange(found.eosin.shape[0], dtype=np.float32)[:, None] + window.y0_um
        bend = 0.06 * (found.across_um - 0.83 * x - 0.56 * y)
        along = np.asarray(_STRETCH * (0.71 * x - 0.70 * y) + bend, dtype=np.float32)
        # Whole periods are taken off because the remapping counts in 16 bits.
        maps = [
            window.magnify((field - period * np.floor(field.min() / period)) * np.float32(1 / _FIBRE_UM))
            for field in (along, found.across_um)
        ]
        bundles = cv2.remap(texture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        weight = window.magnify(found.fibre)
        cleft = np.clip((-0.95 - bundles) * 2.4, 0, 1)
        eosin *= 1 + weight * (0.28 * np.clip(bundles, -1.5, 2.0) - 0.7 * cleft)

    def _cells(self, found: Tissue, window: _Window, haematoxylin: Floats, eosin: Floats) -> None:
        spacing = window.spacing_um
        largest = max(sprites(kind, spacing).side for kind in CellKind)
        pad = largest + 1
        size = (window.height + 2 * pad, window.width + 2 * pad)
        h_canvas, e_canvas = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
        for kind, density in found.density.items():
            cells = place(kind, self.plan.seed, density, window.x0_um, window.y0_um)
            if not len(cells.x_um):
                continue
            library = sprites(kind, spacing)
            left = np.rint(cells.x_um / spacing - library.side / 2).astype(np.int64) - window.x_px + pad
            top = np.rint(cells.y_um / spacing - library.side / 2).astype(np.int64) - window.y_px + pad
            chosen = (cells.draw * VARIANTS).astype(np.int64)
            if kind is CellKind.SPINDLE:
                chosen = chosen // ANGLES * ANGLES + _fibre_angle(
                    found.across_um, cells.x_um - window.x0_um, cells.y_um - window.y0_um
                )
            if library.haematoxylin is not None:
                stamp(h_canvas, library.haematoxylin, chosen, left, top)
            if library.eosin is not None:
                stamp(e_canvas, library.eosin, chosen, left, top)
        inner = (slice(pad, pad + window.height), slice(pad, pad + window.width))
        np.maximum(haematoxylin, h_canvas[inner], out=haematoxylin)
        np.maximum(eosin, e_canvas[inner], out=eosin)


def _fibre_angle(across_um: Floats, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the `ANGLES` directions the fibres have at positions in 1 um pixels."""
    i = np.clip(x.astype(np.int64), 2, across_um.shape[1] - 3)
    j = np.clip(y.astype(np.int64), 2, across_um.shape[0] - 3)
    dx = across_um[j, i + 2] - across_um[j, i - 2]
    dy = across_um[j + 2, i] - across_um[j - 2, i]
    turn = np.arctan2(dx, -dy) / np.pi * ANGLES
    return np.asarray(np.rint(turn).astype(np.int64) % ANGLES)


@lru_cache(maxsize=4)
def _tiles(spacing_um: float, reach: int) -> tuple[Floats, Floats]:
    """Repeat the textures of `_grain` so that a window of side ``reach`` fits anywhere in the first period."""
    fine = artefacts.texture_tile(41, _PERIOD_PX, 0.5)
    coarse = artefacts.texture_tile(42, _PERIOD_PX, max(0.6, 0.6 / spacing_um))
    times = 1 + math.ceil(reach / _PERIOD_PX)
    return np.tile(fine, (times, times)), np.tile(coarse, (times, times))


@lru_cache(maxsize=1)
def _fibre_texture() -> Floats:
    """Periodic noise of several widths; rows lie across the fibres."""
    side = 512
    bands = [artefacts.texture_tile(51 + k, side, sigma / _FIBRE_UM) for k, sigma in enumerate((0.6, 1.6, 4.0))]
    mixed = 0.75 * bands[0] + 0.65 * bands[1] + 0.5 * bands[2]
    return np.asarray(mixed / mixed.std(), dtype=np.float32)


def render(spec: SlideSpec, region: Level0Region) -> Rgb8:
    """Draw a level-0 region of a virtual slide, uint8 (h, w, 3); for many regions keep a `Renderer`."""
    return Renderer(spec).region(region)


def reference(spec: SlideSpec, region: GridRegion, plan: SlidePlan | None = None) -> Rgb8:
    """Give the reference labels on the 1 um grid, uint8 (h, w): 0 glass, 1 benign tissue, 2 tumour.

    Args:
        spec: the slide.
        region: part of the 1 um grid; outside the slide is glass.
        plan: of the same slide, if it is at hand.

    """
    plan = plan or plan_slide(spec)
    out = np.zeros((region.height, region.width), dtype=np.uint8)
    inside = region.intersection(spec.reference_grid.region)
    if inside is None:
        return out
    side = 512  # a fixed lattice, as for the pixels
    for y0 in range(inside.y // side * side, inside.y_end, side):
        for x0 in range(inside.x // side * side, inside.x_end, side):
            part = GridRegion(x0, y0, side, side).intersection(inside)
            if part is None or not nodes_near(plan, x0, y0, x0 + side, y0 + side):
                continue
            block = labels(plan, x0, y0, side, side)
            out[part.y - region.y : part.y_end - region.y, part.x - region.x : part.x_end - region.x] = block[
                part.y - y0 : part.y_end - y0, part.x - x0 : part.x_end - x0
            ]
    return out
