from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from ranking_helpers import PATCH, make_candidate, with_extra

from uga.errors import UserError
from uga.ranking import Candidate, Strategy, order, rank
from uga.ranking.diversity import farthest_first
from uga.ranking.noise import power_noised, uniform

SEEDED = [strategy for strategy in Strategy if strategy.is_seeded]


def row(count: int, **changes: object) -> list[Candidate]:
    return [with_extra(make_candidate(x=PATCH * i, **changes), 0.1 + i / count, 0.1) for i in range(count)]


def test_keys_order_differently() -> None:
    flat = with_extra(make_candidate(x=100, score_mean=0.1, score_sum=3, reference_key=9), 0.2, 0)
    high = with_extra(make_candidate(x=200, score_mean=0.9, score_sum=2, reference_key=1), 0.1, 0)
    assert order([flat, high], Strategy.MEAN) == [high, flat]
    for strategy in (Strategy.SUM, Strategy.REFERENCE, Strategy.ENTROPY):
        assert order([flat, high], strategy) == [flat, high]
    for strategy in (
        Strategy.DISAGREEMENT, Strategy.MUTUAL_INFORMATION, Strategy.VARIATION_RATIO, Strategy.THRESHOLD_DICE
    ):  # fmt: skip
        assert order([high, flat], strategy) == [flat, high]


@pytest.mark.parametrize("strategy", [strategy for strategy in Strategy if strategy.needs_extra])
def test_scores_that_were_not_kept_are_asked_for(strategy: Strategy) -> None:
    with pytest.raises(UserError, match="--extra-scores"):
        order([make_candidate()], strategy)


@pytest.mark.parametrize("strategy", SEEDED)
def test_seeded_strategies_depend_on_the_seed_alone(strategy: Strategy) -> None:
    candidates = [make_candidate(x=PATCH * i, tumour_fraction=float(i < 5)) for i in range(60)]
    candidates = [with_extra(c, 0.5, 0.1) for c in candidates]
    once = order(candidates, strategy, seed=3)
    assert once == order(candidates[::-1], strategy, seed=3)
    assert once != order(candidates, strategy, seed=4)
    assert sorted(c.x for c in once) == [c.x for c in candidates]


@pytest.mark.parametrize("strategy", [s for s in Strategy if not s.is_seeded and not s.needs_features])
def test_the_others_do_not(strategy: Strategy) -> None:
    candidates = row(30)
    assert order(candidates, strategy, seed=3) == order(candidates, strategy, seed=4)


def test_random_is_uniform() -> None:
    candidates = row(12)
    firsts = Counter(order(candidates, Strategy.RANDOM, seed=seed)[0].x for seed in range(6000))
    deviation = sum((firsts[c.x] - 500) ** 2 / 500 for c in candidates)
    assert deviation < 31.3  # chi-squared of 11 degrees of freedom, one in a thousand
    numbers = [uniform(c, seed) for c in candidates for seed in range(500)]
    assert np.corrcoef(numbers[::2], numbers[1::2])[0, 1] == pytest.approx(0, abs=0.06)


def test_random_agrees_between_a_slide_and_all_slides() -> None:
    candidates = [make_candidate(slide_id=slide, x=PATCH * i) for slide in "abc" for i in range(20)]
    of_all = rank(candidates, top=15, strategy=Strategy.RANDOM, seed=2)
    for slide in "abc":
        own = rank([c for c in candidates if c.slide_id == slide], top=15, strategy=Strategy.RANDOM, seed=2)
        chosen = [c for c in of_all if c.slide_id == slide]
        assert own[: len(chosen)] == chosen


def test_foreground_random_spends_two_thirds_on_tumour() -> None:
    candidates = [make_candidate(x=PATCH * i, tumour_fraction=float(i % 50 == 0)) for i in range(2000)]
    tumour = [c.tumour_fraction > 0 for c in order(candidates, Strategy.FOREGROUND_RANDOM, seed=1)]
    assert 0.6 <= np.mean(tumour[:45]) <= 0.75
    assert np.mean([c.tumour_fraction > 0 for c in order(candidates, Strategy.RANDOM, seed=1)][:200]) < 0.1


def test_class_stratified_spends_two_thirds_where_tumour_is_likely() -> None:
    """Ten patches are a little uncertain of tumour, the others very uncertain of something else."""
    rare = [with_extra(make_candidate(slide_id="rare", x=PATCH * i), 0.2, 0.2) for i in range(10)]
    common = [with_extra(make_candidate(slide_id="common", x=PATCH * i), 0.9, 1e-6) for i in range(200)]
    picks = [c.slide_id for c in order(rare + common, Strategy.CLASS_STRATIFIED, seed=1)]
    assert picks[:15].count("rare") == 10
    assert picks[:6].count("rare") == 4
    assert [c.slide_id for c in order(rare + common, Strategy.ENTROPY)][:200] == ["common"] * 200


