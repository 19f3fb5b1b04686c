import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uga.evaluation import statistics as of
from uga.evaluation.agreement import Agreement, Empty
from uga.evaluation.bootstrap import (
    Resampling,
    bootstrap_interval,
    expanded_tail,
    fewest_patients,
    paired_bootstrap,
)
from uga.evaluation.uncertainty import binned, calibration_error, error_auroc, risk_area, scale_of

FAST = Resampling(resamples=400)
TIMES = st.lists(st.integers(0, 3), min_size=1, max_size=8)
ROWS = st.lists(
    st.tuples(st.integers(0, 3), *[st.integers(0, 9)] * 3, st.one_of(st.none(), st.integers(0, 5))),
    min_size=1,
    max_size=9,
)


def clustered(rng, patients, slides_each=3, mean=0.7):
    """Values of slides: what a patient's have in common, and a little of their own."""
    common = np.repeat(rng.normal(mean, 0.1, patients), slides_each)
    return (common + rng.normal(0, 0.03, len(common))).tolist()


def covered(patients, names, *, repeats=500):
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(repeats):
        values = clustered(rng, patients)
        interval = bootstrap_interval(of.mean_of(values), names, Resampling(resamples=500, seed=seed)).interval
        hits += interval.low <= 0.7 <= interval.high
    return hits / repeats


@pytest.mark.parametrize(("patients", "at_least"), [(5, 0.90), (8, 0.92), (20, 0.93)])
def test_an_interval_of_the_mean_covers_about_as_often_as_it_says(patients, at_least):
    names = [f"p{k // 3}" for k in range(3 * patients)]
    assert at_least <= covered(patients, names) <= 0.98


def test_slides_drawn_one_by_one_would_cover_too_seldom():
    assert covered(8, [f"slide {k}" for k in range(24)]) < 0.85


def test_levels_move_outwards_with_few_patients_and_not_with_many():
    assert expanded_tail(0.95, 10**6) == pytest.approx(0.025, abs=1e-4)
    # With n values the mean's bootstrap distribution is nearly normal: the interval becomes Student's.
    n = 7
    half = stats.norm.ppf(1 - expanded_tail(0.95, n)) * np.sqrt((n - 1) / n)
    assert half == pytest.approx(stats.t.ppf(0.975, n - 1))
    assert expanded_tail(0.9, n) > expanded_tail(0.95, n)


def test_the_same_seed_gives_the_same_interval_in_any_order_of_the_slides():
    values = clustered(np.random.default_rng(1), 6)
    names = [f"p{k // 3}" for k in range(18)]
    first = bootstrap_interval(of.mean_of(values), names, FAST)
    assert bootstrap_interval(of.mean_of(values), names, FAST) == first
    backwards = bootstrap_interval(of.mean_of(values[::-1]), names[::-1], FAST)
    assert backwards.interval.low == pytest.approx(first.interval.low)
    assert bootstrap_interval(of.mean_of(values), names, Resampling(resamples=400, seed=1)) != first


def test_one_patient_has_no_interval_whatever_the_number_of_slides():
    found = bootstrap_interval(of.mean_of([0.5, 0.7, 0.9]), ["a", "a", "a"], FAST)
    assert found.value == pytest.approx(0.7)
    assert (found.interval.low, found.interval.high, found.interval.reason) == (None, None, "one patient only")


@pytest.mark.parametrize(
    ("patients", "caution"), [(2, "fewer than 6 patients"), (5, "fewer than 6 patients"), (6, None)]
)
def test_few_patients_cannot_reach_the_level(patients, caution):
    found = bootstrap_interval(of.mean_of(range(patients)), [f"p{k}" for k in range(patients)], FAST).interval
    assert (found.patients, found.caution) == (patients, caution)
    assert 0 <= found.low < found.high <= patients - 1


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 2), (0.75, 3), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_the_fewest_patients_of_a_level(level, fewest):
    assert fewest_patients(level) == fewest
    assert 1 - 2.0 ** (1 - fewest) >= level > 1 - 2.0 ** (2 - fewest)


def test_patients_without_a_value_do_not_feign_a_sample():
    found = bootstrap_interval(of.median_of([3.0, None, None]), ["a", "b", "c"], FAST)
    assert (found.value, found.interval.reason) == (3.0, "one patient only")
    agreements = [Agreement(5, 1, 1), Agreement(), Agreement()]
    assert bootstrap_interval(of.pooled_dice(agreements), ["a", "b", "c"], FAST).interval.reason == "one patient only"


def test_no_value_no_interval():
    found = bootstrap_interval(of.mean_of([None, None]), ["a", "b"], FAST)
    assert (found.value, found.interval.reason) == (None, "there is no value")


