import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from uga.evaluation.ranks import Ranks, separation, spearman

# Few different values, so that there are many ties; weights as a bootstrap draws them.
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=2, max_size=30
)


def columns(rows):
    x, y, weights, positive = (np.array(column, float) for column in zip(*rows, strict=True))
    return x, y, weights, positive.astype(bool)


@given(ROWS)
def test_spearman_is_scipys_over_values_counted_as_often_as_drawn(rows):
    x, y, weights, _ = columns(rows)
    drawn = weights.astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        expected = stats.spearmanr(np.repeat(x, drawn), np.repeat(y, drawn)).statistic if drawn.sum() > 1 else np.nan
    assert spearman(Ranks(x), Ranks(y), weights) == pytest.approx(expected, nan_ok=True)


@given(ROWS)
def test_mid_ranks_are_scipys(rows):
    x, _, _, _ = columns(rows)
    np.testing.assert_allclose(Ranks(x).of(np.ones(len(x))), stats.rankdata(x))


@given(ROWS)
def test_separation_is_the_area_under_the_roc_curve(rows):
    x, _, weights, positive = columns(rows)
    drawn = weights.astype(int)
    above, below = (np.repeat(x[kind], drawn[kind]) for kind in (positive, ~positive))
    assume(len(above) and len(below))
    expected = stats.mannwhitneyu(above, below).statistic / (len(above) * len(below))
    assert separation(Ranks(x), positive, weights) == pytest.approx(expected)


def test_one_sided_data_have_no_separation_and_constants_no_correlation():
    ranks, ones = Ranks([1.0, 2.0]), np.ones(2)
    assert np.isnan(separation(ranks, np.array([True, True]), ones))
    assert np.isnan(spearman(ranks, Ranks([3.0, 3.0]), ones))
    assert np.isnan(spearman(ranks, ranks, np.zeros(2)))
