"""Exact area resampling: a target pixel is the mean of what it covers.

The weights of a target pixel depend on its absolute index alone, and its sum runs over its own source pixels in
ascending order; so its value is the same, bit for bit, whichever region it is computed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uga.slide.reader import Rgb

# Edges this close to a source pixel's edge are on it: no slivers from the rounding of `index * ratio`.
_SNAP_PX = 1e-6


@dataclass(frozen=True, slots=True)
class Coverage:
    """How target pixels cover source pixels ``start`` to ``stop`` along one axis.

    ``weights`` is sparse, float32 (targets, stop - start), each row summing to 1.
    """

    start: int
    stop: int
    weights: Any
    is_identity: bool


def coverage(first: int, last: int, ratio: float, size: int) -> Coverage:
    """Coverage of target pixels ``first`` to ``last`` (exclusive), all of which must touch the source.

    Target pixel ``i`` covers ``[i * ratio, (i + 1) * ratio)`` of a source of ``size`` pixels. Only the part inside
    the source counts; a target that a rounded-down level size leaves with nothing takes the last source pixel.
    """
    edges = np.arange(first, last + 1, dtype=np.float64) * ratio
    nearest = np.rint(edges)
    edges = np.where(np.abs(edges - nearest) < _SNAP_PX, nearest, edges).clip(0, size)
    low, high = edges[:-1], edges[1:]
    beyond = low >= size
    low, high = np.where(beyond, size - 1, low), np.where(beyond, size, high)
    begin, end = np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)
    start, stop = int(begin[0]), int(end.max())
    source = begin[:, None] + np.arange(int((end - begin).max()))
    covered = np.minimum(high[:, None], source + 1) - np.maximum(low[:, None], source)
    covered = np.where(source < stop, covered.clip(0), 0)
    covered /= covered.sum(axis=1, keepdims=True)
    row, tap = np.nonzero(covered)
    weights = sparse.csr_matrix(
        (covered[row, tap].astype(np.float32), (row, source[row, tap] - start)), shape=(last - first, stop - start)
    )
    identity = stop - start == last - first == row.size and bool(np.all(begin - start == np.arange(last - first)))
    return Coverage(start, stop, weights, identity)


def area_average(pixels: Rgb, rows: Coverage, columns: Coverage) -> Rgb:
    """Mean of ``pixels`` over each target pixel, rounded half to even.

    Args:
        pixels: uint8 (rows.stop - rows.start, columns.stop - columns.start, 3).
        rows: Coverage along y.
        columns: Coverage along x.

    Returns:
        uint8 (row targets, column targets, 3).
    """
    if rows.is_identity and columns.is_identity:
        return pixels
    height, width = pixels.shape[:2]
    # Sparse products run along the first axis, so x is brought there first; cv2 transposes blockwise, numpy does not.
    across: NDArray[np.float32] = columns.weights @ cv2.transpose(pixels).reshape(width, height * 3).astype(np.float32)
    targets = across.shape[0]
    down = rows.weights @ cv2.transpose(across.reshape(targets, height, 3)).reshape(height, targets * 3)
    mean: Rgb = np.rint(down, out=down).astype(np.uint8).reshape(-1, targets, 3)
    return mean


def any_covered(mask: NDArray[np.bool_], rows: Coverage, columns: Coverage) -> NDArray[np.bool_]:
    """True where a target pixel covers any True pixel of ``mask``; shapes as in `area_average`."""
    across = columns.weights @ mask.T.astype(np.float32)
    found: NDArray[np.bool_] = (rows.weights @ across.T) > 0
    return found
