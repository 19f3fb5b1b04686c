"""Small pictures for people: overviews from pyramids, overlays, outlines, and their embedding into a page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.output.colours import Colour

    UInt8 = NDArray[np.uint8]

_JPEG_QUALITY = 85
_LABEL_OPACITY = 0.45
_NO_TISSUE = 244
# A map that is dark everywhere shall look dark: the display scale ends at 16 of 255 at least.
_SMALLEST_DISPLAY_MAX = 16
_DISPLAY_PERCENTILE = 99.5


def read_overview(pyramid: Path, size_px: int, *, nearest: bool) -> UInt8:
    """A pyramid reduced to at most ``size_px`` a side, from the smallest level that has as many; uint8 (h, w[, 3])."""
    with tifffile.TiffFile(pyramid) as tiff:
        large_enough = [page for page in tiff.pages if max(page.imagewidth, page.imagelength) >= size_px]
        level: UInt8 = (large_enough[-1] if large_enough else tiff.pages[0]).asarray()
    return shrink(level, size_px, nearest=nearest)


def read_png(path: Path) -> UInt8:
    """A PNG as uint8 (h, w) or (h, w, 3)."""
    pixels: UInt8 = imagecodecs.png_decode(path.read_bytes())
    return pixels


def shrink(picture: UInt8, size_px: int, *, nearest: bool) -> UInt8:
    """The picture with its longer side reduced to ``size_px``; smaller pictures stay as they are."""
    height, width = picture.shape[:2]
    factor = size_px / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return _resize(picture, size, nearest=nearest)


def backdrop(thumbnail: UInt8 | None, shape: tuple[int, ...]) -> UInt8:
    """The slide's thumbnail in the shape (h, w) of an overview, or plain grey if there is none."""
    if thumbnail is None:
        return np.full((*shape[:2], 3), _NO_TISSUE, np.uint8)
    return _resize(thumbnail, (shape[1], shape[0]), nearest=False)


def overlay(tissue: UInt8, labels: UInt8, values: Mapping[str, int], colours: Mapping[str, Colour]) -> UInt8:
    """Tissue (h, w, 3) with each label (h, w) as a transparent colour and a firm edge."""
    picture = tissue.copy()
    for name, colour in colours.items():
        inside = labels == values[name]
        tinted = (1 - _LABEL_OPACITY) * tissue[inside] + _LABEL_OPACITY * np.asarray(colour)
        picture[inside] = tinted.astype(np.uint8)
    return outlined(picture, labels, values, colours, width=1)


def outlined(
    picture: UInt8, labels: UInt8, values: Mapping[str, int], colours: Mapping[str, Colour], *, width: int = 2
) -> UInt8:
    """A copy of the picture (h, w, 3) with a line of ``width`` pixels inside the edge of each label (h, w)."""
    result = picture.copy()
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    for name, colour in colours.items():
        inside = (labels == values[name]).astype(np.uint8)
        core = cv2.erode(inside, kernel, borderType=cv2.BORDER_REPLICATE)
        result[(inside != 0) & (core == 0)] = colour
    return result


def display_max(maps: Sequence[UInt8]) -> int:
    """The value, 1..255, at which the display scale of several uncertainty maps ends: their 99.5th percentile."""
    counts = sum((np.bincount(values.ravel(), minlength=256) for values in maps), np.zeros(256, np.int64))
    counts[0] = 0  # what was not looked at is not certain
    share = np.cumsum(counts) / max(1, counts.sum())
    return max(_SMALLEST_DISPLAY_MAX, int(np.searchsorted(share, _DISPLAY_PERCENTILE / 100))) if counts.any() else 255


def jpeg_uri(picture: UInt8) -> str:
    """The picture (h, w, 3) as a ``data:`` address."""
    data = imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), _JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _resize(picture: UInt8, size: tuple[int, int], *, nearest: bool) -> UInt8:
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA
    resized: UInt8 = cv2.resize(np.ascontiguousarray(picture), size, interpolation=method)
    return resized
