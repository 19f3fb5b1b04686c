import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import entr
from scipy.stats import mannwhitneyu

from uga.evaluation import uncertainty as u

PIXELS = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=60)
FEW = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6)


def histogram(pixels):
    h = np.zeros((2, 256), np.int64)
    for grey, wrong in pixels:
        h[int(wrong), grey] += 1
    return h


def area_by_order(wrong):
    """Mean error rate of the first k, over all k."""
    return np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


@given(FEW)
def test_risk_area_is_the_mean_over_all_orders_of_tied_pixels(pixels):
    certain_first = [
        [wrong for _, wrong in order]
        for order in itertools.permutations(pixels)
        if all(a[0] <= b[0] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([area_by_order(wrong) for wrong in certain_first])
    assert u.risk_area(histogram(pixels)) == pytest.approx(expected)
    best = area_by_order(sorted(wrong for _, wrong in pixels))
    assert u.excess_risk_area(histogram(pixels)) == pytest.approx(expected - best)


@given(PIXELS)
def test_error_auroc_is_scipys_mann_whitney_statistic(pixels):
    right, wrong = ([grey for grey, is_wrong in pixels if is_wrong == kind] for kind in (False, True))
    assume(right and wrong)
    expected = mannwhitneyu(wrong, right).statistic / (len(wrong) * len(right))
    assert u.error_auroc(histogram(pixels)) == pytest.approx(expected)


@given(PIXELS)
def test_one_grey_value_for_all_knows_nothing(pixels):
    h = histogram([(7, wrong) for _, wrong in pixels])
    assert u.risk_area(h) == pytest.approx(float(u.error_rate(h)))
    if h.sum(1).all():
        assert u.error_auroc(h) == 0.5


@given(PIXELS)
def test_the_risk_coverage_curve_ends_at_the_error_rate(pixels):
    h = histogram(pixels)
    coverage, risk = u.risk_coverage(h)
    assert coverage[-1] == pytest.approx(1)
    assert risk[-1] == pytest.approx(float(u.error_rate(h)))
    by_hand = [(sum(g <= level for g, _ in pixels), sum(w for g, w in pixels if g <= level)) for level, _ in pixels]
    for pixels_kept, errors in by_hand:
        place = np.flatnonzero(np.isclose(coverage * len(pixels), pixels_kept))[0]
        assert risk[place] == pytest.approx(errors / pixels_kept)


def test_figures_without_a_meaning_are_not_numbers():
    nothing = np.zeros((2, 256), np.int64)
    right = histogram([(3, False), (9, False)])
    for figure in (u.error_rate, u.risk_area, u.excess_risk_area, u.error_auroc):
        assert np.isnan(figure(nothing))
    assert np.isnan(u.error_auroc(right))
    assert np.isnan(u.error_auroc(right[::-1]))
    assert u.risk_area(right) == u.excess_risk_area(right) == 0
    assert np.isnan(u.calibration_error(u.binned(nothing, u.scale_of("entropy", 4.0, 2))))


def test_large_counts_lose_no_digits():
    h = np.zeros((2, 256), np.int64)
    h[0, 0], h[1, 0], h[0, 200], h[1, 200] = 10**11, 10**3, 10**3, 10**9
    small = h / 1e3
    assert u.risk_area(h) == pytest.approx(float(u.risk_area(small)), rel=1e-6)
    assert 0 < u.excess_risk_area(h) < 1e-6


@given(st.lists(PIXELS, min_size=1, max_size=4))
def test_many_at_once_are_each_alone(slides):
    stacked = np.stack([histogram(pixels) for pixels in slides])
    scale = u.scale_of("soft-cross-entropy", 4.0, 3)
    for figure in (u.error_rate, u.error_auroc, u.risk_area, u.excess_risk_area):
        np.testing.assert_allclose(figure(stacked), [figure(h) for h in stacked], atol=1e-12)
    for figure in (u.calibration_error, u.average_calibration_error, u.normalised_calibration_error):
        together = figure(u.binned(stacked, scale))
        np.testing.assert_allclose(together, [figure(u.binned(h, scale)) for h in stacked], atol=1e-12)


@given(PIXELS, st.sampled_from(["entropy", "soft-cross-entropy", "mean-log-softmax"]), st.integers(2, 5))
def test_calibration_errors_are_those_of_every_pixel(pixels, measure, labels):
    scale = u.scale_of(measure, 4.0, labels)
    found = u.binned(histogram(pixels), scale)
    bins = {}
    for grey, wrong in pixels:
        value = {0: 0.0, 255: 4.0}.get(grey, (grey + 0.5) * 4 / 255)
        share = min(1, value / math.log(labels))
        bins.setdefault(min(9, int(share * 10)), []).append((share, u.expected_error(value, labels), wrong))
    gaps = {key: np.abs(np.mean([w - e for _, e, w in members])) for key, members in bins.items()}
    weights = {key: len(members) / len(pixels) for key, members in bins.items()}
    assert u.calibration_error(found) == pytest.approx(sum(gaps[key] * weights[key] for key in bins))
    assert u.average_calibration_error(found) == pytest.approx(np.mean(list(gaps.values())))
    literal = {key: np.abs(np.mean([w - s for s, _, w in members])) for key, members in bins.items()}
    assert u.normalised_calibration_error(found) == pytest.approx(sum(literal[key] * weights[key] for key in bins))


@given(st.floats(1e-6, 1), st.integers(2, 6))
def test_expected_error_undoes_the_entropy_of_evenly_shared_doubt(share, labels):
    error = share * (1 - 1 / labels)
    p = np.array([1 - error, *[error / (labels - 1)] * (labels - 1)])
    assert u.expected_error(float(entr(p).sum()), labels) == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
def test_expected_error_ends_where_all_labels_are_alike(labels):
    assert u.expected_error(0.0, labels) == 0
    assert u.expected_error(9.0, labels) == pytest.approx(1 - 1 / labels)


def test_a_calibrated_ensemble_has_no_calibration_error():
    """Two labels, confidences from 0.5 to 1, wrong as often as they say: only 8 bits and bins are left."""
    rng = np.random.default_rng(1)
    error = rng.uniform(0, 0.5, 400_000)
    grey = np.minimum((entr(error) + entr(1 - error)) * 255 / 4, 255).astype(np.uint8)
    wrong = rng.random(len(error)) < error
    reference = np.zeros(len(error), np.uint8)
    h = u.count_errors(grey, wrong.astype(np.uint8), reference, np.ones(len(error), np.bool_))
    found = u.binned(h, u.scale_of("entropy", 4.0, 2))
    assert u.calibration_error(found) < 0.01
    assert u.average_calibration_error(found) < 0.01
    assert u.normalised_calibration_error(found) > 0.25, "UCE does not vanish with two labels"


@pytest.mark.parametrize("measure", ["disagreement", "mutual-information", "variance"])
def test_measures_that_stand_for_no_error_rate_have_no_calibration_error(measure):
    scale = u.scale_of(measure, 1.0 if measure == "variance" else 4.0, 2)
    found = u.binned(histogram([(0, False), (40, True), (255, True)]), scale)
    assert np.isnan(u.calibration_error(found))
    assert np.isnan(u.average_calibration_error(found))
    assert 0 <= u.normalised_calibration_error(found) <= 1
    assert scale.uncertainty[[0, -1]].tolist() == [0, 1]


@given(st.integers(0, 2**32 - 1))
def test_counting_leaves_out_what_is_not_counted(seed):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (9, 7)).astype(np.uint8)
    predicted, reference = rng.integers(0, 3, (2, 9, 7)).astype(np.uint8)
    counted = rng.random((9, 7)) < 0.5
    pixels = zip(grey[counted].tolist(), (predicted != reference)[counted].tolist(), strict=True)
    np.testing.assert_array_equal(u.count_errors(grey, predicted, reference, counted), histogram(pixels))
