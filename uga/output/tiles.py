"""Operations on the pixels of one tile of a pyramid, uint8 (h, w) or (h, w, 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    UInt8 = NDArray[np.uint8]


def constant_colour(tile: UInt8) -> bytes | None:
    """The one colour of a tile, or None; most tissue is told apart by its first row."""
    first = tile[0, 0]
    if (tile[0] == first).all() and (tile == first).all():
        colour: bytes = first.tobytes()
        return colour
    return None


def column_colours(rows: UInt8, width: int) -> list[bytes | None]:
    """Of every ``width`` columns the one colour they have in these rows, or None."""
    starts = np.arange(0, rows.shape[1], width)
    lowest = np.minimum.reduceat(rows.min(axis=0), starts)
    highest = np.maximum.reduceat(rows.max(axis=0), starts)
    return [low.tobytes() if (low == high).all() else None for low, high in zip(lowest, highest, strict=True)]


def halve(tile: UInt8, *, nearest: bool) -> UInt8:
    """The tile at half its size, rounded up: its top-left samples if ``nearest``, else its 2 x 2 means."""
    if nearest:
        return tile[::2, ::2]
    odd_rows, odd_columns = tile.shape[0] % 2, tile.shape[1] % 2
    if odd_rows or odd_columns:
        tile = pad(tile, tile.shape[0] + odd_rows, tile.shape[1] + odd_columns)
    size = (tile.shape[1] // 2, tile.shape[0] // 2)
    halved: UInt8 = cv2.resize(np.ascontiguousarray(tile), size, interpolation=cv2.INTER_AREA)
    return halved


def pad(tile: UInt8, height: int, width: int) -> UInt8:
    """A copy of the tile, grown to (height, width) by repeating its last row and column."""
    rows, columns = height - tile.shape[0], width - tile.shape[1]
    edges = [(0, rows), (0, columns), (0, 0)][: tile.ndim]
    return np.pad(tile, edges, mode="edge") if rows or columns else tile.copy()
