"""Slides through OpenSlide: Aperio, Hamamatsu, Leica, MIRAX, Ventana, Philips, DICOM, generic tiled TIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import openslide

from uga.errors import SlideError
from uga.geometry import LEVEL0_CORNER, Level0Point, SpacingUm
from uga.slide.reader import fingerprint, on_white
from uga.slide.tiff_reader import check_tiff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from uga.slide.reader import Rgb

_CACHE_BYTES = 64 << 20
_BLOCK_PX = 256
# OpenSlide's names for formats whose TIFF directory says plainly where every tile lies.
_PLAIN_TIFF_VENDORS = frozenset({"aperio", "generic-tiff", "leica", "philips", "trestle", "ventana"})


class OpenSlideReader:
    """A slide that OpenSlide reads; OpenSlide handles are safe to share between threads."""

    name = "openslide"

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            openslide.OpenSlideUnsupportedFormatError: Not one of OpenSlide's formats.
            openslide.OpenSlideError: One of its formats, but damaged or of an unknown kind.
            SlideError: A TIFF that is greyscale, not of 8 bits, or ends before its last tile.
        """
        self._path = path
        self._slide = openslide.OpenSlide(path)
        try:
            self._slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
            properties = self._slide.properties
            if properties.get(openslide.PROPERTY_NAME_VENDOR) in _PLAIN_TIFF_VENDORS:
                check_tiff(path)
            self.level_sizes: tuple[tuple[int, int], ...] = tuple(self._slide.level_dimensions)
            self._downsamples: tuple[float, ...] = tuple(self._slide.level_downsamples)
            self.spacing = _spacing(
                properties.get(openslide.PROPERTY_NAME_MPP_X), properties.get(openslide.PROPERTY_NAME_MPP_Y)
            )
            self.bounds = _bounds(properties)
            self.quickhash: str = properties.get(openslide.PROPERTY_NAME_QUICKHASH1) or fingerprint(path)
        except BaseException:
            self._slide.close()
            raise

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """See `Reader.read`."""
        downsample = self._downsamples[level]
        if downsample.is_integer():
            return self._read_at(level, x, y, width, height)
        # OpenSlide takes level-0 positions. With a fractional downsample they fall between level pixels and it
        # interpolates (by less than half a level-0 pixel), differently for each position. Blocks at fixed positions
        # give each level pixel one value.
        pixels = np.empty((height, width, 3), np.uint8)
        level_width, level_height = self.level_sizes[level]
        for top in range(y - y % _BLOCK_PX, y + height, _BLOCK_PX):
            for left in range(x - x % _BLOCK_PX, x + width, _BLOCK_PX):
                right, bottom = min(left + _BLOCK_PX, level_width), min(top + _BLOCK_PX, level_height)
                block = self._read_at(level, left, top, right - left, bottom - top)
                x0, y0, x1, y1 = max(x, left), max(y, top), min(x + width, right), min(y + height, bottom)
                pixels[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return pixels

    def close(self) -> None:
        """See `Reader.close`."""
        self._slide.close()

    def _read_at(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        downsample = self._downsamples[level]
        try:
            image = self._slide.read_region((round(x * downsample), round(y * downsample)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self._path}: the image is damaged or cut off ({reason_of(error, self._path)}); "
                f"copy or export it again."
            ) from error
        rgba = np.asarray(image)
        if rgba[..., 3].min() == 255:
            rgb: Rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
            return rgb
        return on_white(rgba)


def _bounds(properties: Mapping[str, str]) -> Level0Point:
    names = ("X", "Y", "WIDTH", "HEIGHT")
    stated = [properties.get(getattr(openslide, f"PROPERTY_NAME_BOUNDS_{name}"), "") for name in names]
    # QuPath, too, takes all of them or none.
    return Level0Point(int(stated[0]), int(stated[1])) if all(map(str.isdigit, stated)) else LEVEL0_CORNER


def _spacing(mpp_x: str | None, mpp_y: str | None) -> SpacingUm | None:
    if mpp_x is None or mpp_y is None:
        return None
    try:
        return SpacingUm(float(mpp_x), float(mpp_y))
    except ValueError:
        return None


def reason_of(error: Exception, path: Path) -> str:
    """Return OpenSlide's words without the folder and the final stop."""
    return str(error).replace(str(path), path.name).rstrip(". ")
