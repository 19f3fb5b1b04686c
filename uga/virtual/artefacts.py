"""What preparation and scanning add to a slide: pen, folds, air bubbles, dust, areas out of focus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from uga.virtual.noise import Floats, derive, hash_lattice, ramp, smooth_noise, unit

if TYPE_CHECKING:
    from uga.virtual.plan import Ellipse, Stroke

Positions = NDArray[np.float64]


def stroke_distance(stroke: Stroke, x_um: Positions, y_um: Positions) -> Floats | None:
    """Distance (um) to a stroke's centre line on the grid ``y_um`` x ``x_um``; None if it is farther than its width."""
    reach = stroke.width_um
    points = np.asarray(stroke.points)
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    if x_um[0] > high[0] or x_um[-1] < low[0] or y_um[0] > high[1] or y_um[-1] < low[1]:
        return None
    nearest = np.full((len(y_um), len(x_um)), np.float32(4 * reach**2))
    x, y = x_um.astype(np.float32)[None, :], y_um.astype(np.float32)[:, None]
    for (x0, y0), (x1, y1) in zip(stroke.points[:-1], stroke.points[1:], strict=True):
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        distance = (x - (x0 + t * dx)) ** 2 + (y - (y0 + t * dy)) ** 2
        nearest = np.minimum(nearest, distance.astype(np.float32))
    return np.sqrt(nearest)


def fold_density(folds: tuple[Stroke, ...], seed: int, x_um: Positions, y_um: Positions) -> Floats | None:
    """Factor on the tissue's optical density: 1, and up to 2.2 where the tissue lies double; None without a fold."""
    factor: Floats | None = None
    for fold in folds:
        distance = stroke_distance(fold, x_um, y_um)
        if distance is None:
            continue
        wavy = distance + np.float32(0.12 * fold.width_um) * smooth_noise(derive(seed, 21), 70.0, x_um, y_um)
        half = 0.5 * fold.width_um
        layer = 1 + ramp(wavy, half + 2, half - 1) + 0.25 * ramp(np.abs(wavy - half), 4, 0)
        factor = layer if factor is None else np.maximum(factor, layer)
    return factor


def ink(strokes: tuple[Stroke, ...], seed: int, x_um: Positions, y_um: Positions) -> Floats | None:
    """Compute what felt pen ink lets through (h, w, 3), 0 to 1; None where there is no ink."""
    light: Floats | None = None
    for stroke in strokes:
        distance = stroke_distance(stroke, x_um, y_um)
        if distance is None:
            continue
        half = 0.5 * stroke.width_um
        wavy = distance + 5 * smooth_noise(derive(seed, 22), 40.0, x_um, y_um)
        body = ramp(wavy, half + 4, half - 4)
        # Ink gathers at the edge of the stroke and is streaky within.
        streaks = 0.10 * smooth_noise(derive(seed, 23), 60.0, x_um, y_um) + 0.05 * smooth_noise(
            derive(seed, 24), 9.0, x_um, y_um
        )
        strength = body * np.clip(0.62 + streaks + 0.3 * ramp(np.abs(wavy - half + 9), 12, 0), 0.1, 1.0)
        through = 1 - strength[..., None] * (1 - np.asarray(stroke.rgb, dtype=np.float32))
        light = through if light is None else light * through
    return light


def shade(
    rgb: Floats, bubbles: tuple[Ellipse, ...], dust: tuple[Ellipse, ...], x_um: Positions, y_um: Positions
) -> None:
    """Draw air bubbles (dark rims) and dust specks into an RGB picture, in place; positions are its pixels'."""
    for things, rim in ((bubbles, 9.0), (dust, 1.2)):
        for thing in things:
            reach = max(thing.a_um, thing.b_um) + 3 * rim
            i0, i1 = np.searchsorted(x_um, [thing.x_um - reach, thing.x_um + reach])
            j0, j1 = np.searchsorted(y_um, [thing.y_um - reach, thing.y_um + reach])
            if i0 == i1 or j0 == j1:
                continue
            x, y = x_um[i0:i1].astype(np.float32)[None, :], y_um[j0:j1].astype(np.float32)[:, None]
            edge = (1 - thing.to_circle(x, y)) * np.float32(thing.radius_um)
            if rim > 5:
                light = 1 - 0.55 * ramp(np.abs(edge), rim, 0) - 0.06 * ramp(edge, 0, rim)
            else:
                light = 1 - 0.75 * ramp(edge, -rim, rim)
            rgb[j0:j1, i0:i1] *= light[..., None]


def defocus(
    rgb: Floats, areas: tuple[Ellipse, ...], sigma_um: float, spacing_um: float, x_um: Positions, y_um: Positions
) -> Floats:
    """Blend an RGB picture with its blurred self inside the areas; the edge of an area is gradual."""
    for area in areas:
        reach = max(area.a_um, area.b_um) * 1.05
        if not (x_um[0] - reach < area.x_um < x_um[-1] + reach and y_um[0] - reach < area.y_um < y_um[-1] + reach):
            continue
        x, y = x_um.astype(np.float32)[None, :], y_um.astype(np.float32)[:, None]
        weight = ramp(area.to_circle(x, y), 1.0, 0.6)[..., None]
        blurred = cv2.GaussianBlur(rgb, (0, 0), sigma_um / spacing_um)
        rgb = rgb + weight * (blurred - rgb)
    return rgb


def texture_tile(seed: int, side: int, sigma_px: float) -> Floats:
    """Periodic smooth noise of unit variance, (side, side)."""
    j, i = np.arange(side)[:, None], np.arange(side)[None, :]
    white = unit(hash_lattice(seed, i, j)) - np.float32(0.5)
    pad = int(4 * sigma_px) + 1
    wrapped = cv2.copyMakeBorder(white, pad, pad, pad, pad, cv2.BORDER_WRAP)
    smooth = cv2.GaussianBlur(wrapped, (0, 0), sigma_px)[pad:-pad, pad:-pad]
    return np.asarray(smooth / smooth.std(), dtype=np.float32)
