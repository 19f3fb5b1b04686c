"""Writes chosen patches of finished slides in the form that a clinician's tool opens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import imagecodecs
import numpy as np

from uga.annotations.outlining import label_shapes
from uga.annotations.shapes import REGION_CLASS, Polygon, Shape
from uga.annotations.writers import write_asap_xml, write_geojson, write_polygons
from uga.corrections.picture import label_palette
from uga.errors import UserError
from uga.exporting import FinishedRuns
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.colours import label_colours
from uga.output.files import write_atomic
from uga.output.maps import MapReader
from uga.output.package import PACKAGES_FOLDER, holds_correction, package_name
from uga.output.schema import NOT_JUDGED, RankedPatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.choice import Choice
    from uga.model.folder import Model
    from uga.output.finished import FinishedSlide
    from uga.ranking import Candidate

    UInt8 = NDArray[np.uint8]


class Format(StrEnum):
    """What is written."""

    PACKAGE = "package"
    PAINT = "paint"
    QUPATH = "qupath"
    ASAP = "asap"
    GRAND_CHALLENGE = "grand-challenge"


_SLIDE_SUFFIXES = {Format.ASAP: ".xml", Format.QUPATH: ".geojson", Format.GRAND_CHALLENGE: ".json"}
_NOT_READ = "0" * 64
"""Stands for a picture's checksum where only a package's name is wanted."""
_PATCH_SUFFIXES = {Format.PAINT: ".png", Format.QUPATH: ".geojson"}


def export_patches(
    folders: Sequence[Path],
    target: Path,
    slides: Path,
    model: Model,
    *,
    choice: Choice,
    formats: Iterable[Format],
) -> int:
    """Write packages and annotation files of chosen patches.

    Below ``target``: ``patches/<package>/``; beside each ``<package>.png`` (labels in colours, for paint programs) and
    ``<package>.geojson`` (outlines in pixels of its picture); and ``<slide>.xml``, ``.geojson`` and ``.json`` with
    frames and predicted outlines on the slide.

    Args:
        folders: Output folders of one or several runs.
        target: Where to write; may exist.
        slides: Where the slides lie.
        model: The model of the runs.
        choice: Which patches of each slide.
        formats: What to write.

    Returns:
        The number of patches.

    Raises:
        UserError: the folders or the choice do not fit, or something in ``target`` would be overwritten that a
            clinician may have worked in; nothing has been written then.
        SlideError: a slide or a map cannot be read; if it does not even open, nothing has been written.
    """
    runs = FinishedRuns.find(folders, slides, model)
    if choice.at and len(runs.finished) > 1:
        raise UserError(f"--at is a point on one slide, but there are {len(runs.finished)}; name one slide's folder.")
    chosen = [_SlideExport.of(one, runs, choice, frozenset(formats), target) for one in runs.finished.values()]
    count = sum(len(export.patches) for export in chosen)
    if not count:
        raise UserError("The lists of these slides hold no patch; choose some with --ranks or --at.")
    runs.require(export.one.id for export in chosen if export.patches)
    for export in chosen:
        export.check_room()
    for export in chosen:
        export.write(runs)
    return count


def patch_shapes(labels: UInt8, region: GridRegion, grid: Grid, model: Model) -> tuple[Shape, ...]:
    """The frame of a patch, then an outline per labelled area in it; background is what the frame holds besides.

    Args:
        labels: Label values (h, w).
        region: The patch on the grid.
        grid: The working grid of its slide.
        model: Names the labels.
    """
    corners = [(region.x, region.y), (region.x_end, region.y), (region.x_end, region.y_end), (region.x, region.y_end)]
    frame = Polygon(np.array(corners, np.float64) * (grid.scale_x, grid.scale_y))
    foreground = {name: value for name, value in model.labels.items() if value}
    return Shape((frame,), REGION_CLASS), *label_shapes(labels, region, grid, foreground)


def painted(labels: UInt8, model: Model) -> UInt8:
    """A label map (h, w) in the colours of `label_palette`, RGB uint8 (h, w, 3)."""
    table = np.zeros((NOT_JUDGED + 1, 3), np.uint8)
    for value, colour in label_palette(model.labels, model.tumour_label).items():
        table[value] = colour
    return table[labels]


@dataclass(frozen=True, slots=True)
class _SlideExport:
    """The chosen patches of one slide; names are those of their packages."""

    one: FinishedSlide
    model: Model
    grid: Grid
    patches: tuple[tuple[int, Candidate], ...]
    formats: frozenset[Format]
    target: Path

    @classmethod
    def of(
        cls, one: FinishedSlide, runs: FinishedRuns, choice: Choice, formats: frozenset[Format], target: Path
    ) -> Self:
        spacing_um = runs.ranked.spacing_um
        patches = tuple(choice.of(one, spacing_um))
        return cls(one, runs.model, one.grid(spacing_um), patches, formats, target)

    def check_room(self) -> None:
        """Refuse to overwrite anything in which somebody may have worked."""
        for number, candidate in self.patches:
            package = self._package(number, candidate)
            if Format.PACKAGE in self.formats and package.exists() and holds_correction(package):
                raise UserError(
                    f"{package} holds a correction; move it to a safe place or name another folder with --to."
                )
            self._check_absent(package.with_name(package.name + _PATCH_SUFFIXES[f]) for f in self._of(_PATCH_SUFFIXES))
        if self.patches:
            self._check_absent(self._slide_file(_SLIDE_SUFFIXES[f]) for f in self._of(_SLIDE_SUFFIXES))

    def write(self, runs: FinishedRuns) -> None:
        """Write all formats."""
        if not self.patches:
            return
        if Format.PACKAGE in self.formats:
            with runs.exporter(self.one.id, self.target) as exporter:
                for number, candidate in self.patches:
                    exporter.export(candidate, number)
        shapes: list[Shape] = []
        with MapReader(self.one.segmentation) as labels:
            for number, candidate in self.patches:
                prediction = labels.read(candidate.region)
                self._write_beside(self._package(number, candidate), prediction)
                shapes += patch_shapes(prediction, candidate.region, self.grid, self.model)
        for format_ in self._of(_SLIDE_SUFFIXES):
            self._write_on_slide(format_, shapes)

    def _write_beside(self, package: Path, prediction: UInt8) -> None:
        for format_ in self._of(_PATCH_SUFFIXES):
            path = package.with_name(package.name + _PATCH_SUFFIXES[format_])
            if format_ is Format.PAINT:
                write_atomic(path, bytes(imagecodecs.png_encode(painted(prediction, self.model))))
            else:
                height, width = prediction.shape
                picture = Grid(self.grid.spacing_um, 1.0, 1.0, width, height)
                write_geojson(path, patch_shapes(prediction, picture.region, picture, self.model), self._colours)

    def _write_on_slide(self, format_: Format, shapes: Sequence[Shape]) -> None:
        path = self._slide_file(_SLIDE_SUFFIXES[format_])
        if format_ is Format.ASAP:
            write_asap_xml(path, shapes, self._colours)
        elif format_ is Format.QUPATH:
            write_geojson(path, shapes, self._colours, qupath_origin=self.grid.qupath_origin)
        else:
            slide = self.one.manifest.input
            write_polygons(path, shapes, SpacingUm(slide.mpp_x, slide.mpp_y), f"Patches of {self.one.id} to correct")

    @property
    def _colours(self) -> dict[str, tuple[int, int, int]]:
        return {**label_colours(self.model.labels, self.model.tumour_label), REGION_CLASS: (0, 0, 0)}

    def _package(self, number: int, candidate: Candidate) -> Path:
        patch = RankedPatch.of(candidate, rank=number, grid=self.grid, image_sha256=_NOT_READ)
        return self.target / PACKAGES_FOLDER / package_name(patch, self.one.id)

    def _slide_file(self, suffix: str) -> Path:
        return self.target / f"{self.one.id}{suffix}"

    def _of(self, suffixes: Iterable[Format]) -> list[Format]:
        return [format_ for format_ in suffixes if format_ in self.formats]

    def _check_absent(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path.exists():
                raise UserError(
                    f"{path} exists and may have been worked in; move it away or name another folder with --to."
                )
