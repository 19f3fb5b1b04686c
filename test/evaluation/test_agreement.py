import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uga.evaluation.agreement import Agreement

BOOLEANS = hnp.arrays(np.bool_, (3, 12, 7))


@given(BOOLEANS)
def test_counts_are_those_of_every_judged_pixel(arrays):
    predicted, reference, judged = arrays
    found = Agreement.of(predicted, reference, judged)
    pixels = list(zip(predicted.ravel(), reference.ravel(), judged.ravel(), strict=True))
    assert found.true_positive == sum(p and r and j for p, r, j in pixels)
    assert found.false_positive == sum(p and not r and j for p, r, j in pixels)
    assert found.false_negative == sum(r and not p and j for p, r, j in pixels)


@given(BOOLEANS, st.integers(0, 12))
def test_parts_pool_to_the_whole(arrays, cut):
    whole = Agreement.of(*arrays)
    parts = [Agreement.of(*arrays[:, :cut]), Agreement.of(*arrays[:, cut:])]
    assert Agreement.pooled(parts) == whole


def test_dice_is_pooled_over_pixels_and_unsmoothed():
    parts = [Agreement(90, 0, 10), Agreement(0, 10, 0)]
    assert Agreement.pooled(parts).dice == pytest.approx(180 / 200)
    assert parts[1].dice == 0
    assert Agreement().dice is None
