import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uga.simulation.statistics import (
    area_under,
    auroc,
    interval,
    pooled_dice,
    resampled_seeds,
    resampled_slides,
    spearman,
    weighted_mean,
)

PATIENTS = ["a", "a", "b", "c", "d", "e"]
STRATA = ["1", "1", "1", "1", "2", "2"]


def test_patients_are_drawn_whole_and_within_their_stratum() -> None:
    drawn = resampled_slides(PATIENTS, STRATA, resamples=2000, seed=0)
    assert drawn.shape == (2000, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # both slides of a patient
    assert (drawn[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (drawn[:, [4, 5]].sum(axis=1) == 2).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.08)
    assert (resampled_slides(PATIENTS, STRATA, resamples=2000, seed=0) == drawn).all()
    assert (resampled_slides(PATIENTS, STRATA, resamples=2000, seed=1) != drawn).any()


def test_a_patient_alone_is_always_there() -> None:
    assert (resampled_slides(["a", "b"], ["1", "2"], resamples=50, seed=0) == 1).all()


def test_seeds_are_drawn_with_replacement() -> None:
    drawn = resampled_seeds(3, resamples=3000, seed=0)
    assert (drawn.sum(axis=1) == 3).all()
    assert (drawn == 0).any()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.08)


@settings(deadline=None)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=6),
    data=st.data(),
)
def test_pooled_dice_is_that_of_the_slides_laid_side_by_side(counts: list[tuple[int, int, int]], data) -> None:
    weights = np.array([data.draw(st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)))])
    dice = pooled_dice(np.array(counts), weights)
    repeated = [c for c, w in zip(counts, weights[0], strict=True) for _ in range(w)]
    tp, fp, fn = (sum(c[i] for c in repeated) for i in range(3))
    if 2 * tp + fp + fn:
        assert dice[0] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    else:
        assert np.isnan(dice[0])


def test_pooled_dice_of_several_cells_at_once() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (4, 5, 3))
    weights = np.random.default_rng(1).integers(0, 3, (7, 5))
    together = pooled_dice(counts, weights)
    assert together.shape == (7, 4)
    for cell in range(4):
        np.testing.assert_array_equal(together[:, cell], pooled_dice(counts[cell], weights))


def test_a_weighted_mean_leaves_out_what_is_not_defined() -> None:
    values = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, np.nan], [2.0, 5.0, 8.0]])
    weights = np.array([[1, 7, 2], [1, 1, 1], [0, 0, 0]])
    mean = weighted_mean(values, weights)
    assert mean[0] == pytest.approx(3.0)
    assert np.isnan(mean[1:]).all()


def test_intervals() -> None:
    samples = np.random.default_rng(0).normal(2.0, 1.0, 20_000)
    low, high = interval(samples, 0.95)
    assert (low, high) == (pytest.approx(2 - 1.96, abs=0.05), pytest.approx(2 + 1.96, abs=0.05))
    assert interval(np.full(100, 0.7), 0.95) is None  # nothing varied: certainty would be claimed
    gaps = np.where(np.arange(100) < 20, np.nan, samples[:100])
    assert interval(gaps, 0.95) is None
    assert interval(np.full(10, np.nan), 0.95) is None


def test_the_bootstrap_covers_the_truth() -> None:
    """Of slides drawn from one population, the interval of the mean holds the population's as often as it says."""
    rng, hits = np.random.default_rng(3), 0
    for seed in range(200):
        values = rng.normal(0.5, 0.2, 40)
        weights = resampled_slides(range(40), [0] * 40, resamples=300, seed=seed)
        low, high = interval(weighted_mean(np.broadcast_to(values, weights.shape), weights), 0.9)
        hits += low <= 0.5 <= high
    assert 0.82 <= hits / 200 <= 0.96


def test_area_is_a_mean_over_the_budgets() -> None:
    assert area_under([0, 5, 10, 20], np.full((3, 4), 0.7)) == pytest.approx(0.7)
    assert area_under([0, 10], np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert area_under([0, 5, 20], np.array([0.0, 0.8, 0.8])) == pytest.approx((2.0 + 12.0) / 20)


@given(values=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_counts_pairs(values: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([float(v) for v, _ in values]), np.array([p for _, p in values])
    pairs = [(a > b) + 0.5 * (a == b) for a, p in values if p for b, q in values if not q]
    found = auroc(scores, positive)
    assert (found is None) if not pairs else found == pytest.approx(np.mean(pairs))


def test_spearman() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(50)
    y = x + rng.normal(0, 0.3, 50)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert spearman(x, np.ones(50)) is None
    assert spearman(x[:2], y[:2]) is None
