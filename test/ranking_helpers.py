"""Candidates of slides that do not exist."""

from dataclasses import replace

from hypothesis import strategies as st

from uga.ranking import Candidate

PATCH = 16
LABELS = {"background": 0, "tumour": 1}


def make_candidate(**changes: object) -> Candidate:
    base = Candidate(
        slide_id="a", centre="", x=0, y=0, size=PATCH, score_mean=1.0, score_sum=256.0, tissue_fraction=1.0,
        tumour_fraction=0.0, black_fraction=0.0, white_fraction=0.0, reference_key=1.0,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def with_extra(candidate: Candidate, entropy: float, tumour: float) -> Candidate:
    """The same with the extra scores of a model with the label tumour."""
    extra = {"entropy": entropy, "disagreement": entropy / 3, "mutual-information": entropy / 2}
    extra |= {"variation-ratio": entropy / 4, "entropy of tumour": tumour}
    return replace(candidate, extra={**extra, "tumour above 0.3": entropy, "tumour above 0.7": 0.0})


@st.composite
def pools(draw: st.DrawFn) -> list[Candidate]:
    """Candidates of a few slides of two centres on a grid finer than the patches, some black, some overlapping."""
    places = st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 8))
    found = []
    for slide, x, y in draw(st.lists(places, unique=True, max_size=40)):
        score = draw(st.floats(0, 2))
        candidate = make_candidate(
            slide_id=f"s{slide}",
            centre=f"c{slide % 2}",
            x=x * PATCH // 2,
            y=y * PATCH // 2,
            score_mean=score,
            score_sum=score * PATCH**2,
            tumour_fraction=draw(st.sampled_from([0.0, 0.1])),
            black_fraction=draw(st.sampled_from([0.0, 0.9])),
            reference_key=draw(st.floats(0, 9)),
        )
        found.append(with_extra(candidate, score / 2, draw(st.floats(0, 1))))
    return found
