import numpy as np
import pytest
from grand_challenge_metrics.stats import dice_from_confusion_matrix
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uga.evaluation.agreement import Agreement, Empty, dice, matthews
from uga.evaluation.confusion import CellConfusion
from uga.geometry import Grid, GridRegion, SpacingUm

IGNORE = 3
SHAPES = st.tuples(st.just(2), st.integers(1, 23), st.integers(1, 17))
LABELS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, IGNORE)))


def confusion_of(reference, predicted, cell, cuts=()):
    """Gathered in bands that end at ``cuts``."""
    height, width = reference.shape
    gathered = CellConfusion(Grid.over(width, height, SpacingUm(1, 1), 1.0), cell, IGNORE)
    ends = sorted({min(cut, height) for cut in cuts} | {height})
    start = 0
    for end in ends:
        if end > start:
            gathered.add(start, reference[start:end], predicted[start:end])
            start = end
    return gathered


def brute_force(reference, predicted):
    counts = np.zeros((IGNORE, IGNORE), int)
    for r, p in zip(reference.ravel(), predicted.ravel(), strict=True):
        if r < IGNORE:
            counts[r, p] += 1
    return counts


@given(LABELS, st.integers(1, 30), st.lists(st.integers(1, 23)))
def test_bands_of_any_height_and_cells_of_any_size_add_up_to_the_whole(arrays, cell, cuts):
    reference, predicted = arrays[0], np.minimum(arrays[1], IGNORE - 1)
    gathered = confusion_of(reference, predicted, cell, cuts)
    np.testing.assert_array_equal(gathered.total(), brute_force(reference, predicted))


@given(LABELS, st.integers(1, 6), st.tuples(*[st.integers(0, 3)] * 4))
def test_a_patch_has_the_counts_of_its_own_pixels(arrays, cell, corner):
    reference, predicted = arrays[0], np.minimum(arrays[1], IGNORE - 1)
    x, y, columns, rows = (cell * value for value in corner)
    region = GridRegion(x, y, columns + cell, rows + cell)
    part = np.s_[y : region.y_end, x : region.x_end]
    found = confusion_of(reference, predicted, cell).of(region)
    np.testing.assert_array_equal(found, brute_force(reference[part], predicted[part]))


@given(LABELS)
def test_counts_of_a_label_are_those_of_every_judged_pixel(arrays):
    reference, predicted = arrays[0], np.minimum(arrays[1], IGNORE - 1)
    found = Agreement.from_confusion(brute_force(reference, predicted), 1)
    judged = reference < IGNORE
    inside, there = (predicted == 1) & judged, reference == 1
    assert found.counts == ((inside & there).sum(), (inside & ~there).sum(), (there & ~inside).sum())
    assert Agreement.of(predicted == 1, reference == 1, judged) == found


@given(LABELS)
def test_dice_is_that_of_grand_challenge_metrics(arrays):
    matrix = brute_force(arrays[0], np.minimum(arrays[1], IGNORE - 1))
    with np.errstate(invalid="ignore"):
        theirs = dice_from_confusion_matrix(matrix)
    ours = [Agreement.from_confusion(matrix, value).dice for value in range(IGNORE)]
    np.testing.assert_allclose(theirs, [np.nan if each is None else each for each in ours], rtol=1e-6)


@given(LABELS)
def test_matthews_correlation_is_the_correlation_of_the_maps(arrays):
    reference, predicted = arrays[0] == 1, arrays[1] == 1
    found = Agreement.of(predicted, reference, np.ones_like(reference))
    value = float(matthews(np.asarray(found.counts), np.asarray(reference.size)))
    if reference.all() or not reference.any():
        assert np.isnan(value)
    elif predicted.all() or not predicted.any():
        assert value == 0
    else:
        assert value == pytest.approx(np.corrcoef(reference.ravel(), predicted.ravel())[0, 1], abs=1e-9)


def test_parts_pool_over_pixels():
    parts = [Agreement(90, 0, 10), Agreement(0, 10, 0)]
    assert Agreement.pooled(parts) == Agreement(90, 10, 10)
    assert Agreement.pooled(parts).dice == pytest.approx(180 / 200)
    assert Agreement.pooled([]) == Agreement()


@pytest.mark.parametrize(
    ("empty", "nothing", "one_false", "all_right"),
    [(Empty.EXCLUDE, None, 0.0, 1.0), (Empty.ONE, 1.0, 0.0, 1.0), (Empty.SMOOTHED, 1.0, 0.5, 1.0)],
)
def test_conventions(empty, nothing, one_false, all_right):
    assert Agreement().dice_by(empty) == nothing
    assert Agreement(0, 1, 0).dice_by(empty) == one_false
    assert Agreement(5, 0, 0).dice_by(empty) == all_right


def test_smoothed_dice_is_the_authors():
    assert Agreement(40, 7, 3).dice_by(Empty.SMOOTHED) == pytest.approx((2 * 40 + 1) / (47 + 43 + 1))


@pytest.mark.parametrize("empty", list(Empty))
def test_many_at_once_are_each_alone(empty):
    counts = np.array([[0, 0, 0], [0, 3, 0], [5, 1, 2]])
    alone = [Agreement(*row).dice_by(empty) for row in counts.tolist()]
    np.testing.assert_array_equal(dice(counts, empty), [np.nan if each is None else each for each in alone])
