import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uga.slide.resample import any_covered, area_average, coverage


def area_mean(pixels, ratio_y, ratio_x, y, x):
    """Mean of what grid pixel (y, x) covers, in float64, pixel by pixel."""
    height, width = pixels.shape[:2]
    total, area = np.zeros(3), 0.0
    for row in range(int(y * ratio_y), min(height, int((y + 1) * ratio_y) + 1)):
        tall = min((y + 1) * ratio_y, row + 1) - max(y * ratio_y, row)
        for column in range(int(x * ratio_x), min(width, int((x + 1) * ratio_x) + 1)):
            wide = min((x + 1) * ratio_x, column + 1) - max(x * ratio_x, column)
            if tall > 0 and wide > 0:
                total += tall * wide * pixels[row, column]
                area += tall * wide
    return total / area


@settings(max_examples=60)
@given(
    ratio_y=st.floats(0.9991, 5.7),
    ratio_x=st.floats(0.9991, 5.7),
    height=st.integers(6, 23),
    width=st.integers(6, 23),
    seed=st.integers(0, 1000),
)
def test_area_average_equals_brute_force(ratio_y, ratio_x, height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = (
        coverage(0, int(height / ratio_y), ratio_y, height),
        coverage(0, int(width / ratio_x), ratio_x, width),
    )
    got = area_average(np.ascontiguousarray(pixels[: rows.stop, : columns.stop]), rows, columns)
    for y in range(got.shape[0]):
        for x in range(got.shape[1]):
            wanted = area_mean(pixels, ratio_y, ratio_x, y, x)
            assert np.all(np.abs(got[y, x] - wanted) <= 0.5 + 1e-3)


def test_half_is_rounded_to_even():
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0], pixels[:, 2:] = 2, 1  # means 0.5 and 1
    pixels[0, 2] = 3  # mean 1.5
    got = area_average(pixels, coverage(0, 1, 2.0, 2), coverage(0, 2, 2.0, 4))
    assert got[0, :, 0].tolist() == [0, 2]


def test_last_pixel_counts_only_the_part_inside():
    pixels = np.full((3, 3, 3), 10, np.uint8)
    pixels[2, 2] = 200
    got = area_average(pixels, coverage(0, 2, 2.0, 3), coverage(0, 2, 2.0, 3))
    assert got[1, 1, 0] == 200
    assert got[0, 0, 0] == 10


def test_pixel_beyond_a_rounded_down_level_takes_the_edge():
    got = coverage(3, 4, 1.0, 3)
    assert (got.start, got.stop) == (2, 3)
    assert got.weights.toarray().tolist() == [[1.0]]


def test_rounding_of_edges_makes_no_slivers():
    ratio = 0.3 / 0.1  # 2.9999999999999996
    for first in (0, 1, 7, 1000, 99_999):
        got = coverage(first, first + 2, ratio, 10**6)
        assert (got.start, got.stop) == (3 * first, 3 * first + 6)


def test_identity_is_recognised():
    assert coverage(5, 9, 1.0, 20).is_identity
    assert not coverage(5, 9, 1.0005, 20).is_identity
    assert not coverage(0, 4, 2.0, 20).is_identity


def test_any_covered_marks_every_touched_target():
    mask = np.zeros((8, 9), np.bool_)
    mask[3, 5] = True
    got = any_covered(mask, coverage(0, 4, 2.0, 8), coverage(0, 4, 2.2, 9))  # column 5 spans targets 2 and only 2
    assert np.argwhere(got).tolist() == [[1, 2]]
    mask[:] = False
    mask[0, 4] = True  # spans 4.0..5.0, targets 1 (2.2..4.4) and 2 (4.4..6.6)
    got = any_covered(mask, coverage(0, 4, 2.0, 8), coverage(0, 4, 2.2, 9))
    assert np.argwhere(got).tolist() == [[0, 1], [0, 2]]
