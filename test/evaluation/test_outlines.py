import numpy as np
import pytest
from grand_challenge_metrics.stats import modified_hausdorff_distance, percentile_hausdorff_distance
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, distance_transform_edt

from uga.evaluation import outlines
from uga.evaluation.outlines import Outline, surface_distances

SHAPES = st.tuples(st.just(2), st.integers(1, 14), st.integers(1, 14))
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(np.bool_, shape))


def outline_of(mask, judged=None, cuts=()):
    """Gathered in bands that end at ``cuts``."""
    judged = np.ones_like(mask) if judged is None else judged
    outline = Outline()
    start = 0
    for end in sorted({min(cut, len(mask)) for cut in cuts} | {len(mask)}):
        if end > start:
            inside = mask[start:end]
            outline.add(inside & judged[start:end], judged[start:end] & ~inside)
            start = end
    return outline


def edge(mask, judged):
    """Outline pixels as the definition has them, one by one."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            outside = [not (0 <= v < height and 0 <= u < width) or (judged[v, u] and not mask[v, u]) for v, u in around]
            if mask[y, x] and judged[y, x] and any(outside):
                found.append((y, x))
    return found


def compared(predicted, reference, **options):
    return surface_distances(
        outline_of(predicted), outline_of(reference), **{"spacing_um": 1.0, "tolerance_um": 2.0} | options
    )


@given(MASKS, st.lists(st.integers(1, 14)))
def test_bands_of_any_height_give_the_outline_of_the_whole(arrays, cuts):
    mask, judged = arrays
    outline = outline_of(mask, judged, cuts)
    assert sorted(map(tuple, outline.points().tolist())) == edge(mask, judged)
    assert outline.length_px == len(edge(mask, judged))


@given(MASKS)
def test_where_all_is_judged_the_outline_is_what_erosion_takes_away(arrays):
    mask = arrays[0]
    expected = np.argwhere(mask & ~binary_erosion(mask))
    np.testing.assert_array_equal(outline_of(mask).points(), expected)


@given(MASKS, st.sampled_from([0.25, 1.0, 2.0]), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_distances_are_those_of_every_pair_of_outline_pixels(arrays, spacing, tolerance):
    predicted, reference = arrays
    assume(predicted.any() and reference.any())
    ours, theirs = (np.argwhere(mask & ~binary_erosion(mask)) for mask in arrays)
    pairs = np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(-1)) * spacing
    there, back = pairs.min(1), pairs.min(0)
    found = compared(predicted, reference, spacing_um=spacing, tolerance_um=tolerance)
    assert (found.predicted_px, found.reference_px) == (len(ours), len(theirs))
    assert found.mean_um == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)))
    assert found.within_px == (there <= tolerance).sum() + (back <= tolerance).sum()
    assert found.nsd == pytest.approx(found.within_px / (len(ours) + len(theirs)))


@given(MASKS, st.sampled_from([0.25, 1.0]))
def test_distances_are_those_of_grand_challenge_metrics_and_scipy(arrays, spacing):
    predicted, reference = arrays
    assume(predicted.any() and reference.any())
    found = compared(predicted, reference, spacing_um=spacing)
    assert found.hd95_um == pytest.approx(percentile_hausdorff_distance(predicted, reference, 0.95, spacing))
    edges = [mask & ~binary_erosion(mask) for mask in arrays]
    there, back = (distance_transform_edt(~edges[k], sampling=spacing)[edges[1 - k]] for k in (1, 0))
    assert found.mean_um == pytest.approx(np.concatenate([there, back]).mean())
    assert max(there.mean(), back.mean()) == pytest.approx(modified_hausdorff_distance(predicted, reference, spacing))


def test_a_shift_is_measured_in_micrometres():
    reference = np.zeros((40, 60), bool)
    reference[10:20, 10:30] = True
    predicted = np.roll(reference, 5, axis=1)
    found = compared(predicted, reference, spacing_um=2.0, tolerance_um=10.0)
    assert found.nsd == 1
    assert found.hd95_um == 10
    assert compared(predicted, reference, spacing_um=2.0, tolerance_um=9.9).nsd < 1


def test_without_an_outline_there_is_no_distance_and_nothing_agrees():
    some, none = np.ones((3, 4), bool), np.zeros((3, 4), bool)
    for found in (compared(some, none), compared(none, some)):
        assert (found.hd95_um, found.mean_um, found.nsd) == (None, None, 0)
    assert compared(none, none).nsd is None


def test_one_pixel():
    found = compared(np.ones((1, 1), bool), np.ones((1, 1), bool))
    assert (found.hd95_um, found.mean_um, found.nsd) == (0, 0, 1)


def test_pixels_that_are_not_judged_make_no_outline():
    reference, judged = np.ones((6, 9), bool), np.ones((6, 9), bool)
    judged[:, 4] = False
    predicted = np.ones((6, 9), bool)
    predicted[:, 5:] = False
    ours, theirs = outline_of(predicted, judged), outline_of(reference, judged)
    assert (2, 3) not in set(map(tuple, ours.points().tolist())), "what lies beyond is not known"
    assert surface_distances(ours, theirs, spacing_um=1, tolerance_um=0).within_px == 2 * ours.length_px


def test_too_long_an_outline_is_counted_but_not_measured(monkeypatch):
    monkeypatch.setattr(outlines, "MOST_OUTLINE_PX", 10)
    speckled = np.indices((9, 9)).sum(0) % 2 == 0
    found = compared(speckled, np.ones((2, 2), bool))
    assert found.predicted_px == 41
    assert (found.within_px, found.nsd, found.hd95_um) == (None, None, None)
