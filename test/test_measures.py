import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uga.measures import (
    Measure,
    class_entropy,
    disagreement,
    entropy,
    exceeds,
    mutual_information,
    soft_cross_entropy,
    variation_ratio,
)


def probabilities(folds: int, classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(4 * torch.randn(folds, classes, 5, 7, generator=generator, dtype=torch.float64), dim=1)


@given(folds=st.integers(2, 6), classes=st.integers(2, 4), seed=st.integers(0, 1000))
def test_soft_cross_entropy_is_entropy_plus_disagreement(folds: int, classes: int, seed: int) -> None:
    p = probabilities(folds, classes, seed)
    assert torch.allclose(soft_cross_entropy(p), entropy(p) + disagreement(p), atol=1e-10)
    assert (mutual_information(p) >= -1e-9).all()


@given(seed=st.integers(0, 1000))
def test_soft_cross_entropy_is_the_authors_code(seed: int) -> None:
    # They add 1e-8 where we clip at it: the same for every probability that is not tiny.
    p = 0.99 * probabilities(5, 3, seed).float() + 0.01 / 3
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    theirs = torch.stack([loss(torch.log(p_f + 1e-8)[None], p.mean(0)[None])[0] for p_f in p]).mean(0)
    assert torch.allclose(soft_cross_entropy(p), theirs, atol=1e-5)


@pytest.mark.parametrize("measure", list(Measure))
def test_agreeing_certain_folds_have_no_uncertainty(measure: Measure) -> None:
    p = torch.zeros(5, 3, 2, 2)
    p[:, 1] = 1
    assert torch.allclose(measure.of(p), torch.zeros(2, 2), atol=1e-5)


def test_values_by_hand() -> None:
    four_to_one = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]])
    assert soft_cross_entropy(four_to_one).item() == pytest.approx(2 * 0.8 * 0.2 * -math.log(1e-8), abs=1e-4)
    assert Measure.VARIANCE.of(four_to_one).item() == pytest.approx(2 * 0.8 * 0.2)
    agree = torch.full((5, 2), 0.5)
    assert entropy(agree).item() == pytest.approx(math.log(2))
    assert disagreement(agree).item() == pytest.approx(0, abs=1e-6)
    assert Measure.MEAN_LOG_SOFTMAX.of(agree).item() == pytest.approx(math.log(2))
    # q is the normalised geometric mean of the folds: here (1/3, 2/3) from odds 1:1 and 1:4.
    p = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    mean_log = np.log([[0.5, 0.5], [0.2, 0.8]]).mean(0)
    assert Measure.MEAN_LOG_SOFTMAX.of(p).item() == pytest.approx(
        -(np.array([1 / 3, 2 / 3]) * mean_log).sum(), abs=1e-6
    )


@pytest.mark.parametrize("measure", list(Measure))
def test_full_scale_bounds_the_spread_of_two_certain_camps(measure: Measure) -> None:
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    value = measure.of(p).item()
    assert math.isfinite(value)
    assert measure is not Measure.VARIANCE or value <= measure.full_scale


@given(folds=st.integers(2, 6), classes=st.integers(2, 4), seed=st.integers(0, 1000))
def test_class_entropies_share_out_the_entropy(folds: int, classes: int, seed: int) -> None:
    p = probabilities(folds, classes, seed)
    parts = torch.stack([class_entropy(p, value) for value in range(classes)])
    assert torch.allclose(parts.sum(0), entropy(p))
    assert torch.equal(parts.argmax(0), p.mean(0).argmax(0))


@given(folds=st.integers(2, 6), classes=st.integers(2, 4), seed=st.integers(0, 1000))
def test_variation_ratio_counts_the_folds_against_the_label(folds: int, classes: int, seed: int) -> None:
    p = probabilities(folds, classes, seed)
    against = np.mean([(p_f.argmax(0) != p.mean(0).argmax(0)).numpy() for p_f in p], axis=0)
    np.testing.assert_allclose(variation_ratio(p).numpy(), against, atol=1e-6)


@given(folds=st.integers(2, 6), classes=st.integers(2, 4), seed=st.integers(0, 1000))
def test_exceeds_segments_the_mean_probability(folds: int, classes: int, seed: int) -> None:
    p = probabilities(folds, classes, seed)
    for value in range(classes):
        low, high = exceeds(p, value, 0.3), exceeds(p, value, 0.7)
        np.testing.assert_array_equal(low.numpy(), (p.mean(0)[value] > 0.3).numpy().astype(np.float32))
        assert bool((high <= low).all())
