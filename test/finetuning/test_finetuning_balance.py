from pathlib import Path

import numpy as np
import pytest

from uga.corrections import Correction
from uga.finetuning.balance import LabelBalance, balance_warnings, balances, centre_warnings

LABELS = {"background": 0, "stroma": 1, "tumour": 2}


def correction(before: list[int], after: list[int], centre: str = "c") -> Correction:
    labels, prediction = (np.array([row], np.uint8) for row in (after, before))
    return Correction("p", "s", centre, Path("c.png"), "png", Path("i.png"), labels, prediction, "0" * 64)


def test_pixels_are_counted_over_all_corrections_where_they_are_judged() -> None:
    found = balances([correction([2, 2, 1, 0, 2], [2, 0, 2, 0, 255]), correction([2, 2, 1], [1, 1, 1])], LABELS)
    assert found == {
        "stroma": LabelBalance(judged=7, held=3, added=2, taken=1),
        "tumour": LabelBalance(judged=7, held=2, added=1, taken=3),
    }
    assert [label for label, balance in found.items() if balance.is_one_sided] == ["tumour"]
    (warning,) = balance_warnings(found)
    assert "take tumour away from 43 % of the judged area, and only 29 % of it are tumour" in warning


def test_a_centre_whose_corrections_hold_no_tumour_is_named() -> None:
    found = centre_warnings(
        [
            correction([2, 0], [0, 0], "north"),
            correction([0, 0], [0, 1], "north"),
            correction([2, 0], [0, 0], "south"),
            correction([0, 0], [2, 255], "south"),
            correction([0, 0], [255, 255], "unknown"),
        ],
        LABELS,
        "tumour",
    )
    assert len(found) == 2
    assert found[0].startswith("No correction of centre north holds tumour, so")
    assert found[1].startswith("No correction holds tumour, so")


@pytest.mark.parametrize(
    ("held", "taken", "one_sided"), [(0, 0, False), (0, 5, False), (0, 6, True), (40, 40, False), (40, 41, True)]
)
def test_few_pixels_are_no_reason(held: int, taken: int, one_sided: bool) -> None:
    assert LabelBalance(judged=100, held=held, added=0, taken=taken).is_one_sided is one_sided
