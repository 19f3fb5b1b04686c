"""The colours of the pictures: a palette for labels and a scale for uncertainty, safe for colour-blind readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Colour = tuple[int, int, int]

# Okabe & Ito 2008. The first stands out on pink and purple tissue best and goes to the tumour.
_TUMOUR: Colour = (0, 158, 115)
_OTHERS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def label_colours(labels: Mapping[str, int], tumour_label: str) -> dict[str, Colour]:
    """An RGB colour for every label but the background; beyond seven labels colours repeat."""
    others = [name for name, value in sorted(labels.items(), key=lambda item: item[1]) if value]
    others = [name for name in others if name != tumour_label]
    colours = {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}
    if tumour_label in labels:
        colours[tumour_label] = _TUMOUR
    return {name: colours[name] for name in sorted(colours, key=lambda name: labels[name])}


def heat(uncertainty: NDArray[np.uint8], display_max: int) -> NDArray[np.uint8]:
    """An 8-bit map (h, w) as RGB (h, w, 3) on the inferno scale, ``display_max`` and above at its bright end."""
    levels = np.minimum(np.arange(256) * 255 // max(1, display_max), 255).astype(np.uint8)
    bgr = cv2.applyColorMap(levels[uncertainty], cv2.COLORMAP_INFERNO)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(bgr[..., ::-1])
    return rgb


def heat_stops(count: int = 9) -> list[str]:
    """CSS colours evenly spaced along the scale of `heat`."""
    scale = heat(np.linspace(0, 255, count).astype(np.uint8)[None], 255)[0]
    return [f"rgb({r},{g},{b})" for r, g, b in scale.tolist()]
