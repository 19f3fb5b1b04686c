"""Which patches a cell corrects."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.features import PatchEncoder, features_of
from uga.ranking import Scope, rank
from uga.ranking.noise import uniform
from uga.simulation.oracle import Oracle, most_wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from uga.exporting import FinishedRuns
    from uga.ranking import Candidate
    from uga.simulation.cells import CellKey
    from uga.simulation.config import Query
    from uga.simulation.pool import PoolPatch

_PLACE = tuple[str, int, int]


@dataclass
class Selector:
    """Selects the patches of cells from one pool.

    Args:
        patches: The query pool.
        runs: The segmented slides it is of.
        query: What can be queried.
        device: Where patches are encoded, if a strategy looks at them.
    """

    patches: Sequence[PoolPatch]
    runs: FinishedRuns
    query: Query
    device: torch.device

    def __post_init__(self) -> None:
        self._features: dict[_PLACE, NDArray[np.float32]] = {}

    def select(self, key: CellKey) -> tuple[PoolPatch, ...]:
        """The patches of a cell, pool by pool, best first.

        Raises:
            UserError: the pool cannot have the rarity that was asked for, or a strategy needs what it lacks.
        """
        if key.strategy is None:
            return ()
        offered = self.offered(key.rarity, key.seed)
        if isinstance(key.strategy, Oracle):
            cap = self.query.per_slide_cap
            pools = self._by_pool(offered)
            chosen = [each for pool in pools for each in most_wrong(pool, top=key.budget, per_slide_cap=cap)]
        else:
            chosen = rank(
                [patch.candidate for patch in offered],
                top=key.budget,
                strategy=key.strategy,
                exclusion=self.query.exclusion,
                scope=Scope(self.query.scope),
                seed=key.seed,
                per_slide_cap=self.query.per_slide_cap,
                features=self._look,
            )
        by_place = {patch.candidate.place: patch for patch in offered}
        ranked = [by_place[candidate.place] for candidate in chosen]
        return tuple(sorted(ranked, key=self._pool_of))  # stable: keeps the order within a pool

    @cached_property
    def kept(self) -> list[PoolPatch]:
        """The patches that can be queried: not excluded, and judged by their reference at least in part.

        What no reference judges can neither be corrected nor be right or wrong.
        """
        kept = [patch for patch in self.patches if not self.query.exclusion.excludes(patch.candidate)]
        if not kept:
            raise UserError("Every patch of the query pool is excluded; set query.exclusion to none.")
        judged = [patch for patch in kept if patch.judged > 0]
        if not judged:
            raise UserError("No patch of the query pool is judged by its reference; annotate some, or see unannotated.")
        return judged

    def offered(self, rarity: float | None, seed: int) -> list[PoolPatch]:
        """The patches that can be queried, thinned so that a share ``rarity`` of each pool is shifted."""
        if rarity is None:
            return self.kept
        return [patch for pool in self._by_pool(self.kept) for patch in thinned(pool, rarity, seed)]

    def ranks(self, selected: Sequence[PoolPatch]) -> tuple[int, ...]:
        """The rank of each selected patch in its pool."""
        seen: Counter[str] = Counter()
        ranks = []
        for patch in selected:
            seen[self._pool_of(patch)] += 1
            ranks.append(seen[self._pool_of(patch)])
        return tuple(ranks)

    def _by_pool(self, patches: Sequence[PoolPatch]) -> list[list[PoolPatch]]:
        pools: dict[str, list[PoolPatch]] = defaultdict(list)
        for patch in patches:
            pools[self._pool_of(patch)].append(patch)
        return [pools[name] for name in sorted(pools)]

    def _pool_of(self, patch: PoolPatch) -> str:
        return patch.candidate.centre if self.query.scope == "centre" else ""

    def _look(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        unknown = [candidate for candidate in candidates if candidate.place not in self._features]
        if unknown:
            found = features_of(unknown, self._encoder, self.runs.open)
            self._features |= {each.place: vector for each, vector in zip(unknown, found, strict=True)}
        return np.stack([self._features[candidate.place] for candidate in candidates])

    @cached_property
    def _encoder(self) -> PatchEncoder:
        return PatchEncoder(self.runs.model, self.device)


def thinned(patches: Sequence[PoolPatch], rarity: float, seed: int) -> list[PoolPatch]:
    """Patches of which a share ``rarity`` is shifted, one at least: as many of them as there can be.

    Which are left out is a matter of the seed.

    Raises:
        UserError: there are no shifted patches, or no others.
    """
    groups = {shifted: [patch for patch in patches if patch.shifted is shifted] for shifted in (True, False)}
    shifted, others = groups[True], groups[False]
    if not shifted or (rarity < 1 and not others):
        raise UserError(
            f"The query pool of {patches[0].candidate.centre} has {len(shifted)} shifted patches and {len(others)} "
            f"others, so no share of {rarity:g} can be drawn; leave out query.rarity."
        )
    if rarity >= 1:
        return shifted
    wanted = max(1, round(len(others) * rarity / (1 - rarity)))
    if wanted > len(shifted):
        wanted, others = len(shifted), _drawn(others, round(len(shifted) * (1 - rarity) / rarity), seed)
    return _drawn(shifted, wanted, seed) + list(others)


def _drawn(patches: Sequence[PoolPatch], count: int, seed: int) -> list[PoolPatch]:
    return sorted(patches, key=lambda patch: uniform(patch.candidate, seed, "pool"))[:count]
