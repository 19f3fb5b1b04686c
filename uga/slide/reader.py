"""What a file-format reader offers to `Slide`, and what the readers share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from uga.geometry import Level0Point, SpacingUm

Rgb = NDArray[np.uint8]
"""Pixels of shape (h, w, 3), red first."""

OpenReader = Callable[[Path], "Reader"]

_FINGERPRINT_BYTES = 1 << 20


class Reader(Protocol):
    """Pixels of one open slide, level by level; safe to read from several threads."""

    @property
    def name(self) -> str:
        """The library that reads the file."""

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each level in its own pixels, finest first."""

    @property
    def spacing(self) -> SpacingUm | None:
        """Spacing of level 0 as the file states it, unchecked; None if it states none."""

    @property
    def bounds(self) -> Level0Point:
        """Corner of the smallest rectangle that holds all that was scanned, where the file states it.

        Level 0 is larger in MIRAX files, for instance, and begins at (0, 0) all the same; QuPath shows, and counts
        from, this corner (its issues 820 and 1278).
        """

    @property
    def quickhash(self) -> str:
        """Identity of the file's content."""

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Pixels of a rectangle that lies inside ``level``, in that level's own pixels.

        Raises:
            SlideError: The pixels are damaged or cut off.
        """

    def close(self) -> None:
        """Release the file."""


def fingerprint(path: Path) -> str:
    """SHA-256 over the file's size and its first and last MiB: cheap for files of many gigabytes."""
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    with path.open("rb") as file:
        digest.update(file.read(_FINGERPRINT_BYTES))
        file.seek(max(0, size - _FINGERPRINT_BYTES))
        digest.update(file.read(_FINGERPRINT_BYTES))
    return f"sha256-ends:{digest.hexdigest()}"


def on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """Composite unassociated RGBA (h, w, 4) on white; opaque images are passed on without arithmetic."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3]
    if alpha.min(initial=255) == 255:
        return rgb
    clear = alpha < 255
    weight = alpha[clear, None].astype(np.float32) / 255
    rgb[clear] = np.rint(rgb[clear] * weight + 255 * (1 - weight)).astype(np.uint8)
    return rgb
