import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uga.ranking.extras import extra_measures, extra_scores, threshold_dice

LABELS = {"background": 0, "tissue": 1, "tumour": 2}


def patch_means(p_f: torch.Tensor, labels: dict[str, int]) -> dict[str, float]:
    return {name: float(measure(p_f).mean()) for name, measure in extra_measures(labels).items()}


@given(low=st.floats(0, 1), share=st.floats(0, 1))
def test_threshold_dice_is_one_less_a_smoothed_dice(low: float, share: float) -> None:
    high = low * share
    found = threshold_dice({"tumour above 0.3": low, "tumour above 0.7": high})
    # Dice of two sets of which one holds the other, 2 h / (l + h), with a tenth of the patch added to both sides.
    assert found == pytest.approx(1 - (2 * high + 0.1) / (low + high + 0.1))
    assert 0 <= found < 1


def test_threshold_dice_of_maps() -> None:
    """Sure of half the patch, unsure of a quarter, sure of no tumour in the last: 1 - 1.1 / 1.35."""
    tumour = torch.tensor([0.99, 0.9, 0.5, 0.01]).expand(5, 4)
    means = patch_means(torch.stack([1 - tumour, tumour], dim=1), {"background": 0, "tumour": 1})
    assert threshold_dice(means) == pytest.approx(0.25 / 1.35)


def test_labels_count_alike_and_the_background_not_at_all() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]).T.expand(5, 3, 2)
    assert threshold_dice(patch_means(p, LABELS)) == pytest.approx((1 / 1.1 + 0) / 2)


def test_scores_leave_out_what_is_only_a_part_of_one() -> None:
    means = patch_means(torch.rand(5, 3, 8, generator=torch.Generator().manual_seed(0)).softmax(1), LABELS)
    scores = extra_scores(means)
    assert set(means) - set(scores) == {
        f"{label} above {threshold}" for label in ("tissue", "tumour") for threshold in (0.3, 0.7)
    }
    assert set(scores) - set(means) == {"threshold-dice"}
    assert extra_scores({"entropy": 0.5}) == {"entropy": 0.5}
