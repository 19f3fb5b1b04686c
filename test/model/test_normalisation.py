"""Normalisation and its streamed statistics against nnU-Net's classes on the whole image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.normalization import default_normalization_schemes as nnunet

from uga.errors import ModelError
from uga.model.normalisation import Normalisation, StatisticsAccumulator

PROPERTIES = {"mean": 141.5, "std": 47.25, "percentile_00_5": 20.5, "percentile_99_5": 239.0}
INTENSITIES = {str(channel): PROPERTIES for channel in range(3)}
SCHEMES = [
    "ZScoreNormalization",
    "RGBTo01Normalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "CTNormalization",
]


def normalisation(*schemes):
    return Normalisation.from_plans(schemes, [False] * 3, INTENSITIES, Path("plans.json"))


def statistics_of(rgb):
    accumulator = StatisticsAccumulator()
    accumulator.add(rgb)
    return accumulator.result()


def by_nnunet(scheme, channel):
    return getattr(nnunet, scheme)(use_mask_for_norm=False, intensityproperties=PROPERTIES).run(
        channel.astype(np.float32), None
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["noise", "dark", "constant"])
def test_equals_nnunets_class(scheme, kind):
    rng = np.random.default_rng(1)
    rgb = {
        "noise": rng.integers(0, 256, (37, 53, 3), dtype=np.uint8),
        "dark": rng.integers(7, 12, (37, 53, 3), dtype=np.uint8),
        "constant": np.full((37, 53, 3), 200, np.uint8),
    }[kind]
    before = rgb.copy()
    found = normalisation(scheme, scheme, scheme).apply(rgb, statistics_of(rgb))
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    for channel in range(3):
        np.testing.assert_allclose(found[channel].numpy(), by_nnunet(scheme, rgb[..., channel]), rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(rgb, before)


def test_rgb_to_01_is_bit_exact():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found = normalisation(*["RGBTo01Normalization"] * 3).apply(rgb)
    np.testing.assert_array_equal(found[1].numpy(), by_nnunet("RGBTo01Normalization", rgb[..., 1]))


def test_each_channel_has_its_own_scheme_and_statistics():
    rgb = np.random.default_rng(2).integers(0, 200, (20, 20, 3), dtype=np.uint8)
    rgb[..., 2] //= 4
    schemes = ("ZScoreNormalization", "RGBTo01Normalization", "RescaleTo01Normalization")
    found = normalisation(*schemes).apply(rgb, statistics_of(rgb))
    for channel, scheme in enumerate(schemes):
        np.testing.assert_allclose(found[channel].numpy(), by_nnunet(scheme, rgb[..., channel]), rtol=2e-5, atol=2e-5)


def test_a_region_is_normalised_as_part_of_the_whole():
    rgb = np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    zscore, statistics = normalisation(*["ZScoreNormalization"] * 3), statistics_of(rgb)
    whole = zscore.apply(rgb, statistics)
    assert torch.equal(zscore.apply(rgb[10:30, 5:25], statistics), whole[:, 10:30, 5:25])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 39), max_size=4), masked=st.booleans())
def test_statistics_do_not_depend_on_the_tiles(seed, cuts, masked):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (40, 11, 3), dtype=np.uint8)
    mask = rng.random((40, 11)) < 0.5 if masked else np.ones((40, 11), bool)
    mask[0, 0] = True
    tiled = StatisticsAccumulator()
    edges = [0, *sorted(set(cuts)), 40]
    for start, end in reversed(list(itertools.pairwise(edges))):
        tiled.add(rgb[start:end], mask[start:end])
    pixels = rgb[mask].astype(np.float64)
    found = tiled.result()
    assert tiled.pixels == len(pixels)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-9, atol=1e-9)
    assert found.min == tuple(pixels.min(0))
    assert found.max == tuple(pixels.max(0))


def test_needs_statistics():
    assert normalisation("RGBTo01Normalization", "RGBTo01Normalization", "ZScoreNormalization").needs_statistics
    assert normalisation(*["RescaleTo01Normalization"] * 3).needs_statistics
    assert not normalisation("RGBTo01Normalization", "NoNormalization", "CTNormalization").needs_statistics
    with pytest.raises(ValueError, match="statistics"):
        normalisation(*["ZScoreNormalization"] * 3).apply(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="no pixel"):
        StatisticsAccumulator().result()
    with pytest.raises(ValueError, match="uint8"):
        StatisticsAccumulator().add(np.zeros((2, 2, 4), np.uint8))


@pytest.mark.parametrize(
    ("schemes", "masks", "intensities", "words"),
    [
        (["ZScoreNormalization"], [False], INTENSITIES, "1 image channel"),
        (["HistogramNormalization"] * 3, [False] * 3, INTENSITIES, "unknown normalisation"),
        (["ZScoreNormalization"] * 3, [False, True, False], INTENSITIES, "mask"),
        (["CTNormalization"] * 3, [False] * 3, {"0": PROPERTIES}, "intensity properties"),
    ],
)
def test_what_cannot_be_done_is_refused(schemes, masks, intensities, words):
    with pytest.raises(ModelError, match=words) as caught:
        Normalisation.from_plans(schemes, masks, intensities, Path("plans.json"))
    assert "plans.json" in str(caught.value)
