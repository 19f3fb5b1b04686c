"""What reading corrections gives: the usable ones, the packages without any, and the files refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from uga.corrections.picture import read_rgb

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    UInt8 = NDArray[np.uint8]

Kind = Literal["png", "geojson", "asap", "grand-challenge"]
UNKNOWN_CENTRE = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """The corrected labels of one patch.

    Attributes:
        name: Folder of its package.
        slide_id: Its slide.
        centre: Where the slide comes from, `UNKNOWN_CENTRE` if that is not known.
        source: The file the labels are from.
        kind: What the file is.
        image_file: The patch's picture, verified.
        labels: Model label values uint8 (h, w) at the model's spacing, `NOT_JUDGED` where the clinician gave none.
        prediction: What the model had predicted, uint8 (h, w).
        sha256: Identity: hash of the labels' bytes and the picture's checksum.
    """

    name: str
    slide_id: str
    centre: str
    source: Path
    kind: Kind
    image_file: Path
    labels: UInt8
    prediction: UInt8
    sha256: str

    def read_image(self) -> UInt8:
        """RGB (h, w, 3), uint8."""
        height, width = self.labels.shape
        return read_rgb(self.image_file, width, height)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file, or a package, that is not used; ``reason`` is one sentence that names it and the remedy."""

    source: Path
    reason: str


@dataclass(frozen=True, slots=True)
class CorrectionSet:
    """All corrections below a folder, in the order of their packages."""

    used: tuple[Correction, ...]
    unchanged: tuple[Path, ...]
    """Packages that teach nothing: as exported and not confirmed, or skipped by the reviewer."""
    refused: tuple[Refusal, ...]

    def summary(self) -> str:
        """Such as ``5 used, 14 unchanged, 1 refused``."""
        return f"{len(self.used)} used, {len(self.unchanged)} unchanged, {len(self.refused)} refused"


def correction_sha256(labels: UInt8, image_sha256: str) -> str:
    """Identity of a correction: SHA-256 of the labels' bytes, row by row, then of the picture's checksum."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).data)
    digest.update(bytes.fromhex(image_sha256))
    return digest.hexdigest()
