"""Which patches of finished slides are exported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.options import RunOptions
from uga.ranking import order, rank
from uga.scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.geometry import Grid
    from uga.output.finished import FinishedSlide
    from uga.ranking import Candidate

_RANKING_OPTIONS = {"top", "strategy", "exclusion", "seed"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which patches of each slide: the first ``top`` of its list, the ones of some ranks, or those at some points.

    With none of the three, all of its list. ``at`` are level-0 pixels, x then y, of one slide.
    """

    top: int | None = None
    ranks: tuple[int, ...] = ()
    at: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if sum((self.top is not None, bool(self.ranks), bool(self.at))) > 1:
            raise UserError("Give one of --top, --ranks and --at; they exclude one another.")

    def of(self, one: FinishedSlide, spacing_um: float) -> list[tuple[int, Candidate]]:
        """The chosen patches of a slide with their ranks; a rank beyond its list goes on in the same order.

        Raises:
            UserError: a rank that the slide has not, or a point without a patch.
        """
        candidates = read_scores(one.folder)
        options = RunOptions.model_validate({k: v for k, v in one.manifest.options.items() if k in _RANKING_OPTIONS})
        if not self.ranks and not self.at:
            top = options.top if self.top is None else self.top
            chosen = rank(
                candidates, top=top, strategy=options.strategy, exclusion=options.exclusion, seed=options.seed
            )
            return list(enumerate(chosen, start=1))
        ranked = _ranked(candidates, options)
        if self.ranks:
            if max(self.ranks) > len(ranked):
                raise UserError(
                    f"{one.folder} has {len(ranked)} patches but none of rank {max(self.ranks)}; ask for less."
                )
            return [(number, ranked[number - 1]) for number in sorted(set(self.ranks))]
        found = {_at(point, ranked, one.grid(spacing_um), one.folder) for point in self.at}
        return [(number, candidate) for number, candidate in enumerate(ranked, start=1) if number in found]


def _ranked(candidates: Sequence[Candidate], options: RunOptions) -> list[Candidate]:
    """All patches in the run's order: first what its list would hold were it endless, then overlapping and excluded."""
    first = rank(
        candidates, top=len(candidates), strategy=options.strategy, exclusion=options.exclusion, seed=options.seed
    )
    listed = set(first)
    return first + [c for c in order(candidates, options.strategy, seed=options.seed) if c not in listed]


def _at(point: tuple[int, int], ranked: Sequence[Candidate], grid: Grid, folder: Path) -> int:
    """Rank of the patch that holds a level-0 point most centrally."""
    x, y = point[0] / grid.scale_x, point[1] / grid.scale_y
    holding = [
        (math.dist((x, y), (c.x + c.size / 2, c.y + c.size / 2)), number)
        for number, c in enumerate(ranked, start=1)
        if c.x <= x < c.region.x_end and c.y <= y < c.region.y_end
    ]
    if not holding:
        raise UserError(f"{folder} has no patch with tissue at {point[0]},{point[1]}; give level-0 pixels on tissue.")
    return min(holding)[1]
