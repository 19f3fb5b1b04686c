"""One package of a correction folder: its record, and whether it still is what was exported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uga.corrections.picture import read_label_map, read_rgb
from uga.errors import UserError
from uga.geometry import Grid, GridRegion
from uga.model.card import first_problem
from uga.output.files import sha256_file
from uga.output.package import ANNOTATION_FILE, IMAGE_FILE, PREDICTION_FILE, RECORD_FILE, image_sha256
from uga.output.schema import NOT_JUDGED, PatchRecord

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from uga.corrections.predictor import Predictor
    from uga.output.schema import PackageFile

CORRECTION_FILE = "correction.png"
_SCALE_TOLERANCE = 1e-9
_HASH_DIGITS = 12
_MAX_SIZE_PX = 8192


@dataclass(frozen=True)
class Package:
    """A package with a valid record; `verify` says whether the rest fits it."""

    folder: Path
    record: PatchRecord

    @property
    def region(self) -> GridRegion:
        """The patch on the working grid of its slide."""
        size = self.record.size_px
        return GridRegion(self.record.grid_x, self.record.grid_y, size, size)

    @cached_property
    def grid(self) -> Grid:
        """The working grid of its slide."""
        return self.record.slide.grid(self.record.spacing_um)

    @property
    def image_grid(self) -> Grid:
        """A grid on which the picture is a slide, for shapes drawn on the picture."""
        size = self.record.size_px
        return Grid(self.record.spacing_um, 1.0, 1.0, size, size)

    @property
    def image_file(self) -> Path:
        """The picture."""
        return self.folder / IMAGE_FILE

    @property
    def prediction_file(self) -> Path:
        """The label map of the model."""
        return self.folder / PREDICTION_FILE

    @property
    def correction_file(self) -> Path:
        """The corrected label map, if there is one."""
        return self.folder / CORRECTION_FILE

    @property
    def annotation_file(self) -> Path:
        """The outlines on the slide."""
        return self.folder / ANNOTATION_FILE

    def is_exported(self, file: Path, exported: PackageFile) -> bool:
        """Whether a file is there, as it was exported."""
        return file.is_file() and sha256_file(file) == exported.sha256

    def is_accepted(self, file: Path) -> bool:
        """Whether a file is the label map that a reviewer accepted, to the byte."""
        review = self.record.review
        accepted = None if review is None else review.correction_sha256
        return file == self.correction_file and file.is_file() and sha256_file(file) == accepted

    def supersedes(self, file: Path) -> bool:
        """Whether a reviewer's label map has taken the place of a file of another tool, as the file is now."""
        review = self.record.review
        superseded = None if review is None or review.superseded is None else review.superseded.get(file.name)
        return superseded is not None and sha256_file(file) == superseded

    def check_accepted(self) -> None:
        """Refuse a label map that was changed after a reviewer had accepted it.

        Raises:
            UserError: it was, or it is gone.
        """
        review = self.record.review
        if review is not None and review.correction_sha256 is not None and not self.is_accepted(self.correction_file):
            raise UserError(
                f"{self.correction_file} is not what {review.reviewer} accepted any more; open the patch in "
                "`uga review` and accept or skip it."
            )

    def read_labels(self, file: Path, model: Predictor) -> NDArray[np.uint8]:
        """A label map of the patch, uint8 (size_px, size_px).

        Raises:
            UserError: it cannot be used.
        """
        return read_label_map(file, self.record.size_px, self.record.size_px, model.labels, model.tumour_label)

    def verify(self, model: Predictor) -> None:
        """Check model, labels, geometry and picture.

        Raises:
            UserError: something does not fit; names the file.
        """
        self._check_model(model)
        self._check_geometry()
        if not self.image_file.is_file():
            raise UserError(f"{self.folder} has no {IMAGE_FILE}; copy the whole package again.")
        picture = read_rgb(self.image_file, self.record.size_px, self.record.size_px)
        if image_sha256(picture) != self.record.patch.image_sha256:
            raise UserError(
                f"{self.image_file} is not the picture that was exported, but shows another place or "
                "slide or was edited; put the exported one back."
            )

    def _check_model(self, model: Predictor) -> None:
        record = self.record
        if record.model.sha256 != model.sha256:
            raise UserError(
                f"{self.folder} corrects the model {record.model.name} ({record.model.sha256[:_HASH_DIGITS]}), not "
                f"{model.name} ({model.sha256[:_HASH_DIGITS]}); name the model it was exported with by --model."
            )
        same = record.labels == model.labels and record.not_judged == NOT_JUDGED
        if not same or not math.isclose(record.spacing_um, model.spacing_um):
            raise UserError(
                f"{self.folder / RECORD_FILE} has labels {record.labels} at {record.spacing_um:g} um/px, but the model "
                f"{model.name} has {model.labels} at {model.spacing_um:g} um/px; export the patch at that spacing."
            )

    def _check_geometry(self) -> None:
        record, grid, patch = self.record, self.grid, self.record.patch
        level0 = grid.region_to_level0(self.region)
        consistent = (
            math.isclose(record.scale_x, grid.scale_x, rel_tol=_SCALE_TOLERANCE)
            and math.isclose(record.scale_y, grid.scale_y, rel_tol=_SCALE_TOLERANCE)
            and (patch.x, patch.y, patch.width, patch.height) == (level0.x, level0.y, level0.width, level0.height)
            and self.region.intersection(grid.region) is not None
        )
        if not consistent:
            raise UserError(
                f"{self.folder / RECORD_FILE} places the patch at grid pixel ({record.grid_x}, {record.grid_y}), "
                f"but at ({patch.x}, {patch.y}) on the slide, which is not the same place; export the patch again."
            )


def open_package(folder: Path) -> Package:
    """Read the record of a package.

    Raises:
        UserError: it has none, or one that no export wrote.
    """
    file = folder / RECORD_FILE
    try:
        record = PatchRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        held = "is empty" if not any(folder.iterdir()) else f"has no {RECORD_FILE}"
        raise UserError(f"{folder} {held}; copy the whole package as it was exported.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); check its rights.") from error
    except ValidationError as error:
        raise UserError(f"{file} is not valid ({first_problem(error)}); copy it again from the export.") from error
    files = record.files
    names = {files.image.name, files.prediction.name, files.annotation.name, files.correction}
    if odd := sorted(names - {IMAGE_FILE, PREDICTION_FILE, ANNOTATION_FILE, CORRECTION_FILE}):
        raise UserError(f"{file} names the file '{odd[0]}', which no package has; copy it again from the export.")
    if record.size_px > _MAX_SIZE_PX:
        raise UserError(
            f"{file} says {record.size_px} px, more than the {_MAX_SIZE_PX} px of any patch; copy it again."
        )
    return Package(folder, record)
