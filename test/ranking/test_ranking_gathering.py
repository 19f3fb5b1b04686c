import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uga.errors import UserError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.inference import Rows
from uga.ranking import (
    PatchGrid,
    PatchScores,
    black_and_white,
    to_uint8,
)
from uga.strips import Pixels

PATCH = 16
TUMOUR = 2


class Maps:
    """Random maps of a small slide, and the score of a patch the slow way."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.grid = Grid.over(width, height, SpacingUm(1, 1), 1.0)
        self.tissue = rng.random((height, width)) < 0.5
        self.uncertainty = (rng.random((height, width)) * 5 * self.tissue).astype(np.float32)
        self.other = (rng.random((height, width)) * self.tissue).astype(np.float32)
        self.labels = (rng.integers(0, 3, (height, width)) * self.tissue).astype(np.uint8)
        self.rgb = rng.choice([0, 20, 120, 229, 235, 255], (height, width, 3)).astype(np.uint8)

    def bands(self, heights: list[int]) -> list[Rows]:
        bands, y, pixels = [], 0, Pixels(((self.grid.region, self.rgb),))
        while y < self.grid.height:
            stop = min(self.grid.height, y + heights[len(bands) % len(heights)])
            rows = slice(y, stop)
            extra = {"other": self.other[rows]}
            bands.append(Rows(y, pixels, self.labels[rows], self.uncertainty[rows], self.tissue[rows], extra))
            y = stop
        return bands

    def patch(self, values: NDArray[np.generic], region: GridRegion) -> NDArray[np.generic]:
        return values[region.y : region.y_end, region.x : region.x_end]


@settings(max_examples=40)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    stride=st.sampled_from([4, 8, 16]),
    heights=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_streamed_scores_are_those_of_the_whole_maps(
    width: int, height: int, stride: int, heights: list[int], seed: int
) -> None:
    maps = Maps(width, height, seed)
    patches = PatchGrid(maps.grid, PATCH, stride)
    scores = PatchScores(patches, tumour_label=TUMOUR, full_scale=4.0, extra=["other"])
    for band in maps.bands(heights):
        scores.add(band)
    candidates = scores.candidates("a")
    corners = [(x, y) for y in patches.ys for x in patches.xs]
    expected = [(x, y) for x, y in corners if maps.patch(maps.tissue, GridRegion(x, y, PATCH, PATCH)).any()]
    assert [(c.x, c.y) for c in candidates] == expected
    pixels = PATCH**2
    for candidate in candidates:
        uncertainty = maps.patch(maps.uncertainty, candidate.region)
        assert candidate.score_mean == pytest.approx(uncertainty.astype(np.float64).sum() / pixels, rel=1e-6)
        other = maps.patch(maps.other, candidate.region).astype(np.float64).sum() / pixels
        assert candidate.extra == {"other": pytest.approx(other, rel=1e-6)}
        assert candidate.tissue_fraction == maps.patch(maps.tissue, candidate.region).sum() / pixels
        assert candidate.tumour_fraction == (maps.patch(maps.labels, candidate.region) == TUMOUR).sum() / pixels
        black, white = black_and_white(maps.patch(maps.rgb, candidate.region))
        assert candidate.black_fraction == black.sum() / pixels
        assert candidate.white_fraction == (white.sum() + pixels - white.size) / pixels
        grey = to_uint8(uncertainty, 4.0).astype(int)
        assert candidate.reference_key == 100 * (grey > 0.8 * grey.max()).sum() + grey.sum()


@given(width=st.integers(1, 90), height=st.integers(1, 90), stride=st.sampled_from([4, 8, 16]))
def test_patches_cover_the_grid(width: int, height: int, stride: int) -> None:
    patches = PatchGrid(Grid.over(width, height, SpacingUm(1, 1), 1.0), PATCH, stride)
    assert patches.xs[-1] + PATCH >= width
    assert patches.ys[-1] + PATCH >= height
    assert patches.xs[-1] < width
    assert patches.ys[-1] < height


def test_a_stride_that_does_not_divide_the_patch_is_refused() -> None:
    with pytest.raises(UserError, match="stride of 10"):
        PatchGrid(Grid.over(10, 10, SpacingUm(1, 1), 1.0), 16, 10)


def test_black_and_white_are_the_thresholds_of_8_bit_hsv() -> None:
    rng = np.random.default_rng(0)
    rgb = np.concatenate(
        [rng.integers(0, 256, (2000, 3)), rng.integers(200, 256, (2000, 3)), rng.integers(0, 40, (500, 3))]
    )
    black, white = black_and_white(rgb[None].astype(np.uint8))
    for colour, is_black, is_white in zip(rgb, black[0], white[0], strict=True):
        _, saturation, value = colorsys.rgb_to_hsv(*(colour / 255))
        assert is_black == (round(value * 255) <= 30)
        assert is_white == (round(saturation * 255) <= 30 and round(value * 255) >= 230)
    assert white.any()
    assert black.any()


def test_the_8_bit_map_truncates_and_saturates() -> None:
    assert to_uint8(np.array([0, 0.0156, 0.0158, 2, 4, 9], dtype=np.float32), 4.0).tolist() == [0, 0, 1, 127, 255, 255]
