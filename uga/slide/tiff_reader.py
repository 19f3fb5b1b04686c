"""TIFF files through tifffile: those OpenSlide refuses (striped, SubIFD pyramids, planar, rare compressions)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from uga.errors import SlideError
from uga.geometry import LEVEL0_CORNER, SpacingUm
from uga.slide.reader import fingerprint, on_white
from uga.slide.spacing import level_scale

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.slide.reader import Rgb

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CACHE_BYTES = 64 << 20
_MAX_SEGMENT_BYTES = 1 << 28
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # ResolutionUnit inch and centimetre
_REDUCED_IMAGE = 1  # bit of NewSubfileType
_GREY = {tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE}
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2


def is_tiff(path: Path) -> bool:
    """Whether the file begins as TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def check_tiff(path: Path) -> None:
    """Refuse a TIFF that another library opens although it is greyscale, not of 8 bits or ends before its last tile.

    Raises:
        SlideError: As said.
    """
    with _opened(path) as tiff:
        page = _first_page(path, tiff)
        if page.photometric in _GREY or page.dtype != np.uint8:
            raise _not_rgb(path)
        for each in tiff.pages:
            _check_complete(path, each, tiff.filehandle.size)


class TiffImage:
    """The pyramid of a TIFF file's first image, of any pixel type; safe to share between threads.

    Decodes only the tiles or strips that a rectangle needs and keeps the latest 64 MiB of them. Levels are the
    SubIFDs of the first page or the reduced pages behind it.

    Attributes:
        level_sizes: (width, height) of each level, finest first.
        spacing: From the resolution tags; None without a unit.
        page: The first page.
    """

    def __init__(self, path: Path, *, missing: int = 255) -> None:
        """Open ``path``; tiles that were never written read as ``missing``.

        Raises:
            SlideError: Not a readable TIFF, cut off, or stored in blocks too large to decode one by one.
        """
        self._path = path
        self._missing = missing
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], NDArray[np.generic] | None] = OrderedDict()
        self._cached_bytes = 0
        with ExitStack() as stack:
            self._tiff = stack.enter_context(_opened(path))
            self.page = _first_page(path, self._tiff)
            self._levels = self._find_levels()
            self._mapped = [self._map(page) for page in self._levels]
            stack.pop_all()
        self.level_sizes = tuple((int(page.imagewidth), int(page.imagelength)) for page in self._levels)
        self.spacing = _spacing(self.page)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.generic]:
        """Pixels (height, width, samples) of a rectangle inside ``level``.

        Raises:
            SlideError: A tile is damaged.
        """
        mapped = self._mapped[level]
        if mapped is not None:
            return np.array(mapped[y : y + height, x : x + width])
        page = self._levels[level]
        tile_height, tile_width = _segment_shape(page)
        across = -(-page.imagewidth // tile_width)
        per_plane = across * -(-page.imagelength // tile_height)
        planes = page.samplesperpixel if _is_planar(page) else 1
        depth = page.samplesperpixel // planes
        pixels = np.full((height, width, page.samplesperpixel), self._missing, page.dtype)
        for row in range(y // tile_height, -(-(y + height) // tile_height)):
            for column in range(x // tile_width, -(-(x + width) // tile_width)):
                for plane in range(planes):
                    tile = self._segment(level, plane * per_plane + row * across + column)
                    if tile is None:
                        continue
                    top, left = row * tile_height, column * tile_width
                    y0, x0 = max(y, top), max(x, left)
                    y1, x1 = min(y + height, top + tile.shape[0]), min(x + width, left + tile.shape[1])
                    pixels[y0 - y : y1 - y, x0 - x : x1 - x, plane * depth : (plane + 1) * depth] = tile[
                        y0 - top : y1 - top, x0 - left : x1 - left
                    ]
        return pixels

    def close(self) -> None:
        """Release the file."""
        self._mapped.clear()
        self._cache.clear()
        self._tiff.close()

    def _find_levels(self) -> list[tifffile.TiffPage]:
        """The first page and its reduced copies, finest first."""
        base = self.page
        size = self._tiff.filehandle.size
        _check_complete(self._path, base, size)
        levels = [base]
        subpages = base.pages if base.subifds else None
        candidates: Iterable[tifffile.TiffPage] = subpages if subpages is not None else self._tiff.pages[1:]
        for each in candidates:
            page = each.aspage()
            if subpages is None and not page.subfiletype & _REDUCED_IMAGE:
                continue
            if not _is_reduced_copy(base, page, levels[-1]):
                continue
            _check_complete(self._path, page, size)
            levels.append(page)
        return levels

    def _map(self, page: tifffile.TiffPage) -> NDArray[np.generic] | None:
        """A view of an uncompressed page on disk, or None where tiles or strips must be decoded."""
        if page.imagedepth != 1 or page.dtype is None:
            raise SlideError(f"{self._path}: not a two-dimensional image; export one plane.")
        # A page of 1-bit or packed samples is not mappable; a tiled one is only where a tile spans the page.
        if page.is_memmappable and not page.is_tiled and not _is_planar(page) and page.dtype.isnative:
            shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
            mapped: NDArray[np.generic] = self._tiff.filehandle.memmap_array(page.dtype, shape, page.dataoffsets[0])
            return mapped
        tile_height, tile_width = _segment_shape(page)
        if tile_height * tile_width * page.samplesperpixel * page.dtype.itemsize > _MAX_SEGMENT_BYTES:
            raise SlideError(f"{self._path}: stored as one huge block; convert it to a tiled pyramidal TIFF.")
        return None

    def _segment(self, level: int, index: int) -> NDArray[np.generic] | None:
        """Decoded tile or strip (h, w, samples), cut to the image; None if it was never written."""
        key = (level, index)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            data = self._stored(level, index)
        tile = self._decode(level, index, data)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached_bytes += 0 if tile is None else tile.nbytes
            while self._cached_bytes > _CACHE_BYTES:
                _, old = self._cache.popitem(last=False)
                self._cached_bytes -= 0 if old is None else old.nbytes
        return tile

    def _stored(self, level: int, index: int) -> bytes | None:
        page = self._levels[level]
        if index >= len(page.dataoffsets) or page.databytecounts[index] == 0:
            return None
        file = self._tiff.filehandle
        file.seek(page.dataoffsets[index])
        data: bytes = file.read(page.databytecounts[index])
        return data

    def _decode(self, level: int, index: int, data: bytes | None) -> NDArray[np.generic] | None:
        if data is None:
            return None
        page = self._levels[level]
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if _is_jpeg(page) else {}
        try:
            tile, (_, _, top, left, _), _ = page.decode(data, index, **tables)
        except Exception as error:  # each codec has its own exception types
            raise SlideError(f"{self._path}: the image is damaged or cut off; copy or export it again.") from error
        if tile is None:
            return None
        cut: NDArray[np.generic] = tile[0, : page.imagelength - top, : page.imagewidth - left]
        return cut


class TiffReader:
    """An 8-bit RGB(A) TIFF file as a slide."""

    name = "tifffile"

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            SlideError: Not a readable TIFF, or not 8-bit RGB.
        """
        image = TiffImage(path)
        page = image.page
        coloured = page.photometric == tifffile.PHOTOMETRIC.RGB or _is_jpeg(page)
        if not coloured or page.photometric in _GREY or page.dtype != np.uint8 or page.samplesperpixel not in {3, 4}:
            image.close()
            raise _not_rgb(path)
        self._image = image
        alpha = page.extrasamples[0] if page.samplesperpixel == 4 and page.extrasamples else 0
        self._alpha = int(alpha)
        self.level_sizes = image.level_sizes
        self.spacing = image.spacing
        self.bounds = LEVEL0_CORNER
        self.quickhash = fingerprint(path)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """See `Reader.read`."""
        pixels = np.asarray(self._image.read(level, x, y, width, height), np.uint8)
        if self._alpha == _UNASSOCIATED_ALPHA:
            return on_white(pixels)
        if self._alpha == _ASSOCIATED_ALPHA:
            behind = 255 - pixels[..., 3:].astype(np.uint16)
            composed: Rgb = np.minimum(pixels[..., :3] + behind, 255).astype(np.uint8)
            return composed
        return np.ascontiguousarray(pixels[..., :3])

    def close(self) -> None:
        """See `Reader.close`."""
        self._image.close()


def _opened(path: Path) -> tifffile.TiffFile:
    try:
        return tifffile.TiffFile(path)
    except Exception as error:  # damaged headers surface as many exception types
        raise SlideError(f"{path}: not a readable TIFF file; copy or export it again.") from error


def _first_page(path: Path, tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    try:
        return tiff.pages.first
    except Exception as error:
        raise SlideError(f"{path}: a TIFF file without an image; copy or export it again.") from error


def _check_complete(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, file_size: int) -> None:
    """Every tile's bytes must lie inside the file."""
    ends = np.asarray(page.dataoffsets, np.uint64) + np.asarray(page.databytecounts, np.uint64)
    if not ends.size:
        raise SlideError(f"{path}: a TIFF file without an image; copy or export it again.")
    missing = int(ends.max()) - file_size
    if missing > 0:
        raise SlideError(f"{path}: the file is cut off ({missing} bytes missing); copy it again.")


def _not_rgb(path: Path) -> SlideError:
    return SlideError(f"{path}: not an 8-bit RGB image; export the H&E slide in colour.")


def _is_jpeg(page: tifffile.TiffPage) -> bool:
    return page.compression in {6, 7, 33007, 34892}


def _is_planar(page: tifffile.TiffPage) -> bool:
    return bool(page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE)


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """(height, width) of the page's tiles or strips."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _is_reduced_copy(base: tifffile.TiffPage, page: tifffile.TiffPage, finer: tifffile.TiffPage) -> bool:
    """Whether ``page`` is a smaller copy of ``base``: same kind of pixels, sizes of one whole-number factor."""
    if page.imagewidth >= finer.imagewidth or page.imagelength >= finer.imagelength:
        return False
    if (page.samplesperpixel, page.dtype, page.photometric) != (base.samplesperpixel, base.dtype, base.photometric):
        return False
    scale = level_scale((base.imagewidth, base.imagelength), (page.imagewidth, page.imagelength))
    return scale[0] == scale[1] and scale[0].is_integer()


def _spacing(page: tifffile.TiffPage) -> SpacingUm | None:
    """Pixel size from the resolution tags: rational pixels per inch or centimetre; None if they are of another type."""
    unit = _UNIT_UM.get(int(page.tags.valueof(296, default=2)))
    values = page.tags.valueof(282), page.tags.valueof(283)
    if unit is None or not all(isinstance(value, tuple) and len(value) == 2 and all(value) for value in values):
        return None
    (x, x_per), (y, y_per) = values
    return SpacingUm(unit * x_per / x, unit * y_per / y)
