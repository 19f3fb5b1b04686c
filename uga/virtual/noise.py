"""Seeded randomness that depends on the place alone, so that any part of a slide can be drawn by itself.

Every random number is a hash of a seed and an integer lattice position (in micrometres), never a draw from a
generator with state; two renderings of the same place therefore agree whatever was drawn before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT_SD = 3.7  # a cubic B-spline of uniform values in [-1, 1] has a standard deviation of about 1 / 3.7


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalise as SplitMix64 does (Steele, Lea, Flood, OOPSLA 2014)."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def hash_lattice(seed: int, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash every lattice position ``(i, j)`` to 64 bits; the two arrays broadcast."""
    with np.errstate(over="ignore"):
        key = np.asarray([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) * _GOLDEN
        row = _mix(np.asarray(j).astype(np.uint64) + key)
        return _mix(row + np.asarray(i).astype(np.uint64) * _GOLDEN)


def derive(seed: int, *keys: int) -> int:
    """Make a seed for one purpose from a seed and the numbers that name the purpose."""
    value = np.asarray([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            value = _mix(value + np.uint64((key + 1) & 0xFFFFFFFF) * _GOLDEN)
    return int(value[0])


def unit(hashes: NDArray[np.uint64], which: int = 0) -> Floats:
    """Uniform numbers in [0, 1): 16 bits of each hash; ``which`` (0 to 3) takes independent bits."""
    return ((hashes >> np.uint64(16 * which)) & np.uint64(0xFFFF)).astype(np.float32) / np.float32(65536)


def _spline(positions: NDArray[np.float64]) -> tuple[Floats, int]:
    """Cubic B-spline weights (n, k) of positions in lattice units, and the first lattice index."""
    cell = np.floor(positions).astype(np.int64)
    first = int(cell[0]) - 1
    weights = np.zeros((len(positions), int(cell[-1]) + 3 - first), dtype=np.float32)
    t = (positions - cell).astype(np.float32)
    rows = np.arange(len(positions))
    start = cell - 1 - first
    weights[rows, start] = (1 - t) ** 3 / 6
    weights[rows, start + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[rows, start + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[rows, start + 3] = t**3 / 6
    return weights, first


def smooth_noise(seed: int, pitch_um: float, x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> Floats:
    """Smooth noise of about unit variance on the grid ``y_um`` x ``x_um`` (ascending); features of ``pitch_um``."""
    weights_x, first_x = _spline(x_um / pitch_um)
    weights_y, first_y = _spline(y_um / pitch_um)
    i = np.arange(first_x, first_x + weights_x.shape[1])[None, :]
    j = np.arange(first_y, first_y + weights_y.shape[1])[:, None]
    values = (2 * unit(hash_lattice(seed, i, j)) - 1) * np.float32(_UNIT_SD)
    return np.asarray(weights_y @ values @ weights_x.T, dtype=np.float32)


def cell_distances(seed: int, pitch_um: float, x_um: Floats, y_um: Floats) -> tuple[Floats, Floats, Floats]:
    """Worley noise: distance in um to the nearest and second nearest of jittered lattice points, and the cell's number.

    Args:
        seed: of the lattice.
        pitch_um: mean distance of the points.
        x_um: positions (h, w); they may be warped.
        y_um: positions (h, w).

    Returns:
        First and second distance, and a uniform number in [0, 1) that is the same all over a cell; each (h, w).
        (Worley, A cellular texture basis function, SIGGRAPH 1996; the 3 x 3 neighbourhood.)

    """
    cell_x, cell_y = np.floor(x_um / pitch_um), np.floor(y_um / pitch_um)
    first_i, first_j = int(cell_x.min()) - 1, int(cell_y.min()) - 1
    i = np.arange(first_i, int(cell_x.max()) + 2)[None, :]
    j = np.arange(first_j, int(cell_y.max()) + 2)[:, None]
    hashes = hash_lattice(seed, i, j)
    point_x = ((i + 0.1 + 0.8 * unit(hashes)) * pitch_um).astype(np.float32)
    point_y = ((j + 0.1 + 0.8 * unit(hashes, 1)) * pitch_um).astype(np.float32)
    number = unit(hashes, 2)
    at = ((cell_y - first_j) * hashes.shape[1] + (cell_x - first_i)).astype(np.int32)
    nearest = np.full(x_um.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    identity = np.zeros_like(nearest)
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            index = at + (dj * hashes.shape[1] + di)
            distance = (x_um - point_x.ravel()[index]) ** 2 + (y_um - point_y.ravel()[index]) ** 2
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            identity = np.where(closer, number.ravel()[index], identity)
            nearest = np.minimum(nearest, distance)
    return np.sqrt(nearest), np.sqrt(second), identity


def ramp(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, linear between; ``low`` > ``high`` gives the falling ramp."""
    return np.asarray(np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1), dtype=np.float32)
