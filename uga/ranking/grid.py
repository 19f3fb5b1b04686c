"""Where patches may lie on a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.geometry import Grid, GridRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.tissue import TissueMask


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Patch corners at multiples of ``stride`` grid pixels; ``stride`` divides ``patch``."""

    grid: Grid
    patch: int = 1024
    stride: int = 1024

    def __post_init__(self) -> None:
        check_stride(self.patch, self.stride)

    @property
    def xs(self) -> range:
        """Columns of patch corners; the last patch may overhang the slide by less than a stride."""
        return range(0, max(1, self.grid.width - self.patch + self.stride), self.stride)

    @property
    def ys(self) -> range:
        """Rows of patch corners."""
        return range(0, max(1, self.grid.height - self.patch + self.stride), self.stride)

    def with_tissue(self, tissue: TissueMask) -> Iterator[GridRegion]:
        """The patches that hold any tissue, row by row."""
        for y in self.ys:
            for x in self.xs:
                region = GridRegion(x, y, self.patch, self.patch)
                if tissue.covers(region):
                    yield region


def check_stride(patch: int, stride: int) -> None:
    """Refuses a stride that does not divide the patch, whose scores could not be sums over cells.

    Raises:
        UserError: the stride does not fit.
    """
    if stride < 1 or patch % stride:
        msg = f"The stride of {stride} px does not divide the patch of {patch} px; choose one that does."
        raise UserError(msg)
