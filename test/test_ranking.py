import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uga.errors import UserError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.inference import Band
from uga.ranking import (
    Candidate,
    Exclusion,
    PatchGrid,
    PatchScores,
    Scope,
    Strategy,
    black_and_white,
    order,
    rank,
    select,
    to_uint8,
)

PATCH = 16
TUMOUR = 2


def make_candidate(**changes: object) -> Candidate:
    base = Candidate(
        slide_id="a", centre="", x=0, y=0, size=PATCH, score_mean=1.0, score_sum=256.0, tissue_fraction=1.0,
        tumour_fraction=0.0, black_fraction=0.0, white_fraction=0.0, reference_key=1.0,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


class Maps:
    """Random maps of a small slide, and the score of a patch the slow way."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.grid = Grid.over(width, height, SpacingUm(1, 1), 1.0)
        self.tissue = rng.random((height, width)) < 0.5
        self.uncertainty = (rng.random((height, width)) * 5 * self.tissue).astype(np.float32)
        self.labels = (rng.integers(0, 3, (height, width)) * self.tissue).astype(np.uint8)
        self.rgb = rng.choice([0, 20, 120, 229, 235, 255], (height, width, 3)).astype(np.uint8)

    def bands(self, heights: list[int]) -> list[Band]:
        bands, y = [], 0
        while y < self.grid.height:
            stop = min(self.grid.height, y + heights[len(bands) % len(heights)])
            rows = slice(y, stop)
            bands.append(Band(y, self.rgb[rows], self.labels[rows], self.uncertainty[rows], self.tissue[rows]))
            y = stop
        return bands

    def patch(self, values: NDArray[np.generic], region: GridRegion) -> NDArray[np.generic]:
        return values[region.y : region.y_end, region.x : region.x_end]


@settings(deadline=None, max_examples=40)
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
    scores = PatchScores(patches, tumour_label=TUMOUR, full_scale=4.0)
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


@given(
    corners=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0, 4)), max_size=40),
    top=st.integers(0, 10),
)
def test_selection_is_greedy_and_never_overlaps(corners: list[tuple[int, int, float]], top: int) -> None:
    candidates = [make_candidate(x=x, y=y, score_mean=score) for x, y, score in corners]
    ordered = order(candidates, Strategy.MEAN)
    chosen = select(ordered, top=top)
    assert len(chosen) <= top
    for i, a in enumerate(chosen):
        assert all(a.region.intersection(b.region) is None for b in chosen[:i])
    if len(chosen) < top:
        for left_out in ordered:
            assert left_out in chosen or any(left_out.region.intersection(c.region) is not None for c in chosen)
    assert [c.score_mean for c in chosen] == sorted((c.score_mean for c in chosen), reverse=True)


def test_the_same_place_on_two_slides_does_not_overlap() -> None:
    assert len(select([make_candidate(), make_candidate(slide_id="b")], top=5)) == 2


@pytest.mark.parametrize(
    ("black", "white", "tumour", "paper", "reference"),
    [
        (0.70, 0.00, 0.0, False, True),
        (0.71, 0.00, 0.5, True, True),
        (0.00, 0.70, 0.0, False, True),
        (0.00, 0.70, 0.1, False, False),
        (0.00, 0.71, 0.1, True, False),
        (0.40, 0.30, 0.0, False, False),
    ],
)
def test_exclusion(black: float, white: float, tumour: float, paper: bool, reference: bool) -> None:
    candidate = make_candidate(black_fraction=black, white_fraction=white, tumour_fraction=tumour)
    assert Exclusion.PAPER.excludes(candidate) is paper
    assert Exclusion.REFERENCE.excludes(candidate) is reference
    assert not Exclusion.NONE.excludes(candidate)


def test_keys_order_differently() -> None:
    flat = make_candidate(x=100, score_mean=0.1, score_sum=3, reference_key=9)
    high = make_candidate(x=200, score_mean=0.9, score_sum=2, reference_key=1)
    assert order([flat, high], Strategy.MEAN) == [high, flat]
    assert order([flat, high], Strategy.SUM) == [flat, high]
    assert order([flat, high], Strategy.REFERENCE) == [flat, high]


def test_scopes_take_the_top_of_each_part() -> None:
    candidates = [
        make_candidate(slide_id=f"{centre}{slide}", centre=centre, x=PATCH * i, score_mean=score + i / 10)
        for centre, score in (("A", 2.0), ("B", 1.0))
        for slide in range(2)
        for i in range(3)
    ]
    assert {c.centre for c in rank(candidates, top=4, scope=Scope.COHORT)} == {"A"}
    by_centre = rank(candidates, top=2, scope=Scope.CENTRE)
    assert [c.centre for c in by_centre] == ["A", "A", "B", "B"]
    by_slide = rank(candidates, top=1, scope=Scope.SLIDE)
    assert [c.slide_id for c in by_slide] == ["A0", "A1", "B0", "B1"]
    assert all(c.x == 2 * PATCH for c in by_slide)


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.FOREGROUND_RANDOM])
def test_random_baselines_are_seeded_and_independent_of_input_order(strategy: Strategy) -> None:
    candidates = [make_candidate(x=PATCH * i, tumour_fraction=float(i < 5)) for i in range(60)]
    once = order(candidates, strategy, seed=3)
    assert once == order(candidates[::-1], strategy, seed=3)
    assert once != order(candidates, strategy, seed=4)
    assert sorted(c.x for c in once) == [c.x for c in candidates]


def test_foreground_random_spends_two_thirds_on_tumour() -> None:
    candidates = [make_candidate(x=PATCH * i, tumour_fraction=float(i % 50 == 0)) for i in range(2000)]
    tumour = [c.tumour_fraction > 0 for c in order(candidates, Strategy.FOREGROUND_RANDOM, seed=1)]
    assert 0.6 <= np.mean(tumour[:45]) <= 0.75
    assert np.mean([c.tumour_fraction > 0 for c in order(candidates, Strategy.RANDOM, seed=1)][:200]) < 0.1
