"""An open slide: its geometry, and its pixels at any spacing."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import openslide

from uga.errors import SlideError, SpacingError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.slide.dicom import series_file
from uga.slide.metaimage_reader import METAIMAGE_SUFFIXES, MetaImageReader
from uga.slide.openslide_reader import OpenSlideReader, reason_of
from uga.slide.resample import area_average, coverage
from uga.slide.spacing import SPACING_TOLERANCE, level_scale, resolve_spacing
from uga.slide.tiff_reader import TiffReader, is_tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from uga.slide.reader import Reader, Rgb

log = logging.getLogger(__name__)

# Level pixels a side that are read and resampled at once: about 40 MB with all intermediates.
_BLOCK_PX = 1024


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide's pyramid; ``scale`` is level-0 pixels per pixel of this level."""

    width_px: int
    height_px: int
    scale_x: float
    scale_y: float


class Slide:
    """A whole-slide image; all methods may be called from several threads at once.

    Only the image itself is read, never label, macro or other associated images, and no property that could hold
    patient data is kept.

    Attributes:
        path: The file, or the folder of a DICOM series.
        id: File stem, or folder name.
        width_px, height_px: Size of level 0.
        mpp: Spacing of level 0.
        levels: The pyramid, finest first.
        reader: The library that reads the file: ``openslide``, ``tifffile`` or ``simpleitk``.
        quickhash: Identity of the content.
        bounds: Corner of what was scanned, from which QuPath counts.
    """

    def __init__(self, path: Path, reader: Reader, mpp: SpacingUm) -> None:
        self.path = path
        self.id = path.name if path.is_dir() else path.stem
        self.width_px, self.height_px = reader.level_sizes[0]
        self.mpp = mpp
        self.levels = tuple(Level(*size, *level_scale(reader.level_sizes[0], size)) for size in reader.level_sizes)
        self.reader = reader.name
        self.quickhash = reader.quickhash
        self.bounds = reader.bounds
        self._reader = reader
        self._idle = threading.Condition()
        self._reads = 0
        self._closed = False

    def grid(self, spacing_um: float) -> Grid:
        """The working grid of ``spacing_um`` over this slide.

        Raises:
            SpacingError: The slide is coarser than ``spacing_um``.
        """
        if max(self.mpp.x, self.mpp.y) > spacing_um * (1 + SPACING_TOLERANCE):
            raise SpacingError(
                f"{self.path}: at {self.mpp.x:g} um/px the slide is coarser than the {spacing_um:g} um/px the model "
                f"needs; scan it finer, or give the true spacing with --mpp."
            )
        return Grid.over(self.width_px, self.height_px, self.mpp, spacing_um, self.bounds)

    def read(self, grid: Grid, region: GridRegion) -> Rgb:
        """Mean colour of each grid pixel, from the nearest level that is not coarser than the grid.

        A grid pixel has the same value whichever region reads it. Pixels partly outside the slide are the mean of
        the part inside; those outside are white. Memory beyond the result does not depend on region or slide.

        Returns:
            uint8 (region.height, region.width, 3).

        Raises:
            SlideError: The pixels are damaged or cut off.
        """
        pixels = np.full((region.height, region.width, 3), 255, np.uint8)
        inside = region.intersection(grid.region)
        if inside is None:
            return pixels
        index, level = self._level_for(grid)
        ratio_x, ratio_y = grid.scale_x / level.scale_x, grid.scale_y / level.scale_y
        block_height, block_width = max(1, int(_BLOCK_PX / ratio_y)), max(1, int(_BLOCK_PX / ratio_x))
        with self._reading():
            for block in inside.tiles(block_width, block_height):
                rows = coverage(block.y, block.y_end, ratio_y, level.height_px)
                columns = coverage(block.x, block.x_end, ratio_x, level.width_px)
                source = self._reader.read(
                    index, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
                )
                pixels[block.within(region)] = area_average(source, rows, columns)
        return pixels

    def thumbnail(self, max_px: int) -> Rgb:
        """The whole slide with at most ``max_px`` pixels on its longer side, in true proportions, never enlarged.

        A slide without coarser levels is read completely.
        """
        longer_um = max(self.width_px * self.mpp.x, self.height_px * self.mpp.y)
        spacing_um = max(longer_um / max_px, self.mpp.x, self.mpp.y)
        grid = Grid.over(self.width_px, self.height_px, self.mpp, spacing_um)
        return self.read(grid, grid.region)

    def close(self) -> None:
        """Release the file, after reads in other threads have ended; closing twice does nothing."""
        with self._idle:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: self._reads == 0)
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({self.path}, {self.width_px} x {self.height_px} px, {self.mpp.x:g} um/px, {self.reader})"

    def _level_for(self, grid: Grid) -> tuple[int, Level]:
        limit_x, limit_y = grid.scale_x * (1 + SPACING_TOLERANCE), grid.scale_y * (1 + SPACING_TOLERANCE)
        fit = [
            (index, level)
            for index, level in enumerate(self.levels)
            if level.scale_x <= limit_x and level.scale_y <= limit_y
        ]
        return max(fit, key=lambda item: item[1].scale_x, default=(0, self.levels[0]))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # A handle closed under a reading thread crashes the process in C.
        with self._idle:
            if self._closed:
                raise ValueError(f"{self.path}: the slide is closed")
            self._reads += 1
        try:
            yield
        finally:
            with self._idle:
                self._reads -= 1
                self._idle.notify_all()


def open_slide(path: Path, *, mpp: float | None = None) -> Slide:
    """Open a slide file, or a folder that holds the instances of one DICOM series.

    Args:
        path: Whole-slide image of any format of OpenSlide's, RGB TIFF, or RGB MetaImage.
        mpp: Spacing in um/px that replaces the file's own.

    Raises:
        SlideError: The file is missing, empty, damaged, cut off, not a slide or not RGB.
        SpacingError: The spacing is missing or impossible.
    """
    reader = _open_file(series_file(path) if path.is_dir() else path)
    try:
        spacing = resolve_spacing(path, reader.spacing, mpp, reader.level_sizes[0])
        slide = Slide(path, reader, spacing)
    except BaseException:
        reader.close()
        raise
    log.debug("opened %r", slide)
    return slide


def _open_file(path: Path) -> Reader:
    try:
        if path.stat().st_size == 0:
            raise SlideError(f"{path}: the file is empty; copy it again.")
        tiff = is_tiff(path)
    except OSError as error:
        raise SlideError(f"{path}: the file cannot be read ({error.strerror}); check the path and rights.") from error
    if path.suffix.lower() in METAIMAGE_SUFFIXES:
        return MetaImageReader(path)
    try:
        return OpenSlideReader(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        if not tiff:
            raise SlideError(f"{path}: not a slide in a known format; export it as a pyramidal TIFF.") from error
    except openslide.OpenSlideError as error:
        if not tiff:
            raise SlideError(
                f"{path}: damaged or of an unsupported kind ({reason_of(error, path)}); "
                f"copy it again or export it as a pyramidal TIFF."
            ) from error
    return TiffReader(path)