def test_class_stratified_takes_the_labels_in_turn() -> None:
    def of(slide: str, x: int, **entropies: float) -> Candidate:
        extra = {"entropy": 0.5, **{f"entropy of {label}": value for label, value in entropies.items()}}
        return make_candidate(slide_id=slide, x=x * PATCH, extra=extra)

    candidates = [of(label, i, **{"a": 0.0, "b": 0.0, label: 0.4}) for label in "ab" for i in range(30)]
    candidates += [of("neither", i, a=0.0, b=0.0) for i in range(200)]
    picks = Counter(c.slide_id for c in order(candidates, Strategy.CLASS_STRATIFIED, seed=0)[:24])
    assert picks["a"] >= 8
    assert picks["b"] >= 8
    assert picks["neither"] >= 4


def test_class_balanced_takes_background_in_its_turn() -> None:
    """The most uncertain patches hold tumour; class-stratified passes over a few unsure of background."""
    tumour = [with_extra(make_candidate(slide_id="tumour", x=PATCH * i), 0.6, 0.55) for i in range(100)]
    doubtful = [with_extra(make_candidate(slide_id="doubtful", x=PATCH * i), 0.4, 0.1) for i in range(10)]
    sure = [with_extra(make_candidate(slide_id="sure", x=PATCH * i), 0.01, 0.0) for i in range(100)]
    pool = tumour + doubtful + sure
    stratified = Counter(c.slide_id for c in order(pool, Strategy.CLASS_STRATIFIED, seed=0)[:24])
    balanced = Counter(c.slide_id for c in order(pool, Strategy.CLASS_BALANCED, seed=0)[:24])
    assert stratified["doubtful"] <= 2
    assert 7 <= balanced["doubtful"] <= 10
    assert balanced["tumour"] == 24 - balanced["doubtful"]


def test_power_noise_draws_in_proportion_to_the_score() -> None:
    one, two = make_candidate(x=0), make_candidate(x=PATCH)
    wins = sum(
        power_noised(3.0, one, seed, "p", beta=1.0) > power_noised(1.0, two, seed, "p", beta=1.0)
        for seed in range(4000)
    )
    assert wins / 4000 == pytest.approx(0.75, abs=0.03)
    assert power_noised(0.0, one, 0, "p", beta=1.0) == -np.inf


def test_power_noise_of_a_large_beta_keeps_the_order() -> None:
    candidates = row(40)
    noised = [power_noised(c.extra["entropy"], c, 0, "", beta=1e6) for c in candidates]
    assert noised == sorted(noised)


@given(count=st.integers(1, 30), seed=st.integers(0, 99))
def test_farthest_first_takes_each_once_and_spreads(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, features = rng.random(count), rng.normal(size=(count, 3)).astype(np.float32)
    taken = farthest_first(scores, features)
    assert sorted(taken) == list(range(count))
    assert taken[0] == int(scores.argmax())
    scaled = features.astype(np.float64) / (features.astype(np.float64).std(axis=0) + 1e-6)
    for place in range(1, count):
        before, left = taken[:place], taken[place:]
        gains = {i: scores[i] * min(((scaled[i] - scaled[j]) ** 2).sum() for j in before) for i in left}
        assert gains[taken[place]] == pytest.approx(max(gains.values()))


def test_diversity_takes_one_of_each_kind_first() -> None:
    """Three kinds among the most uncertain quarter, of which the very first are all of one."""
    candidates = [make_candidate(x=PATCH * i, score_mean=1.0 - i / 1000) for i in range(120)]

    def kind(candidate: Candidate) -> int:
        number = candidate.x // PATCH
        return 1 if 20 <= number < 25 else 2 if 25 <= number < 30 else 0

    def features(asked: list[Candidate]) -> NDArray[np.float32]:
        return np.array([[kind(candidate)] for candidate in asked], dtype=np.float32)

    ordered = order(candidates, Strategy.UNCERTAINTY_DIVERSITY, features=features)
    assert {kind(candidate) for candidate in ordered[:3]} == {0, 1, 2}
    assert ordered[0] == candidates[0]
    assert {kind(candidate) for candidate in order(candidates, Strategy.MEAN)[:20]} == {0}
    few = order(candidates[:12], Strategy.UNCERTAINTY_DIVERSITY, features=features)
    assert set(few[:10]) == set(candidates[:10])


def test_diversity_looks_at_the_most_uncertain_only() -> None:
    candidates = [make_candidate(x=PATCH * i, score_mean=1.0 - i / 1000) for i in range(200)]
    asked: list[Candidate] = []

    def features(those: list[Candidate]) -> NDArray[np.float32]:
        asked.extend(those)
        return np.random.default_rng(0).normal(size=(len(those), 4)).astype(np.float32)

    ordered = order(candidates, Strategy.UNCERTAINTY_DIVERSITY, features=features)
    assert asked == candidates[:50]
    assert set(ordered[:50]) == set(candidates[:50])
    assert ordered[50:] == candidates[50:]


def test_diversity_without_features_is_refused() -> None:
    with pytest.raises(UserError, match="uga rank"):
        order([make_candidate()], Strategy.UNCERTAINTY_DIVERSITY)
