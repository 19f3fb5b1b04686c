"""Pixel size of a slide: where it comes from and what is believed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from uga.errors import SpacingError
from uga.geometry import SpacingUm

if TYPE_CHECKING:
    from pathlib import Path

# Scanners deliver 0.11 to 1 um/px (oil immersion down to 0.06); exported overviews rarely go beyond 16.
PLAUSIBLE_SPACING_UM = (0.05, 20.0)
# From about one nucleus to the longest whole-mount glass.
PLAUSIBLE_EXTENT_UM = (12.0, 300_000.0)
_MAX_ANISOTROPY = 2.0
# A spacing this close to the wanted one is the wanted one: files round their resolution tags.
SPACING_TOLERANCE = 1e-3


def resolve_spacing(
    path: Path, stated: SpacingUm | None, override_um: float | None, size_px: tuple[int, int]
) -> SpacingUm:
    """The spacing to work with: the user's if given, else the file's if it can be true.

    Args:
        path: The slide, for messages.
        stated: What the file says, unchecked.
        override_um: The user's ``--mpp`` in um/px.
        size_px: (width, height) of level 0.

    Raises:
        SpacingError: No spacing, or one that no slide has.
    """
    if override_um is not None:
        if not _plausible(override_um):
            raise SpacingError(
                f"{path}: the given spacing of {override_um:g} um/px is impossible; "
                f"give --mpp between {PLAUSIBLE_SPACING_UM[0]:g} and {PLAUSIBLE_SPACING_UM[1]:g} um/px."
            )
        return SpacingUm(override_um, override_um)
    if stated is None or not (stated.x > 0 and stated.y > 0 and math.isfinite(stated.x + stated.y)):
        raise SpacingError(f"{path}: the file does not state its pixel size; give it with --mpp (um/px at full size).")
    found = f"{stated.x:.4g} x {stated.y:.4g} um/px"
    if not (_plausible(stated.x) and _plausible(stated.y)) or not (
        1 / _MAX_ANISOTROPY <= stated.x / stated.y <= _MAX_ANISOTROPY
    ):
        raise SpacingError(f"{path}: the file states {found}, which no slide has; give the true spacing with --mpp.")
    extent_um = max(size_px[0] * stated.x, size_px[1] * stated.y)
    if not PLAUSIBLE_EXTENT_UM[0] <= extent_um <= PLAUSIBLE_EXTENT_UM[1]:
        raise SpacingError(
            f"{path}: at the stated {found} the slide would be {extent_um / 1000:.4g} mm long, which no slide is; "
            f"give the true spacing with --mpp."
        )
    return stated


def level_scale(level0_size: tuple[int, int], level_size: tuple[int, int]) -> tuple[float, float]:
    """Level-0 pixels per level pixel in x and y.

    Level sizes are rounded, so ``width0 / width`` is off by up to one level pixel at the far edge. Where the sizes
    are those of a whole-number factor (powers of two first, then any), that factor is what the writer used.
    """
    ratios = level0_size[0] / level_size[0], level0_size[1] / level_size[1]
    guess = math.sqrt(ratios[0] * ratios[1])
    for factor in (2 ** round(math.log2(guess)), round(guess)):
        if all(abs(full - factor * part) < factor for full, part in zip(level0_size, level_size, strict=True)):
            return float(factor), float(factor)
    return ratios


def _plausible(spacing_um: float) -> bool:
    return PLAUSIBLE_SPACING_UM[0] <= spacing_um <= PLAUSIBLE_SPACING_UM[1]
