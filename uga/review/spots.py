"""What the page draws as lines: contours around the uncertain spots of a patch, and outlines of its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    UInt8 = NDArray[np.uint8]

_MOST = 12
_BLUR_PX = 4.0
_PERCENTILE = 92
_LOWEST_GREY = 8
_SMALLEST_AREA_PX = 400
_TOLERANCE_PX = 0.75


def uncertain_spots(uncertainty: UInt8) -> list[dict[str, Any]]:
    """Connected areas of high uncertainty, by the uncertainty in them.

    High is what the blurred map (Gaussian, sigma 4 px) has above the 92nd percentile of its non-zero values, and above
    8 of 255. Areas below 400 px are left out.

    Args:
        uncertainty: The 8-bit map (h, w) of a patch.

    Returns:
        Up to 12 areas, each with its bounding box ``x``, ``y``, ``width``, ``height`` in pixels of the patch, and
        ``contours``: closed lines as flat lists x, y, x, y, ..., of its edge and of its holes' edges.
    """
    smooth = cv2.GaussianBlur(uncertainty.astype(np.float32), (0, 0), _BLUR_PX)
    certain = smooth[smooth > 1]
    if not certain.size:
        return []
    high = (smooth >= max(_LOWEST_GREY, float(np.percentile(certain, _PERCENTILE)))).astype(np.uint8)
    count, areas, statistics, _ = cv2.connectedComponentsWithStats(high, connectivity=4)
    weights = np.bincount(areas.ravel(), weights=smooth.ravel(), minlength=count)
    large = [area for area in range(1, count) if statistics[area, cv2.CC_STAT_AREA] >= _SMALLEST_AREA_PX]
    large.sort(key=lambda area: -weights[area])
    return [_spot(areas == area, statistics[area]) for area in large[:_MOST]]


def label_outlines(labels: UInt8, values: Iterable[int]) -> list[dict[str, Any]]:
    """The outlines of labels in a label map (h, w), simplified to three quarters of a pixel.

    Returns:
        For each of ``values``: ``value`` and ``contours`` as `uncertain_spots` gives them.
    """
    return [{"value": value, "contours": _contours(labels == value, 0, 0)} for value in values]


def _spot(inside: NDArray[np.bool_], statistics: NDArray[np.int32]) -> dict[str, Any]:
    x, y, width, height = (int(value) for value in statistics[:4])
    contours = _contours(inside[y : y + height, x : x + width], x, y)
    return {"x": x, "y": y, "width": width, "height": height, "contours": contours}


def _contours(inside: NDArray[np.bool_], x: int, y: int) -> list[list[float]]:
    """Closed lines around the True pixels of a part (h, w) of a map that begins at ``x``, ``y``."""
    # One pixel of margin, so that a line at the part's edge is closed too.
    lines, _ = cv2.findContours(np.pad(inside.astype(np.uint8), 1), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    contours = []
    for line in lines:
        short = cv2.approxPolyDP(line, _TOLERANCE_PX, closed=True).reshape(-1, 2)
        if len(short) > 2:
            # cv2 names pixels; their centres are half a pixel further.
            contours.append((short + np.array([x - 0.5, y - 0.5])).ravel().tolist())
    return contours
