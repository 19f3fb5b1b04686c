import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from uga.geometry import Grid, SpacingUm
from uga.windows import WindowPlan, gaussian_weight, window_starts


@given(window=st.integers(8, 600), extra=st.integers(0, 5000), step=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_starts_are_those_of_nnunet(window: int, extra: int, step: float) -> None:
    expected = compute_steps_for_sliding_window((window + extra,), (window,), step)[0]
    assert window_starts(window + extra, window, step) == expected


@given(width=st.integers(1, 900), height=st.integers(1, 900), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_windows_cover_the_grid_and_final_rows_partition_the_frame(width: int, height: int, overlap: float) -> None:
    plan = WindowPlan.over(Grid.over(width, height, SpacingUm(1, 1), 1.0), (96, 128), overlap)
    covered = np.zeros((plan.frame.height, plan.frame.width), dtype=bool)
    rows: list[int] = []
    for index in range(len(plan.ys)):
        for window in plan.row(index):
            y, x = window.y - plan.frame.y, window.x - plan.frame.x
            assert y >= 0
            assert x >= 0
            assert y + 96 <= plan.frame.height
            assert x + 128 <= plan.frame.width
            covered[y : y + 96, x : x + 128] = True
        start, end = plan.final_rows(index)
        rows.extend(range(start, end))
        assert index == len(plan.ys) - 1 or all(later >= end for later in plan.ys[index + 1 :])
    assert covered.all()
    assert rows == list(range(plan.frame.y, plan.frame.y_end))
    assert plan.frame.intersection(Grid.over(width, height, SpacingUm(1, 1), 1.0).region) is not None


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_a_small_slide_is_padded_as_nnunet_pads(missing: int) -> None:
    from acvl_utils.cropping_and_padding.padding import pad_nd_image  # noqa: PLC0415

    _, slicer = pad_nd_image(torch.ones(1, 64 - missing, 64), (64, 64), "constant", {"value": 0}, True, None)
    plan = WindowPlan.over(Grid.over(64, 64 - missing, SpacingUm(1, 1), 1.0), (64, 64), 0.5)
    assert (-plan.frame.y, plan.frame.height) == (slicer[1].start, 64)


@pytest.mark.parametrize("window", [(512, 512), (256, 384), (7, 9)])
def test_weight_is_that_of_nnunet(window: tuple[int, int]) -> None:
    expected = compute_gaussian(window, 1.0 / 8, 1, torch.float32, torch.device("cpu"))
    assert torch.allclose(gaussian_weight(window), expected, rtol=1e-6)
    assert gaussian_weight(window).min() > 0
