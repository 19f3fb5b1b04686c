"""Annotation files as label maps of patches, and what the area means that no shape covers.

On the slide, and in files drawn on a patch's picture: area inside a frame (class ``Region*``) and outside all shapes is
background; area outside all frames and shapes was not judged. In a package's own ``annotation.geojson`` the shapes are
the whole label map while its frame is there; without it, as after an export of selected objects, the rest was not
judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.annotations.readers import detect_format, read_shapes
from uga.annotations.reference import AnnotationReference
from uga.annotations.shapes import REGION_CLASS, split_regions
from uga.errors import UserError
from uga.geometry import SpacingUm
from uga.output.schema import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.annotations.shapes import Shape
    from uga.corrections.correction import Kind
    from uga.corrections.package import Package
    from uga.corrections.predictor import Predictor
    from uga.geometry import Grid, GridRegion

    UInt8 = NDArray[np.uint8]

BACKGROUND = 0
IGNORE_CLASS = "Ignore*"
"""QuPath's class for area to be left out: not judged."""


def class_values(model: Predictor) -> dict[str, int]:
    """Class name of a shape -> label value.

    The model's labels; both spellings of tumour, as drawing tools bring one and models have the other; QuPath's classes
    for frames and for area to ignore.
    """
    spellings = {"tumour", "tumor"}
    known = {name.casefold() for name in model.labels}
    alias = dict.fromkeys(spellings - known, model.tumour_value) if spellings & {model.tumour_label.casefold()} else {}
    return {**model.labels, **alias, REGION_CLASS: BACKGROUND, IGNORE_CLASS: NOT_JUDGED}


def kind_of(path: Path) -> Kind:
    """What an annotation file is; GeoJSON if that cannot be told."""
    try:
        return detect_format(path) or "geojson"
    except OSError:
        return "geojson"


class Outlines:
    """A file with shapes on a slide, or on a patch's picture taken as a slide; label maps of any patch of it."""

    def __init__(self, path: Path, grid: Grid, model: Predictor) -> None:
        """Read and check the file.

        Raises:
            UserError: it cannot be used.
        """
        self.path = path
        self.kind = kind_of(path)
        mpp = SpacingUm(grid.spacing_um / grid.scale_x, grid.spacing_um / grid.scale_y)
        areas, frames = split_regions(read_shapes(path, mpp, qupath_origin=grid.qupath_origin))
        if not areas and not frames:
            raise UserError(f"{path} holds no shape; draw outlines and export all objects.")
        self._grid = grid
        # A frame lies below all labels, wherever its place in the file is.
        self._reference = AnnotationReference(
            (*frames, *areas), grid, class_values(model), unannotated=NOT_JUDGED, source=str(path)
        )

    def labels(self, region: GridRegion) -> UInt8 | None:
        """Label values (height, width), `NOT_JUDGED` outside all frames and shapes; None if no pixel was judged."""
        labels = self._reference.read(region)
        return labels if _judges(labels, region, self._grid) else None


def package_labels(package: Package, model: Predictor) -> UInt8:
    """The label map that a package's ``annotation.geojson`` draws, uint8 (size_px, size_px).

    Raises:
        UserError: the file cannot be used, is of another patch or judges nothing in this one.
    """
    path, grid = package.annotation_file, package.grid
    areas, frames = split_regions(read_shapes(path, qupath_origin=grid.qupath_origin))
    if not areas and not frames:
        raise UserError(f"{path} holds no shape; export all objects, with the frame.")
    own = [shape for shape in frames if _frames(shape, package)]
    if not own and (frames or not any(_touches(shape, package) for shape in areas)):
        raise UserError(
            f"{path} is not of this patch, as its shapes lie elsewhere on the slide; save it in "
            "the package it belongs to, and shapes drawn on image.png as image.geojson."
        )
    free = BACKGROUND if own else NOT_JUDGED
    reference = AnnotationReference(areas, grid, class_values(model), unannotated=free, source=str(path))
    labels = reference.read(package.region)
    if not _judges(labels, package.region, grid):
        raise UserError(f"{path} judges nothing in the patch; draw labels, or skip it in `uga review`.")
    return labels


def _judges(labels: UInt8, region: GridRegion, grid: Grid) -> bool:
    """Whether any pixel of the region that lies on the slide was judged."""
    inside = region.intersection(grid.region)
    return inside is not None and bool((labels[inside.within(region)] != NOT_JUDGED).any())


def _bounds(shapes: Sequence[Shape]) -> NDArray[np.float64]:
    """Left, top, right, bottom in level-0 pixels."""
    points = np.concatenate([polygon.exterior for shape in shapes for polygon in shape.polygons])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _on_slide(package: Package) -> NDArray[np.float64]:
    region, grid = package.region, package.grid
    scale_x, scale_y = grid.scale_x, grid.scale_y
    return np.array([region.x * scale_x, region.y * scale_y, region.x_end * scale_x, region.y_end * scale_y])


def _frames(shape: Shape, package: Package) -> bool:
    """Whether a shape is the frame of a package, to half a grid pixel."""
    tolerance = 0.5 * np.array([package.grid.scale_x, package.grid.scale_y] * 2)
    return bool((np.abs(_bounds([shape]) - _on_slide(package)) <= tolerance).all())


def _touches(shape: Shape, package: Package) -> bool:
    left, top, right, bottom = _bounds([shape])
    x, y, x_end, y_end = _on_slide(package)
    return bool(left < x_end and right > x and top < y_end and bottom > y)
