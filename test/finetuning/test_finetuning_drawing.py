from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uga.finetuning.drawing import CorrectionDraw
from uga.finetuning.options import CorrectionNotes


def notes(centre: str, **pixels: int) -> CorrectionNotes:
    return CorrectionNotes(
        black=(0, 0, 0),
        white=(1, 1, 1),
        centre=centre,
        pixels={int(label[1:]): count for label, count in pixels.items()},
    )


def drawn(corrections: dict[str, CorrectionNotes], count: int = 4000) -> Counter[tuple[str, int]]:
    np.random.seed(0)  # noqa: NPY002 - the one that the trainer seeds
    draw = CorrectionDraw(corrections)
    return Counter(draw.draw() for _ in range(count))


def test_centres_and_their_labels_are_drawn_equally_often_and_patches_by_what_they_hold() -> None:
    found = drawn(
        {
            "a": notes("north", _0=99_000, _1=1000),
            "b": notes("north", _0=97_000, _1=3000),
            "c": notes("north", _0=100_000),
            "d": notes("south", _0=5000, _1=95_000),
        }
    )
    shares = {key: count / 4000 for key, count in found.items()}
    assert shares[("a", 1)] == pytest.approx(1 / 16, abs=0.02)
    assert shares[("b", 1)] == pytest.approx(3 / 16, abs=0.02)
    assert ("c", 1) not in shares
    assert sum(shares[(name, 0)] for name in "abc") == pytest.approx(1 / 4, abs=0.03)
    assert shares[("d", 0)] == pytest.approx(1 / 4, abs=0.03)
    assert shares[("d", 1)] == pytest.approx(1 / 4, abs=0.03)


def test_a_slip_of_the_brush_is_not_sought() -> None:
    assert drawn({"a": notes("n", _0=10_000, _1=60), "b": notes("n", _0=10_000, _1=39)}).keys() == {("a", 0), ("b", 0)}
    assert ("b", 1) in drawn({"a": notes("n", _0=10_000, _1=60), "b": notes("n", _0=10_000, _1=40)})


def test_traces_are_better_than_nothing() -> None:
    assert drawn({"a": notes("n", _0=60, _1=90)}).keys() == {("a", 1)}


def test_without_corrections_nothing_can_be_drawn() -> None:
    with pytest.raises(ValueError, match="no corrections"):
        CorrectionDraw({})


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.builds(
            lambda centre, pixels: CorrectionNotes(black=(0, 0, 0), white=(1, 1, 1), centre=centre, pixels=pixels),
            st.sampled_from(["n", "s"]),
            st.dictionaries(st.integers(0, 3), st.integers(1, 10**6), min_size=1),
        ),
        min_size=1,
    )
)
def test_what_is_drawn_holds_the_label(corrections: dict[str, CorrectionNotes]) -> None:
    draw = CorrectionDraw(corrections)
    for _ in range(20):
        name, label = draw.draw()
        assert corrections[name].pixels[label] > 0
