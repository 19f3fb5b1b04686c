"""Reference label maps on the working grid, read region by region so that a whole slide never has to fit in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import tifffile

from uga.annotations.readers import read_shapes
from uga.annotations.reference import AnnotationReference
from uga.annotations.shapes import REGION_CLASS, split_regions
from uga.errors import UserError
from uga.geometry import SpacingUm
from uga.training.labels import BACKGROUND

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from uga.annotations.shapes import Shape
    from uga.geometry import Grid, GridRegion
    from uga.training.labels import LabelMapping


class Reference(Protocol):
    """Model labels of any region of the grid; 0 outside the slide. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, region: GridRegion) -> npt.NDArray[np.uint8]:
        """Labels (height, width), uint8."""
        ...


class BenignReference:
    """The reference of a slide that is known to hold no tumour: background everywhere."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def read(self, region: GridRegion) -> npt.NDArray[np.uint8]:
        """Zeros (height, width), uint8."""
        return np.zeros((region.height, region.width), np.uint8)


def shape_reference(path: Path, grid: Grid, mapping: LabelMapping, *, unannotated: int) -> AnnotationReference:
    """Shapes of an annotation file as a reference.

    Where shapes of a GeoJSON overlap, the smaller one shows, whatever their order in the file: a benign island in a
    tumour, or a tumour in a benign area. ASAP's groups for holes show over the others, as Camelyon means them. Inside a
    frame (QuPath's class ``Region*``) everything was judged, so what no shape covers there is background.

    Args:
        path: ASAP XML, GeoJSON or polygons of grand-challenge.
        grid: The working grid of the slide.
        mapping: Classes to labels.
        unannotated: Label of area outside all shapes.

    Raises:
        UserError: the file cannot be read, is empty, names a class without a meaning, or does not fit the slide.
    """
    mpp = SpacingUm(grid.spacing_um / grid.scale_x, grid.spacing_um / grid.scale_y)
    shapes, frames = split_regions(read_shapes(path, mpp, qupath_origin=grid.qupath_origin))
    if not shapes and not frames:
        raise UserError(f"The annotation {path} holds no area; draw outlines, or list the slide as class negative.")
    if path.suffix.lower() != ".xml":
        shapes = tuple(sorted(shapes, key=_area, reverse=True))
    values = {**mapping.class_values, REGION_CLASS: mapping.value_of(BACKGROUND)}
    return AnnotationReference((*frames, *shapes), grid, values, unannotated=unannotated, source=str(path))


def _area(shape: Shape) -> float:
    """Level-0 pixels."""
    return sum(_ring_area(p.exterior) - sum(_ring_area(hole) for hole in p.holes) for p in shape.polygons)


def _ring_area(ring: npt.NDArray[np.float64]) -> float:
    # About its first point: far from the origin the products would lose digits.
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


class MaskReference:
    """A single-channel TIFF over the whole slide, pyramid or not, at any spacing.

    The mask and the slide share the top-left corner and the physical extent. The level with exactly the grid's size
    is read pixel by pixel; otherwise the coarsest level that is at least as fine as the grid, nearest neighbour.
    """

    def __init__(self, path: Path, grid: Grid, mapping: LabelMapping) -> None:
        self._path = path
        self._grid = grid
        self._mapping = mapping
        try:
            self._file = tifffile.TiffFile(path)
            levels = list(self._file.series[0].levels)
        except (OSError, tifffile.TiffFileError, IndexError, ValueError) as error:
            raise UserError(f"The reference mask {path} cannot be read as a TIFF: {error}.") from error
        pages = [level.keyframe for level in levels]
        if any(page.samplesperpixel != 1 or page.dtype != np.uint8 for page in pages):
            self._file.close()
            raise UserError(f"The reference mask {path} is not a single-channel 8-bit TIFF; convert it to one.")
        fine_enough = [page for page in pages if page.imagewidth >= grid.width - 1]
        if not fine_enough:
            self._file.close()
            raise UserError(
                f"The reference mask {path} is {pages[0].imagewidth} px wide, coarser than the slide at "
                f"{grid.spacing_um} um/px ({grid.width} px); export it at that spacing."
            )
        self._page = min(fine_enough, key=lambda page: page.imagewidth)
        if abs(self._page.imagelength / self._page.imagewidth / (grid.height / grid.width) - 1) > 0.02:
            self._file.close()
            raise UserError(f"The reference mask {path} has another shape than its slide; they do not belong together.")
        same = abs(self._page.imagewidth - grid.width) <= 1 and abs(self._page.imagelength - grid.height) <= 1
        self._step_x = 1.0 if same else _step(self._page.imagewidth, grid.width, grid.scale_x)
        self._step_y = 1.0 if same else _step(self._page.imagelength, grid.height, grid.scale_y)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, region: GridRegion) -> npt.NDArray[np.uint8]:
        """Model labels (height, width), uint8; 0 outside the slide.

        Raises:
            UserError: the mask holds a value the mapping does not name.
        """
        labels = np.zeros((region.height, region.width), np.uint8)
        inside = region.intersection(self._grid.region)
        if inside is None:
            return labels
        xs = _nearest(inside.x, inside.x_end, self._step_x, self._page.imagewidth)
        ys = _nearest(inside.y, inside.y_end, self._step_y, self._page.imagelength)
        block = self._read_page(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
        values = block[np.ix_(ys - ys[0], xs - xs[0])]
        top, left = inside.y - region.y, inside.x - region.x
        labels[top : top + inside.height, left : left + inside.width] = self._mapping.apply(values, str(self._path))
        return labels

    def _read_page(self, x: int, y: int, x_end: int, y_end: int) -> npt.NDArray[np.uint8]:
        page = self._page
        rows, columns = page.chunks[0], page.chunks[1]
        across = -(-page.imagewidth // columns)
        out = np.zeros((y_end - y, x_end - x), np.uint8)
        for row in range(y // rows, (y_end - 1) // rows + 1):
            for column in range(x // columns, (x_end - 1) // columns + 1):
                index = row * across + column
                if page.databytecounts[index] == 0:
                    continue  # sparse TIFF: a tile that was never written is zero
                tile = self._read_tile(index)
                tile_y, tile_x = row * rows, column * columns
                y0, y1 = max(y, tile_y), min(y_end, tile_y + tile.shape[0])
                x0, x1 = max(x, tile_x), min(x_end, tile_x + tile.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - tile_y : y1 - tile_y, x0 - tile_x : x1 - tile_x]
        return out

    def _read_tile(self, index: int) -> npt.NDArray[np.uint8]:
        page = self._page
        try:
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(page.databytecounts[index])
            decoded = page.decode(data, index, jpegtables=page.jpegtables)[0]
        except (OSError, ValueError, RuntimeError) as error:  # decoders of damaged tiles raise all three
            raise UserError(
                f"The reference mask {self._path} is damaged ({error}); copy or export it again."
            ) from error
        tile: npt.NDArray[np.uint8] = np.asarray(decoded, np.uint8).reshape(decoded.shape[-3], decoded.shape[-2])
        return tile


def _nearest(start: int, end: int, step: float, size: int) -> npt.NDArray[np.intp]:
    centres = (np.arange(start, end) + 0.5) * step
    nearest: npt.NDArray[np.intp] = np.minimum(np.floor(centres).astype(np.intp), size - 1)
    return nearest


def _step(mask_px: int, grid_px: int, scale: float) -> float:
    """Mask pixels per grid pixel; exact where the mask is the slide's level 0 divided by a whole number."""
    step = mask_px / grid_px
    divisor = round(scale / step)
    if divisor >= 1 and abs(scale / divisor / step - 1) < 0.01:
        return scale / divisor
    return step
