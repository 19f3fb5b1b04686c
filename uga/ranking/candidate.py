"""A patch that could be ranked, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uga.geometry import GridRegion

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Candidate:
    """One patch that could be ranked.

    ``x``, ``y`` are its top-left corner on the working grid and ``size`` its side, in grid pixels. Fractions are of all
    pixels of the patch; what overhangs the slide counts as white. ``extra`` holds means over the patch of what else was
    measured, by name (`uga.ranking.extras`); empty unless it was asked for.
    """

    slide_id: str
    centre: str
    x: int
    y: int
    size: int
    score_mean: float
    score_sum: float
    tissue_fraction: float
    tumour_fraction: float
    black_fraction: float
    white_fraction: float
    reference_key: float
    extra: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def region(self) -> GridRegion:
        """The patch on the working grid of its slide."""
        return GridRegion(self.x, self.y, self.size, self.size)

    @property
    def place(self) -> tuple[str, int, int]:
        """Slide, row and column: no two candidates of a run share it, and ties are told apart by it."""
        return self.slide_id, self.y, self.x
