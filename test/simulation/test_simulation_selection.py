from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_helpers import make_candidate, with_extra

from uga.errors import UserError
from uga.evaluation.agreement import Agreement
from uga.ranking import Strategy
from uga.simulation.cells import BASELINE, CellKey
from uga.simulation.config import Query
from uga.simulation.oracle import Oracle
from uga.simulation.pool import PoolPatch
from uga.simulation.selection import Selector, thinned


def pool(home: int, shifted: int, *, centre: str = "a") -> list[PoolPatch]:
    """Patches of two slides; shifted ones are more uncertain."""
    kinds = [False] * home + [True] * shifted
    return [
        PoolPatch(
            candidate=with_extra(
                make_candidate(
                    slide_id=f"{centre}-{is_shifted}", centre=centre, x=16 * n, score_mean=float(is_shifted) + n / 1000
                ),
                0.5,
                0.1,
            ),
            patient=centre,
            shifted=is_shifted,
            agreement=Agreement(),
            judged=1.0,
        )
        for n, is_shifted in enumerate(kinds)
    ]


def selector(patches: list[PoolPatch], **query: object) -> Selector:
    return Selector(patches, None, Query(**query), None)  # type: ignore[arg-type]


@given(
    home=st.integers(1, 80),
    shifted=st.integers(1, 80),
    rarity=st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 5),
)
def test_a_thinned_pool_has_the_share_and_is_as_large_as_can_be(
    home: int, shifted: int, rarity: float, seed: int
) -> None:
    patches = pool(home, shifted)
    kept = thinned(patches, rarity, seed)
    count = sum(patch.shifted for patch in kept)
    others = len(kept) - count
    assert count >= 1
    assert len({patch.candidate.place for patch in kept}) == len(kept)
    # As near to the share as whole patches come, unless not even one patch is that rare.
    assert abs(count - rarity * len(kept)) <= 1 or count == 1
    assert others == home or count == shifted
    assert thinned(patches[::-1], rarity, seed) == thinned(patches, rarity, seed) or rarity < 1


def test_all_shifted_leaves_out_the_others() -> None:
    kept = thinned(pool(5, 7), 1.0, 0)
    assert len(kept) == 7
    assert all(patch.shifted for patch in kept)


def test_seeds_thin_differently() -> None:
    patches = pool(60, 60)
    drawn = [{p.candidate.place for p in thinned(patches, 0.1, seed) if p.shifted} for seed in range(4)]
    assert len({frozenset(each) for each in drawn}) == 4


def test_a_pool_of_one_kind_cannot_be_thinned() -> None:
    with pytest.raises(UserError, match="0 shifted patches and 5 others"):
        thinned(pool(5, 0), 0.1, 0)
    with pytest.raises(UserError, match="5 shifted patches and 0 others"):
        thinned(pool(0, 5), 0.1, 0)


def test_a_budget_is_for_each_centre_or_for_all() -> None:
    patches = pool(10, 10, centre="a") + pool(10, 10, centre="b")
    key = CellKey(strategy=Strategy.MEAN, budget=3, seed=0)
    by_centre = selector(patches)
    chosen = by_centre.select(key)
    assert [patch.candidate.centre for patch in chosen] == ["a"] * 3 + ["b"] * 3
    assert by_centre.ranks(chosen) == (1, 2, 3, 1, 2, 3)
    scores = [patch.candidate.score_mean for patch in chosen]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    of_all = selector(patches, scope="cohort")
    chosen = of_all.select(key)
    assert len(chosen) == 3
    assert of_all.ranks(chosen) == (1, 2, 3)
    assert by_centre.select(BASELINE) == ()


def test_what_is_excluded_is_never_offered() -> None:
    patches = pool(3, 3)
    black = [replace(patch, candidate=replace(patch.candidate, black_fraction=0.9)) for patch in patches[:4]]
    assert len(selector([*black, *patches[4:]]).offered(None, 0)) == 2
    assert len(selector([*black, *patches[4:]], exclusion="none").offered(None, 0)) == 6
    with pytest.raises(UserError, match="Every patch of the query pool is excluded"):
        selector(black).offered(None, 0)


def test_what_the_reference_does_not_judge_is_never_offered() -> None:
    patches = pool(3, 3)
    blind = [replace(patch, judged=0.0) for patch in patches[3:]]
    chosen = selector([*patches[:3], *blind]).select(CellKey(strategy=Strategy.MEAN, budget=5, seed=0))
    assert {patch.candidate.place for patch in chosen} == {patch.candidate.place for patch in patches[:3]}
    with pytest.raises(UserError, match="No patch of the query pool is judged by its reference"):
        selector(blind).offered(None, 0)


def test_the_oracle_takes_what_is_most_wrong_by_the_reference() -> None:
    rng = np.random.default_rng(0)
    patches = [
        replace(patch, agreement=Agreement(*map(int, rng.integers(0, 99, 3))))
        for patch in pool(8, 8, centre="a") + pool(8, 8, centre="b")
    ]

    def wrong(patch: PoolPatch) -> int:
        return patch.agreement.false_positive + patch.agreement.false_negative

    key = CellKey(strategy=Oracle.ORACLE, budget=3)
    chosen = selector(patches).select(key)
    for centre, own in (("a", chosen[:3]), ("b", chosen[3:])):
        most = sorted((wrong(patch) for patch in patches if patch.candidate.centre == centre), reverse=True)
        assert [wrong(patch) for patch in own] == most[:3]
    assert selector(patches[::-1]).select(key) == chosen
    capped = selector(patches, per_slide_cap=1).select(key)
    assert len({patch.candidate.slide_id for patch in capped}) == len(capped) == 4
    assert len(selector(patches, scope="cohort").select(key)) == 3


def test_the_cap_holds() -> None:
    key = CellKey(strategy=Strategy.RANDOM, budget=6, seed=0)
    chosen = selector(pool(10, 10), per_slide_cap=2).select(key)
    assert sorted(patch.candidate.slide_id for patch in chosen) == ["a-False"] * 2 + ["a-True"] * 2
