import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uga.evaluation import bootstrap
from uga.simulation.statistics import (
    area_under,
    dice_if_all_of,
    dice_of,
    expanded_tail,
    interval,
    matthews_of,
    pooled,
    precision_of,
    resampled_slides,
    sensitivity_of,
    weighted_mean,
    with_seeds,
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


@given(
    counts=st.lists(st.tuples(*[st.integers(0, 50)] * 4), min_size=1, max_size=6),
    data=st.data(),
)
def test_pooled_figures_are_those_of_the_slides_laid_side_by_side(
    counts: list[tuple[int, int, int, int]], data
) -> None:
    """The fourth number is of pixels that neither map has."""
    weights = np.array([data.draw(st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)))])
    given_counts = np.array(counts)
    given_counts[:, 3] = given_counts.sum(axis=1)
    repeated = [c for c, w in zip(counts, weights[0], strict=True) for _ in range(w)]
    tp, fp, fn, tn = (sum(c[i] for c in repeated) for i in range(4))
    reference = np.repeat([True, False, True, False], [tp, fp, fn, tn])
    predicted = np.repeat([True, True, False, False], [tp, fp, fn, tn])
    expected = {
        dice_of: (2 * tp, 2 * tp + fp + fn),
        sensitivity_of: (tp, tp + fn),
        precision_of: (tp, tp + fp),
        dice_if_all_of: (2 * (tp + fn), tp + fn + len(reference)),
    }
    for figure, (part, whole) in expected.items():
        assert pooled(figure, given_counts, weights)[0] == pytest.approx(part / whole if whole else np.nan, nan_ok=True)
    correlation = np.nan
    if len(set(reference)) == 2:
        correlation = np.corrcoef(reference, predicted)[0, 1] if len(set(predicted)) == 2 else 0.0
    assert pooled(matthews_of, given_counts, weights)[0] == pytest.approx(correlation, abs=1e-12, nan_ok=True)


def test_the_correlation_of_areas_as_large_as_slides() -> None:
    """The product of its four areas is beyond 64 bits; scaled down by a thousand the areas give the same."""
    large = np.array([3_000_000_000, 1_000_000_000, 2_000_000_000, 90_000_000_000])
    assert matthews_of(large) == pytest.approx(matthews_of(large // 1000), abs=1e-12)
    assert matthews_of(large) == pytest.approx((3 * 84 - 1 * 2) / np.sqrt(4 * 5 * 85 * 86))


def test_pooled_figures_of_several_cells_at_once() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (4, 5, 4))
    counts[..., 3] += counts[..., :3].sum(axis=-1)
    weights = np.random.default_rng(1).integers(0, 3, (7, 5))
    for figure in (dice_of, matthews_of):
        together = pooled(figure, counts, weights)
        assert together.shape == (7, 4)
        for cell in range(4):
            np.testing.assert_array_equal(together[:, cell], pooled(figure, counts[cell], weights))


def test_a_weighted_mean_leaves_out_what_is_not_defined() -> None:
    values = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, np.nan], [2.0, 5.0, 8.0]])
    weights = np.array([[1, 7, 2], [1, 1, 1], [0, 0, 0]])
    mean = weighted_mean(values, weights)
    assert mean[0] == pytest.approx(3.0)
    assert np.isnan(mean[1:]).all()


def test_intervals() -> None:
    samples = np.random.default_rng(0).normal(2.0, 1.0, 20_000)
    low, high = interval(samples, 0.025)
    assert (low, high) == (pytest.approx(2 - 1.96, abs=0.05), pytest.approx(2 + 1.96, abs=0.05))
    assert interval(np.full(100, 0.7), 0.025) is None  # nothing varied: certainty would be claimed
    gaps = np.where(np.arange(100) < 20, np.nan, samples[:100])
    assert interval(gaps, 0.025) is None
    assert interval(np.full(10, np.nan), 0.025) is None


def test_the_tail_is_that_of_an_evaluation_where_there_is_one_stratum() -> None:
    for patients in (2, 5, 40):
        assert expanded_tail(0.95, patients) == pytest.approx(bootstrap.expanded_tail(0.95, patients))
    assert expanded_tail(0.95, 12, 4) < expanded_tail(0.95, 12)
    assert expanded_tail(0.9, 10**6, 3) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("each", [3, 8])
def test_intervals_of_small_strata_hold_the_truth(each: int) -> None:
    """Strata differ, patients within one vary: the interval of the mean over strata holds it as often as it says."""
    rng, strata, hits = np.random.default_rng(3), np.repeat(range(4), each), 0
    truth = np.array([0.2, 0.4, 0.6, 0.8])
    for seed in range(300):
        values = truth[strata] + rng.normal(0, 0.1, len(strata))
        weights = resampled_slides(range(len(strata)), strata.tolist(), resamples=400, seed=seed)
        means = weighted_mean(np.broadcast_to(values, weights.shape), weights)
        low, high = interval(means, expanded_tail(0.9, len(strata), 4))
        hits += low <= truth.mean() <= high
    assert 0.85 <= hits / 300 <= 0.95


def test_seeds_widen_an_interval_in_quadrature() -> None:
    assert with_seeds(0.5, 0.4, 0.7, [0.5], 0.95) == (0.4, 0.7)  # one seed says nothing of others
    assert with_seeds(0.5, 0.4, 0.7, [0.5, 0.5, 0.5], 0.95) == (pytest.approx(0.4), pytest.approx(0.7))
    half = 4.302653 * 0.1 / np.sqrt(3)  # Student's t with 2 degrees of freedom, standard deviation 0.1
    low, high = with_seeds(0.5, 0.4, 0.7, [0.4, 0.5, 0.6], 0.95)
    assert low == pytest.approx(0.5 - np.hypot(0.1, half))
    assert high == pytest.approx(0.5 + np.hypot(0.2, half))


@pytest.mark.parametrize("patients", [0.0, 0.05, 0.2])
def test_seeds_of_one_sign_by_chance_exclude_zero_as_seldom_as_the_level_says(patients: float) -> None:
    """Nothing differs but by patients and three seeds: of three seeds one in four times all have one sign."""
    rng, wrong, trials = np.random.default_rng(0), 0, 2000
    for _ in range(trials):
        common = rng.normal(0, patients)
        seeds = common + rng.normal(0, 0.1, 3)
        value = seeds.mean()
        low, high = with_seeds(value, value - 1.96 * patients, value + 1.96 * patients, seeds.tolist(), 0.95)
        wrong += low > 0 or high < 0
    assert 0.02 <= wrong / trials <= 0.065


def test_area_is_a_mean_over_the_budgets() -> None:
    assert area_under([0, 5, 10, 20], np.full((3, 4), 0.7)) == pytest.approx(0.7)
    assert area_under([0, 10], np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert area_under([0, 5, 20], np.array([0.0, 0.8, 0.8])) == pytest.approx((2.0 + 12.0) / 20)
