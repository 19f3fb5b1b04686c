"""Takes the best candidates of an order: none that overlaps another, none too many of a slide."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from uga.ranking.exclusion import Exclusion
from uga.ranking.strategies import Strategy, merged, order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from uga.geometry import GridRegion
    from uga.ranking.candidate import Candidate
    from uga.ranking.strategies import Features


class Scope(StrEnum):
    """Over what the list of a run with several slides is ranked; ``top`` patches are taken from each part."""

    SLIDE = "slide"
    CENTRE = "centre"
    COHORT = "cohort"


def choose(ordered: Sequence[Candidate], *, top: int, per_slide_cap: int | None = None) -> list[Candidate]:
    """The first ``top`` candidates that do not overlap one already taken (greedy).

    Args:
        ordered: Best first.
        top: How many; fewer if there are no more.
        per_slide_cap: How many of one slide at most.
    """
    taken: list[Candidate] = []
    by_slide: dict[str, list[GridRegion]] = {}
    for candidate in ordered:
        if len(taken) >= top:
            break
        regions = by_slide.setdefault(candidate.slide_id, [])
        is_full = per_slide_cap is not None and len(regions) >= per_slide_cap
        if is_full or any(candidate.region.intersection(region) is not None for region in regions):
            continue
        regions.append(candidate.region)
        taken.append(candidate)
    return taken


def rank(
    candidates: Iterable[Candidate],
    *,
    top: int,
    strategy: Strategy = Strategy.MEAN,
    exclusion: Exclusion = Exclusion.PAPER,
    scope: Scope = Scope.COHORT,
    seed: int = 0,
    per_slide_cap: int | None = None,
    features: Features | None = None,
) -> list[Candidate]:
    """Ranks candidates of one or more slides: the ``top`` of each part of the scope, merged in the strategy's order.

    Args:
        candidates: In any order.
        top: Patches from each part of the scope.
        strategy: Order of the patches.
        exclusion: Which patches are dropped before they are ordered.
        scope: What the parts are.
        seed: Of the seeded strategies.
        per_slide_cap: Patches of one slide at most.
        features: For a strategy that needs them.

    Raises:
        UserError: the strategy needs what the candidates lack.
    """
    part: Callable[[Candidate], str] = {
        Scope.SLIDE: lambda c: c.slide_id,
        Scope.CENTRE: lambda c: c.centre,
        Scope.COHORT: lambda _: "",
    }[scope]
    parts: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if not exclusion.excludes(candidate):
            parts.setdefault(part(candidate), []).append(candidate)
    chosen = [
        choose(order(parts[name], strategy, seed=seed, features=features), top=top, per_slide_cap=per_slide_cap)
        for name in sorted(parts)
    ]
    return chosen[0] if len(chosen) == 1 else merged(chosen, strategy, seed=seed)
