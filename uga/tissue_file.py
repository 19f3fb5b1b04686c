"""A user's tissue mask read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from uga.errors import SlideError
from uga.slide.metaimage_reader import METAIMAGE_SUFFIXES, MetaImage
from uga.slide.resample import any_covered, coverage
from uga.slide.spacing import level_scale
from uga.slide.tiff_reader import TiffImage, is_tiff
from uga.tissue import TissueMask, cell_grid, detect_tissue

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.geometry import Grid, SpacingUm
    from uga.slide import Slide

_BLOCK_PX = 2048
_SIZE_TOLERANCE = 0.01
_LARGEST_SPACING_UM = 80.0


def tissue_of(slide: Slide, grid: Grid, mask: Path | None) -> TissueMask:
    """The tissue that a user's mask marks, else what is found in the image.

    Raises:
        SlideError: as `read_tissue_mask` and `detect_tissue`.
    """
    return detect_tissue(slide, grid) if mask is None else read_tissue_mask(mask, slide, grid)


def read_tissue_mask(path: Path, slide: Slide, grid: Grid) -> TissueMask:
    """Read a user's mask: TIFF, MetaImage or PNG; every pixel that is not zero is tissue.

    The mask lies over the whole slide. A cell is tissue if any mask pixel in it is.

    Raises:
        SlideError: The file is not a mask, or its size or proportions are not the slide's.
    """
    coarse, cell_px = cell_grid(grid)
    mask = _open_mask(path)
    try:
        full_x, full_y = _mask_scale(path, mask, slide)
        # The coarsest level that still has a pixel for every grid pixel.
        level, (step_x, step_y) = 0, (1.0, 1.0)
        for index, size in enumerate(mask.level_sizes):
            x, y = level_scale(mask.level_sizes[0], size)
            if x * full_x <= grid.scale_x and y * full_y <= grid.scale_y:
                level, (step_x, step_y) = index, (x, y)
        width, height = mask.level_sizes[level]
        ratio_x, ratio_y = coarse.scale_x / (full_x * step_x), coarse.scale_y / (full_y * step_y)
        cells = np.zeros((coarse.height, coarse.width), np.bool_)
        for block in coarse.region.tiles(max(1, int(_BLOCK_PX / max(ratio_x, ratio_y)))):
            rows = coverage(block.y, block.y_end, ratio_y, height)
            columns = coverage(block.x, block.x_end, ratio_x, width)
            pixels = mask.read(level, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            cells[block.within(coarse.region)] = any_covered(pixels, rows, columns)
    finally:
        mask.close()
    return TissueMask(grid, cell_px, cells)


class _Mask(Protocol):
    """A mask file: sizes and spacing as for a slide, pixels as bool."""

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def spacing(self) -> SpacingUm | None: ...
    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]: ...
    def close(self) -> None: ...


class _TiffMask:
    def __init__(self, path: Path) -> None:
        self._image = TiffImage(path, missing=0)
        self.level_sizes = self._image.level_sizes
        self.spacing = self._image.spacing

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
        return _nonzero(self._image.read(level, x, y, width, height))

    def close(self) -> None:
        self._image.close()


class _WholeMask:
    """A mask of one level that is held in memory or read by SimpleITK."""

    def __init__(self, image: MetaImage | NDArray[np.generic], spacing: SpacingUm | None) -> None:
        self._image = image
        size = (image.width, image.height) if isinstance(image, MetaImage) else (image.shape[1], image.shape[0])
        self.level_sizes: tuple[tuple[int, int], ...] = (size,)
        self.spacing = spacing

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:  # noqa: ARG002
        if isinstance(self._image, MetaImage):
            return _nonzero(self._image.read(x, y, width, height))
        return _nonzero(self._image[y : y + height, x : x + width])

    def close(self) -> None:
        pass


def _open_mask(path: Path) -> _Mask:
    try:
        tiff = is_tiff(path)
    except OSError as error:
        raise SlideError(
            f"{path}: the tissue mask cannot be read ({error.strerror}); check path and rights."
        ) from error
    if tiff:
        return _TiffMask(path)
    if path.suffix.lower() in METAIMAGE_SUFFIXES:
        image = MetaImage(path)
        return _WholeMask(image, image.spacing)
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return _WholeMask(np.asarray(picture), None)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SlideError(f"{path}: not a readable tissue mask; give a TIFF, .mha or (smaller) PNG file.") from error


def _nonzero(pixels: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Any colour channel not zero; an alpha channel says nothing about tissue."""
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    colours = pixels.shape[2] - (pixels.shape[2] in {2, 4})
    return np.asarray((pixels[..., :colours] != 0).any(axis=2))


def _mask_scale(path: Path, mask: _Mask, slide: Slide) -> tuple[float, float]:
    """Level-0 pixels of the slide per mask pixel in x and y, from the spacings or, without, from the proportions."""
    width, height = mask.level_sizes[0]
    if (width, height) == (slide.width_px, slide.height_px):
        return 1.0, 1.0
    spacing = mask.spacing
    # Editors that know no spacing write their 72, 96 or 300 dpi.
    if spacing is not None and spacing.x <= _LARGEST_SPACING_UM and spacing.y <= _LARGEST_SPACING_UM:
        scale = spacing.x / slide.mpp.x, spacing.y / slide.mpp.y
        if _fits(width * scale[0], slide.width_px, scale[0]) and _fits(height * scale[1], slide.height_px, scale[1]):
            return scale
        raise SlideError(
            f"{path}: the tissue mask is {width * spacing.x / 1000:.3f} x {height * spacing.y / 1000:.3f} mm, "
            f"the slide {slide.width_px * slide.mpp.x / 1000:.3f} x {slide.height_px * slide.mpp.y / 1000:.3f} mm; "
            f"give a mask of this whole slide."
        )
    scale = level_scale((slide.width_px, slide.height_px), (width, height))
    mean = max(scale)
    if _fits(width * mean, slide.width_px, mean) and _fits(height * mean, slide.height_px, mean):
        return scale
    raise SlideError(
        f"{path}: the tissue mask of {width} x {height} px has not the proportions of the slide "
        f"({slide.width_px} x {slide.height_px} px); give a mask of this whole slide."
    )


def _fits(found: float, wanted: float, pixel: float) -> bool:
    return abs(found - wanted) <= max(_SIZE_TOLERANCE * wanted, 1.5 * pixel)
