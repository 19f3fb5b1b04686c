"""Where tissue is, found in the image at low resolution; `uga.tissue_file` reads it from a mask the user gives.

A `TissueMask` only says which windows need the network and which pixels count; it never changes their values.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from uga.geometry import Grid, GridRegion
from uga.hsv import value_and_chroma

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from uga.slide import Slide
    from uga.slide.reader import Rgb

log = logging.getLogger(__name__)

CELL_UM = 8.0

_STRIP_CELLS = 128
_READERS = 4

# Saturation (0..255) between glass and H&E: Otsu finds the threshold, these bounds keep it from splitting tissue in
# half on a slide that is all tissue, or noise on one that has none. 30 is also the ranking's bound for white.
_SATURATION_BOUNDS = (12, 30)
_SATURATION_ONE_CLASS = 20
_MIN_CLASS_DISTANCE = 12
# Where the threshold comes out this low the stain is so weak that it may lie between dense tissue and pale.
_PALE_THRESHOLD = 22
_ABOVE_GLASS = 6

_BORDER_VALUE = 30
_INK_VALUE = 110
_GAP_UM = 24.0
_SPECK_UM2 = 10_000.0
_SPECK_SHARE = 0.02
_HOLE_UM2 = 100_000.0
_INK_UM2 = 20_000.0
_INK_RIM_UM = 40.0
_MARGIN_UM = 24.0


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Tissue in square cells of the working grid.

    Attributes:
        grid: The working grid.
        cell_px: Side of a cell in grid pixels.
        cells: bool (ceil(grid.height / cell_px), ceil(grid.width / cell_px)), True where there is tissue.
    """

    grid: Grid
    cell_px: int
    cells: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = -(-self.grid.height // self.cell_px), -(-self.grid.width // self.cell_px)
        if self.cells.shape != shape or self.cells.dtype != np.bool_:
            raise ValueError(f"cells are {self.cells.dtype} {self.cells.shape}, not bool {shape}")

    def covers(self, region: GridRegion) -> bool:
        """Whether the region touches a tissue cell."""
        inside = region.intersection(self.grid.region)
        if inside is None:
            return False
        rows, columns = self._cells(inside.y, inside.y_end), self._cells(inside.x, inside.x_end)
        return bool(self.cells[rows, columns].any())

    def fraction(self, region: GridRegion) -> float:
        """Share of the region's pixels, 0..1, that are tissue; pixels outside the slide are none."""
        inside = region.intersection(self.grid.region)
        if inside is None:
            return 0.0
        rows, columns = self._cells(inside.y, inside.y_end), self._cells(inside.x, inside.x_end)
        heights, widths = self._pixels(inside.y, inside.y_end), self._pixels(inside.x, inside.x_end)
        return int(heights @ self.cells[rows, columns] @ widths) / (region.width * region.height)

    def expand(self, region: GridRegion) -> NDArray[np.bool_]:
        """Tissue per grid pixel, bool (region.height, region.width); False outside the slide."""
        tissue = np.zeros((region.height, region.width), np.bool_)
        inside = region.intersection(self.grid.region)
        if inside is None:
            return tissue
        rows, columns = self._cells(inside.y, inside.y_end), self._cells(inside.x, inside.x_end)
        wide = self.cells[rows, columns].repeat(self._pixels(inside.x, inside.x_end), axis=1)
        tissue[inside.within(region)] = wide.repeat(self._pixels(inside.y, inside.y_end), axis=0)
        return tissue

    def _cells(self, start: int, end: int) -> slice:
        """Rows or columns of cells in which grid pixels ``start`` to ``end`` lie."""
        return slice(start // self.cell_px, -(-end // self.cell_px))

    def _pixels(self, start: int, end: int) -> NDArray[np.int64]:
        """How many of these grid pixels lie in each of those rows or columns."""
        cells = self._cells(start, end)
        edges: NDArray[np.int64] = np.arange(cells.start, cells.stop + 1) * self.cell_px
        return np.diff(edges.clip(start, end))


def cell_grid(grid: Grid) -> tuple[Grid, int]:
    """The grid whose pixels are exactly the cells of ``grid``, and the cells' side in pixels of ``grid``."""
    cell = max(1, round(CELL_UM / grid.spacing_um))
    cells = Grid(
        spacing_um=grid.spacing_um * cell,
        scale_x=grid.scale_x * cell,
        scale_y=grid.scale_y * cell,
        width=-(-grid.width // cell),
        height=-(-grid.height // cell),
    )
    return cells, cell


def detect_tissue(slide: Slide, grid: Grid) -> TissueMask:
    """Find H&E-stained tissue in the image at about 8 um.

    The stain's saturation above Otsu's threshold (IEEE Trans. SMC 9:62, 1979) within fixed bounds, without scanner
    borders and ink, without specks, with small holes filled and a margin of 24 um. A slide without tissue gives an
    empty mask.

    Raises:
        SlideError: The pixels are damaged or cut off.
    """
    coarse, cell_px = cell_grid(grid)
    picture = np.empty((coarse.height, coarse.width, 3), np.uint8)

    def read(top: int) -> None:
        height = min(_STRIP_CELLS, coarse.height - top)
        picture[top : top + height] = slide.read(coarse, GridRegion(0, top, coarse.width, height))

    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1), thread_name_prefix="tissue") as readers:
        for _ in readers.map(read, range(0, coarse.height, _STRIP_CELLS)):
            pass
    cells = tissue_in(picture, coarse.spacing_um)
    log.debug("%s: %.1f %% of the slide is tissue", slide.path, 100 * float(cells.mean()))
    return TissueMask(grid, cell_px, cells)


def tissue_in(picture: Rgb, spacing_um: float) -> NDArray[np.bool_]:
    """Tissue of an H&E picture at low resolution.

    Args:
        picture: uint8 (h, w, 3).
        spacing_um: Its spacing, best 4 to 16 um/px.

    Returns:
        bool (h, w).
    """
    excluded, ink = _not_tissue(picture, spacing_um)
    saturation = _saturation(cv2.GaussianBlur(picture, (3, 3), 0))
    # Never-scanned parts are pure white; they would hide the glass's own tint from the threshold.
    counted = ~excluded & (cv2.min(cv2.min(picture[..., 0], picture[..., 1]), picture[..., 2]) < 255)
    threshold = _threshold(saturation[counted])
    stained = (saturation > (_SATURATION_ONE_CLASS if threshold is None else threshold)) & ~excluded
    if threshold is not None and threshold <= _PALE_THRESHOLD:
        stained = _with_paler(stained, saturation, counted)
    pixel_um2 = spacing_um**2
    # Joined over the gaps of fat and loose stroma first: their thin walls are tissue, not specks.
    tissue = cv2.morphologyEx(stained.view(np.uint8), cv2.MORPH_CLOSE, _disc(max(1, round(_GAP_UM / spacing_um)))) > 0
    tissue = _without_small(tissue, min(_SPECK_UM2 / pixel_um2, _SPECK_SHARE * tissue.size))
    tissue = ~_without_small(~tissue, _HOLE_UM2 / pixel_um2, keep_at_border=True)
    tissue = cv2.dilate(tissue.view(np.uint8), _disc(max(1, round(_MARGIN_UM / spacing_um)))) > 0
    found: NDArray[np.bool_] = tissue & ~ink
    return found


def _saturation(picture: Rgb) -> NDArray[np.uint8]:
    """HSV saturation, counted only as far as green is what is missing, uint8 (h, w).

    Haematoxylin and eosin both absorb green most; for them this is the saturation of HSV. Yellowed glass, green ink
    and other tints of no stain give about zero.
    """
    saturation = np.empty(picture.shape[:2], np.uint8)
    for rows in _strips(picture):
        part = picture[rows]
        red_or_blue = np.maximum(part[..., 0], part[..., 2])
        missing = red_or_blue - np.minimum(part[..., 1], red_or_blue)
        value = np.maximum(np.maximum(red_or_blue, part[..., 1]), 1)
        saturation[rows] = missing.astype(np.uint16) * 255 // value
    return saturation


def _threshold(saturation: NDArray[np.uint8]) -> float | None:
    """Otsu's threshold within bounds; None where the picture has one class only."""
    if not saturation.size:
        return None
    otsu, _ = cv2.threshold(saturation.reshape(1, -1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above = saturation > otsu
    if above.all() or not above.any():
        return None
    if float(saturation[above].mean()) - float(saturation[~above].mean()) < _MIN_CLASS_DISTANCE:
        return None
    return min(max(float(otsu), _SATURATION_BOUNDS[0]), _SATURATION_BOUNDS[1])


def _with_paler(
    stained: NDArray[np.bool_], saturation: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Stained tissue, and what is paler, still told from the glass, and connected with it."""
    others = saturation[counted & ~stained]
    if not others.size:
        return stained
    glass = int(np.bincount(others).argmax())
    paler = ((saturation > glass + _ABOVE_GLASS) & counted).view(np.uint8)
    # Without the noise of the glass, which would lead on and on.
    paler = cv2.morphologyEx(paler, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(paler | stained.view(np.uint8), connectivity=8)
    connected = np.zeros(labels.max() + 1, np.bool_)
    connected[labels[stained]] = True
    grown: NDArray[np.bool_] = connected[labels]
    return grown


def _not_tissue(picture: Rgb, spacing_um: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels that cannot be H&E, and those of them that are strokes of a pen or a scanner's border.

    In blue and green ink green exceeds red, which no H&E does. Black ink and borders are dark without colour, while the
    darkest nuclei and folds stay purple. Red ink is redder than blood.
    """
    black, cold, faded_cold, red, faded_red = _tints(picture)
    # A stroke is a solid piece of its tint; single pixels of blood or pigment have it too. It fades outwards, so a rim
    # of the fainter tint belongs to it: all tissue of a warm stain has that, and each such pixel would tear a hole.
    rim = _disc(max(1, round(_INK_RIM_UM / spacing_um)))
    least = _SPECK_UM2 / spacing_um**2
    pen = _grown(_without_small(cold, least), faded_cold, rim)
    pen |= _grown(_without_small(red, least), faded_red, rim)
    excluded: NDArray[np.bool_] = black | pen
    # Small black spots within tissue (pigment, folds) are no pen.
    strokes = _without_small(excluded, _INK_UM2 / spacing_um**2)
    return excluded, strokes


def _tints(picture: Rgb) -> NDArray[np.bool_]:
    """Where the picture is black, of cold ink, of it or faded, of red ink, of it or faded: bool (5, h, w)."""
    found = np.empty((5, *picture.shape[:2]), np.bool_)
    for rows in _strips(picture):
        red, green, blue = (picture[rows, :, channel].astype(np.int16) for channel in range(3))
        value, chroma = value_and_chroma(picture[rows])
        cold = green - red
        found[0, rows] = (value <= _BORDER_VALUE) | ((value < _INK_VALUE) & (chroma < value // 6 + 6))
        found[1, rows] = (cold > 20) & (chroma > 50)
        found[2, rows] = (cold > 4) & (chroma > _SATURATION_BOUNDS[0])
        found[3, rows] = (red > 140) & (green < 70) & (blue < 90) & (np.abs(green - blue) < 40)
        found[4, rows] = (red - green > 12) & (blue - green < 12)
    return found


def _strips(picture: Rgb) -> Iterator[slice]:
    """Some rows at a time, so that what is computed on the way takes little memory."""
    return (slice(top, top + _STRIP_CELLS) for top in range(0, len(picture), _STRIP_CELLS))


def _grown(seed: NDArray[np.bool_], allowed: NDArray[np.bool_], reach: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """``seed`` and what of ``allowed`` lies within ``reach`` (a structuring element) of it."""
    grown: NDArray[np.bool_] = seed | (allowed & (cv2.dilate(seed.view(np.uint8), reach) > 0))
    return grown


def _without_small(mask: NDArray[np.bool_], min_pixels: float, *, keep_at_border: bool = False) -> NDArray[np.bool_]:
    """Without connected parts of fewer than ``min_pixels``; those cut by the border may be kept, being larger."""
    if not mask.any():  # most slides have no ink
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_pixels
    if keep_at_border:
        height, width = mask.shape
        left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
        right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
        kept |= (left == 0) | (top == 0) | (right == width) | (bottom == height)
    kept[0] = False
    large: NDArray[np.bool_] = kept[labels]
    return large


def _disc(radius: int) -> NDArray[np.uint8]:
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return disc
