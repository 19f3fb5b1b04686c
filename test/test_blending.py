"""Blended logits: the same sums as over the whole frame, and nothing held that is final or under no window."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uga import blending
from uga.blending import BlendedLogits
from uga.geometry import Grid, SpacingUm
from uga.windows import WindowPlan, gaussian_weight

FOLDS, CLASSES, WINDOW = 2, 3, 32
CPU = torch.device("cpu")


def plan_of(width: int, height: int, overlap: float) -> WindowPlan:
    return WindowPlan.over(Grid.over(width, height, SpacingUm(1, 1), 1.0), (WINDOW, WINDOW), overlap)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(10, 150),
    height=st.integers(10, 130),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    block=st.integers(5, 60),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_blocks_are_the_sums_over_the_whole_frame(
    width: int, height: int, overlap: float, block: int, share: float, seed: int
) -> None:
    plan = plan_of(width, height, overlap)
    frame, weight = plan.frame, gaussian_weight((WINDOW, WINDOW))
    random = torch.Generator().manual_seed(seed)
    sums = torch.zeros((FOLDS, CLASSES, frame.height, frame.width))
    weights = torch.zeros((frame.height, frame.width))
    taken = torch.zeros((FOLDS, CLASSES, frame.height, frame.width))
    times = torch.zeros((frame.height, frame.width), dtype=torch.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blending, "_BLOCK_COLUMNS", block)
        blended = BlendedLogits(plan, FOLDS, CLASSES, CPU)

        def take(row: int, x_end: int) -> None:
            for each in blended.take(row, x_end):
                place = each.region.within(frame)
                times[place] += 1
                taken[:, :, *place] = each.mean()

        for row in range(len(plan.ys)):
            for window in plan.row(row):
                if torch.rand((), generator=random) > share:
                    continue
                logits = torch.randn((FOLDS, CLASSES, WINDOW, WINDOW), generator=random) * weight
                blended.add(row, window, logits, weight)
                sums[:, :, *window.within(frame)] += logits
                weights[window.within(frame)] += weight
                take(row, window.x)
            take(row, frame.x_end)
            # What waits for the next row of windows is no more than the windows of this one reach into it.
            below = range(row + 1, len(plan.ys))
            assert all(key[0] in below for key in blended._blocks)
    assert not blended._blocks
    covered = weights > 0
    assert (times[covered] == 1).all()
    assert times.max() <= 1
    torch.testing.assert_close(taken[:, :, covered], (sums / weights)[:, :, covered], rtol=0, atol=0)


def test_a_block_is_there_from_its_first_window_to_its_last() -> None:
    plan = plan_of(4000, 96, 0.5)
    blended, weight = BlendedLogits(plan, FOLDS, CLASSES, CPU), gaussian_weight((WINDOW, WINDOW))
    logits = torch.ones((FOLDS, CLASSES, WINDOW, WINDOW))
    held = []
    for window in plan.row(0):
        blended.add(0, window, logits, weight)
        list(blended.take(0, window.x))
        held.append(sum(key[0] == 0 for key in blended._blocks))
    assert max(held) <= 2
    assert {key[0] for key in blended._blocks} == {0, 1}


def test_sums_are_used_again_and_rows_that_come_early_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where windows overlap by a little more than half, each reaches a few rows into the band after the next."""
    made = []
    new = blending._Memory._new
    monkeypatch.setattr(blending._Memory, "_new", lambda memory: made.append(memory) or new(memory))
    monkeypatch.setattr(blending, "_BLOCK_COLUMNS", WINDOW)
    plan = plan_of(20 * WINDOW, WINDOW + 8 * 15, 0.5)
    assert {below - above for above, below in itertools.pairwise(plan.ys)} == {15}
    blended, weight = BlendedLogits(plan, FOLDS, CLASSES, CPU), gaussian_weight((WINDOW, WINDOW))
    for row in range(len(plan.ys)):
        for window in plan.row(row):
            blended.add(row, window, torch.ones((FOLDS, CLASSES, WINDOW, WINDOW)) * weight, weight)
            x_end = plan.frame.x_end if window.x_end == plan.frame.x_end else window.x
            for block in blended.take(row, x_end):
                mean = block.mean()
                torch.testing.assert_close(mean, torch.ones_like(mean))
    assert len(made) <= 20 + 3
