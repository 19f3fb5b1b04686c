"""Tiles laid out as a slide: a pyramidal TIFF, the reference and the tissue mask over it.

Each tile lies at the top left of a cell; the rest of the cell is blank, holds no tissue and is not judged. Where cells
are whole numbers of patches, no patch holds parts of two tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from uga.errors import UserError
from uga.geometry import SpacingUm
from uga.output.files import sha256_file
from uga.output.tiff import PyramidWriter
from uga.progress import ProgressLog
from uga.simulation.sources.cohorts import Cohorts
from uga.training.cases import Case
from uga.training.labels import BACKGROUND, TUMOUR, LabelMapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.simulation.config import MosaicLayout

    UInt8 = NDArray[np.uint8]

OUTSIDE, PLAIN, FOREGROUND = 0, 1, 2
MAPPING = LabelMapping(labels={BACKGROUND: (PLAIN,), TUMOUR: (FOREGROUND,)}, ignore=(OUTSIDE,))
"""Foreground is called by the name that models have for what is segmented."""

_BLANK = 255
_TISSUE = 255
_JPEG_QUALITY = 95
_TILE_PX = 256


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture and its label map, in which anything but 0 is foreground."""

    image: Path
    labels: Path

    @property
    def stamp(self) -> str:
        """What tells it from another: name and content of both files; reading it says so if one is missing."""
        return " ".join(
            f"{file.name} {sha256_file(file) if file.is_file() else 'missing'}" for file in (self.image, self.labels)
        )

    def read(self, crop_px: tuple[int, int] | None) -> tuple[UInt8, UInt8]:
        """RGB (h, w, 3) and foreground (h, w), cut about the centre to ``crop_px`` (width, height) if larger.

        Raises:
            UserError: a file is missing or damaged, or the two differ in size.
        """
        image, labels = _pixels(self.image, "RGB"), _pixels(self.labels, None)
        if labels.ndim != 2 or image.shape[:2] != labels.shape:
            raise UserError(f"{self.labels} is no label map of {self.image}; copy both again.")
        foreground = np.where(labels > 0, np.uint8(FOREGROUND), np.uint8(PLAIN))
        if crop_px is None:
            return image, foreground
        place = tuple(_centred(length, wanted) for length, wanted in zip(labels.shape, crop_px[::-1], strict=True))
        return image[place], foreground[place]


Maker = Callable[[], "Iterable[Case]"]
"""Makes the slides of one group of a part."""


def lay_out(parts: Mapping[str, Sequence[tuple[bool, Maker]]], notice: str) -> Cohorts:
    """The cohorts of an experiment on tiles.

    Args:
        parts: For ``train``, ``query`` and ``test`` the groups in their order: whether they are shifted, and what makes
            their slides.
        notice: See `Cohorts`.
    """
    progress = ProgressLog("laying out tiles", unit="groups")
    total, done = sum(map(len, parts.values())), 0
    cases: dict[str, list[Case]] = {name: [] for name in parts}
    shifted: set[str] = set()
    for part, groups in parts.items():
        for is_shifted, make in groups:
            made = list(make())
            cases[part] += made
            if is_shifted and part == "query":
                shifted.update(case.id for case in made)
            done += 1
            progress(done, total)
    return Cohorts(
        training=tuple(cases["train"]),
        query=tuple(cases["query"]),
        test=tuple(cases["test"]),
        mapping=MAPPING,
        unannotated="background",
        shifted=frozenset(shifted),
        notice=notice,
    )


def mosaic_case(
    folder: Path,
    name: str,
    tiles: Sequence[Tile],
    layout: MosaicLayout,
    *,
    spacing_um: float,
    centre: str,
    patient: str,
) -> Case:
    """A slide of tiles, made if it is not there, as a case; its tissue mask lies where inference finds it.

    Raises:
        UserError: a tile cannot be used.
    """
    case = Case(
        id=name,
        slide=folder / f"{name}.tif",
        annotation=folder / "masks" / f"{name}.tif",
        centre=centre,
        patient=patient,
        lesion="unknown",
        tissue=folder / f"{name}_tissue.tif",
    )
    files = [file for file in (case.slide, case.tissue, case.annotation) if file is not None]
    if not all(file.is_file() for file in files):
        written = mosaic(tiles, layout)
        for file, pixels in zip(files, written, strict=True):
            _write(file, pixels, spacing_um)
    return case


def mosaic(tiles: Sequence[Tile], layout: MosaicLayout) -> tuple[UInt8, UInt8, UInt8]:
    """Tiles as a nearly square slide, in their order, row by row.

    Args:
        tiles: One at least.
        layout: Cells and crops.

    Returns:
        RGB (h, w, 3), tissue (h, w), 0 or 255, and reference (h, w).

    Raises:
        UserError: a tile cannot be read, or is larger than its cell.
    """
    width, height = layout.cell_px
    columns = math.ceil(math.sqrt(len(tiles) * height / width))
    rows = math.ceil(len(tiles) / columns)
    slide = np.full((rows * height, columns * width, 3), _BLANK, dtype=np.uint8)
    reference = np.full(slide.shape[:2], OUTSIDE, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        image, labels = tile.read(layout.crop_px)
        if labels.shape[0] > height or labels.shape[1] > width:
            raise UserError(
                f"{tile.image} is {labels.shape[1]} x {labels.shape[0]} px, larger than its cell of {width} x "
                f"{height} px; raise cell_px or set crop_px."
            )
        y, x = number // columns * height, number % columns * width
        slide[y : y + labels.shape[0], x : x + labels.shape[1]] = image
        reference[y : y + labels.shape[0], x : x + labels.shape[1]] = labels
    tissue = np.where(reference == OUTSIDE, np.uint8(0), np.uint8(_TISSUE))
    return slide, tissue, reference


def _write(path: Path, pixels: UInt8, spacing_um: float) -> None:
    with PyramidWriter(
        path,
        width=pixels.shape[1],
        height=pixels.shape[0],
        spacing_um=SpacingUm(spacing_um, spacing_um),
        kind="rgb" if pixels.ndim == 3 else "labels",
        description="Made of tiles for an experiment: not a whole slide.",
        tile_px=_TILE_PX,
        jpeg_quality=_JPEG_QUALITY,
    ) as writer:
        writer.append(pixels)


def _centred(length: int, wanted: int) -> slice:
    start = max(0, (length - wanted) // 2)
    return slice(start, start + min(length, wanted))


def _pixels(file: Path, mode: str | None) -> UInt8:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode) if mode else image, np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is missing or damaged ({error}); copy it again.") from error