def test_a_figure_that_most_resamples_lack_has_no_interval():
    # Patches of two kinds are needed, twice over, and each patient has one kind: 6 of 27 draws have all three patients.
    first = of.patch_separation([0, 1], [0.1, 0.9], [False, True], 3)
    second = of.patch_separation([1, 2], [0.1, 0.9], [False, True], 3)
    found = bootstrap_interval(of.average([first, second]), ["a", "b", "c"], FAST)
    assert (found.value, found.interval.reason) == (1, "most resamples have no value")


def test_a_paired_difference_is_narrower_than_two_intervals_apart():
    rng = np.random.default_rng(2)
    before = clustered(rng, 8)
    after = [value + 0.05 + rng.normal(0, 0.01) for value in before]
    names = [f"p{k // 3}" for k in range(24)]
    difference = paired_bootstrap(of.mean_of(before), of.mean_of(after), names, FAST)
    assert difference.value == pytest.approx(0.05, abs=0.01)
    assert difference.interval.excludes_zero
    apart = bootstrap_interval(of.mean_of(after), names, FAST).interval
    assert difference.interval.high - difference.interval.low < (apart.high - apart.low) / 3


def test_a_method_against_itself_differs_by_nothing():
    values = clustered(np.random.default_rng(3), 4)
    found = paired_bootstrap(of.mean_of(values), of.mean_of(values), [f"p{k // 3}" for k in range(12)], FAST)
    assert (found.value, found.interval.low, found.interval.high) == (0, 0, 0)
    assert not found.interval.excludes_zero


def repeated(values, times):
    return [value for value, count in zip(values, times, strict=True) for _ in range(count)]


def number(values, function):
    known = [value for value in values if value is not None]
    return function(known) if known else np.nan


@given(ROWS)
def test_a_weight_counts_a_slide_as_often_as_it_says(rows):
    times, tp, fp, fn, values = map(list, zip(*rows, strict=True))
    weights = np.array([times], float)
    agreements = [Agreement(*counts) for counts in zip(tp, fp, fn, strict=True)]
    drawn = repeated(agreements, times)
    for empty in (Empty.EXCLUDE, Empty.ONE):
        pooled = Agreement.pooled(drawn).dice_by(empty)
        assert of.pooled_dice(agreements, empty)(weights)[0] == pytest.approx(
            np.nan if pooled is None else pooled, nan_ok=True
        )
    drawn_values = repeated(values, times)
    assert of.mean_of(values)(weights)[0] == pytest.approx(number(drawn_values, np.mean), nan_ok=True)
    assert of.median_of(values)(weights)[0] == pytest.approx(number(drawn_values, np.median), nan_ok=True)
    under = sum(repeated(fp, times))
    expected = sum(repeated(tp, times)) / under if under else np.nan
    assert of.ratio_of(tp, fp)(weights)[0] == pytest.approx(expected, nan_ok=True)


@given(TIMES, st.integers(0, 2**32 - 1))
def test_histograms_of_drawn_slides_are_added(times, seed):
    rng = np.random.default_rng(seed)
    slides = rng.integers(0, 50, (len(times), 2, 256))
    weights, together = np.array([times], float), np.tensordot(times, slides, 1)
    for figure in (risk_area, error_auroc):
        found = of.histogram_figure(list(slides), figure)(weights)[0]
        assert found == pytest.approx(float(figure(together)), nan_ok=True)
    scale = scale_of("entropy", 4.0, 2)
    found = of.bins_figure([binned(h, scale) for h in slides], calibration_error)(weights)[0]
    assert found == pytest.approx(float(calibration_error(binned(together, scale))), nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=20))
def test_patches_are_drawn_with_their_slide(rows):
    owner, x, y = map(list, zip(*rows, strict=True))
    times = [2, 0, 1, 1]
    drawn = [k for k, slide in enumerate(owner) for _ in range(times[slide])]
    weights = np.array([times], float)
    mean = of.patch_mean(owner, x, 4)(weights)[0]
    assert mean == pytest.approx(np.mean([x[k] for k in drawn]) if drawn else np.nan, nan_ok=True)
    a, b = [x[k] for k in drawn], [y[k] for k in drawn]
    expected = stats.spearmanr(a, b).statistic if len(set(a)) > 1 and len(set(b)) > 1 else np.nan
    assert of.patch_spearman(owner, x, y, 4)(weights)[0] == pytest.approx(expected, nan_ok=True)


def test_two_patches_have_no_rank_correlation():
    assert of.patch_spearman([0, 1], [1, 2], [1, 2], 2).value is None


def test_an_average_over_centres_weighs_them_alike():
    first, second = of.ratio_of([9, 0], [10, 0]), of.ratio_of([0, 1], [0, 10])
    together = of.average([first, second])
    assert together.value == pytest.approx(0.5)
    assert together.counted.tolist() == [True, True]
