import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_helpers import PATCH, make_candidate, pools

from uga.ranking import Candidate, Exclusion, Scope, Strategy, choose, order, rank

STRATEGIES = st.sampled_from([strategy for strategy in Strategy if not strategy.needs_features])


@given(
    corners=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0, 4)), max_size=40),
    top=st.integers(0, 10),
)
def test_the_choice_is_greedy_and_never_overlaps(corners: list[tuple[int, int, float]], top: int) -> None:
    candidates = [make_candidate(x=x, y=y, score_mean=score) for x, y, score in corners]
    ordered = order(candidates, Strategy.MEAN)
    chosen = choose(ordered, top=top)
    assert len(chosen) <= top
    for i, a in enumerate(chosen):
        assert all(a.region.intersection(b.region) is None for b in chosen[:i])
    if len(chosen) < top:
        for left_out in ordered:
            assert left_out in chosen or any(left_out.region.intersection(c.region) is not None for c in chosen)
    assert [c.score_mean for c in chosen] == sorted((c.score_mean for c in chosen), reverse=True)


@given(
    pool=pools(),
    strategy=STRATEGIES,
    scope=st.sampled_from(Scope),
    top=st.integers(0, 12),
    cap=st.none() | st.integers(1, 3),
    data=st.data(),
)
def test_every_strategy_keeps_the_rules(
    pool: list[Candidate], strategy: Strategy, scope: Scope, top: int, cap: int | None, data: st.DataObject
) -> None:
    ranked = rank(pool, top=top, strategy=strategy, scope=scope, seed=3, per_slide_cap=cap)
    for i, a in enumerate(ranked):
        assert not Exclusion.PAPER.excludes(a)
        assert not any(a.slide_id == b.slide_id and a.region.intersection(b.region) for b in ranked[:i])
    part = {Scope.SLIDE: lambda c: c.slide_id, Scope.CENTRE: lambda c: c.centre, Scope.COHORT: lambda _: ""}[scope]
    for name in {part(c) for c in pool}:
        chosen = [c for c in ranked if part(c) == name]
        slides = [c.slide_id for c in chosen]
        assert len(chosen) <= top
        assert cap is None or all(slides.count(slide) <= cap for slide in slides)
        if len(chosen) < top:  # the budget is spent as far as the rules allow
            for left in (c for c in pool if part(c) == name and c not in chosen and not Exclusion.PAPER.excludes(c)):
                same = [c for c in chosen if c.slide_id == left.slide_id]
                assert any(left.region.intersection(c.region) for c in same) or len(same) == cap
    shuffled = data.draw(st.permutations(pool))
    assert rank(shuffled, top=top, strategy=strategy, scope=scope, seed=3, per_slide_cap=cap) == ranked


@given(pool=pools(), strategy=STRATEGIES, top=st.integers(0, 12))
def test_a_larger_budget_adds_to_a_smaller_one(pool: list[Candidate], strategy: Strategy, top: int) -> None:
    smaller = rank(pool, top=top, strategy=strategy, seed=5)
    assert rank(pool, top=top + 3, strategy=strategy, seed=5)[: len(smaller)] == smaller


def test_the_same_place_on_two_slides_does_not_overlap() -> None:
    assert len(choose([make_candidate(), make_candidate(slide_id="b")], top=5)) == 2


@pytest.mark.parametrize(
    ("black", "white", "tumour", "paper", "reference"),
    [
        (0.70, 0.00, 0.0, False, True),
        (0.71, 0.00, 0.5, True, True),
        (0.00, 0.70, 0.0, False, True),
        (0.00, 0.70, 0.1, False, False),
        (0.00, 0.71, 0.1, True, False),
        (0.40, 0.30, 0.0, False, False),
    ],
)
def test_exclusion(black: float, white: float, tumour: float, paper: bool, reference: bool) -> None:
    candidate = make_candidate(black_fraction=black, white_fraction=white, tumour_fraction=tumour)
    assert Exclusion.PAPER.excludes(candidate) is paper
    assert Exclusion.REFERENCE.excludes(candidate) is reference
    assert not Exclusion.NONE.excludes(candidate)


def test_scopes_take_the_top_of_each_part() -> None:
    candidates = [
        make_candidate(slide_id=f"{centre}{slide}", centre=centre, x=PATCH * i, score_mean=score + i / 10)
        for centre, score in (("A", 2.0), ("B", 1.0))
        for slide in range(2)
        for i in range(3)
    ]
    assert {c.centre for c in rank(candidates, top=4, scope=Scope.COHORT)} == {"A"}
    by_centre = rank(candidates, top=2, scope=Scope.CENTRE)
    assert [c.centre for c in by_centre] == ["A", "A", "B", "B"]
    by_slide = rank(candidates, top=1, scope=Scope.SLIDE)
    assert [c.slide_id for c in by_slide] == ["A0", "A1", "B0", "B1"]
    assert all(c.x == 2 * PATCH for c in by_slide)


def test_parts_of_a_sequence_take_turns() -> None:
    candidates = [make_candidate(slide_id=slide, x=PATCH * i) for slide in "ab" for i in range(4)]
    ranked = rank(candidates, top=2, strategy=Strategy.FOREGROUND_RANDOM, scope=Scope.SLIDE)
    assert [c.slide_id for c in ranked] == ["a", "b", "a", "b"]
