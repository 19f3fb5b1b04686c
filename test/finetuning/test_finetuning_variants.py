import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uga.finetuning.variants import STAIN_SHIFT, UNCHANGED, Variant, draw_variants

SEEDS = st.tuples(st.integers(0, 1000), st.integers(0, 9))


def image(size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1


@settings(max_examples=30)
@given(count=st.integers(1, 120), seed=SEEDS)
def test_as_many_variants_as_asked_for_and_the_first_is_the_correction_itself(count, seed):
    variants = draw_variants("c", count, seed=seed, square=True)
    assert len(variants) == count == len(set(variants))
    assert variants[0] == UNCHANGED
    assert variants == draw_variants("c", count, seed=seed, square=True)


def test_all_eight_places_occur_and_turns_only_where_crops_are_square():
    square = draw_variants("c", 100, seed=(0,), square=True)
    assert len({(v.turns, v.mirrored) for v in square}) == 8
    assert {v.turns for v in draw_variants("c", 100, seed=(0,), square=False)} == {0, 2}


def test_folds_and_corrections_have_variants_of_their_own():
    sets = {draw_variants(n, 10, seed=(s, f), square=True)[1:] for n in "ab" for s in (0, 1) for f in (0, 1)}
    assert len(sets) == 8


@settings(max_examples=30)
@given(seed=SEEDS, number=st.integers(0, 15))
def test_labels_go_where_the_tissue_goes(seed, number):
    variant = draw_variants("c", 16, seed=seed, square=True)[number]
    tissue = image()
    label = (tissue[:1] > 0.5).to(torch.int16)
    assert torch.equal(variant.place(label), (variant.place(tissue)[:1] > 0.5).to(torch.int16))


def test_the_eight_places_are_eight_different_pictures():
    tissue = image()
    placed = [Variant(turns=t, mirrored=m).place(tissue) for t in range(4) for m in (False, True)]
    assert len({p.contiguous().numpy().tobytes() for p in placed}) == 8


@settings(max_examples=20)
@given(seed=SEEDS)
def test_a_crop_of_a_variant_is_the_variant_of_the_crop(seed):
    tissue = image(16)
    for variant in draw_variants("c", 5, seed=seed, square=True):
        coloured = variant.colour(tissue)
        torch.testing.assert_close(coloured[:, 3:9, 4:12], variant.colour(tissue[:, 3:9, 4:12]))
        assert coloured.min() >= 0
        assert coloured.max() <= 1


def test_hue_turns_colours_and_leaves_grey_and_brightness():
    grey = torch.full((3, 2, 2), 0.5)
    torch.testing.assert_close(Variant(hue=10.0).colour(grey), grey)
    tissue = image()
    turned = Variant(hue=10.0).colour(tissue)
    torch.testing.assert_close(turned.sum(0), tissue.sum(0), atol=0.02, rtol=0)
    assert not torch.allclose(turned, tissue, atol=0.01)
    red = torch.tensor([0.8, 0.2, 0.2])[:, None, None]
    torch.testing.assert_close(Variant(hue=120.0).colour(red), torch.tensor([0.2, 0.8, 0.2])[:, None, None])


def test_glass_stays_bright():
    glass = torch.full((3, 4, 4), 0.95)
    for variant in draw_variants("c", 100, seed=(0,), square=True):
        assert variant.colour(glass).min() > 0.95 - 14 * STAIN_SHIFT * 2


@pytest.mark.parametrize("stain", [0, 1, 2])
def test_more_of_a_stain_is_darker(stain):
    factor = tuple(1.05 if i == stain else 1.0 for i in range(3))
    purple = torch.tensor([0.45, 0.25, 0.55])[:, None, None]
    shifted = Variant(stain_factor=factor).colour(purple)
    assert not torch.equal(shifted, purple)
    assert (shifted - purple).abs().max() < 0.1
