from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uga.errors import UserError
from uga.ranking import Candidate
from uga.scores import read_scores, write_scores

NUMBER = st.floats(0, 1e9, allow_nan=False)
CANDIDATE = st.builds(
    Candidate,
    slide_id=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
    centre=st.sampled_from(["", "umcu", 'a,b "c"']),
    x=st.integers(0, 10**6),
    y=st.integers(0, 10**6),
    size=st.just(1024),
    score_mean=NUMBER,
    score_sum=NUMBER,
    tissue_fraction=st.floats(0, 1),
    tumour_fraction=st.floats(0, 1),
    black_fraction=st.floats(0, 1),
    white_fraction=st.floats(0, 1),
    reference_key=NUMBER,
)
EXTRA = st.fixed_dictionaries({"entropy": NUMBER, "entropy of tumour, solid": NUMBER})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(candidates=st.lists(CANDIDATE, max_size=5))
def test_scores_come_back_exactly(tmp_path: Path, candidates: list[Candidate]) -> None:
    write_scores(tmp_path, candidates)
    assert read_scores(tmp_path) == candidates


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n", "\x00"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "patch-scores.csv").write_text(text)
    with pytest.raises(UserError, match="patch-scores"):
        read_scores(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(candidates=st.lists(st.builds(lambda c, extra: replace(c, extra=extra), CANDIDATE, EXTRA), max_size=5))
def test_extra_scores_come_back_exactly(tmp_path: Path, candidates: list[Candidate]) -> None:
    write_scores(tmp_path, candidates)
    assert read_scores(tmp_path) == candidates


def test_a_column_that_is_no_extra_score_is_refused(tmp_path: Path) -> None:
    write_scores(tmp_path, [])
    table = tmp_path / "patch-scores.csv"
    table.write_text(table.read_text().replace("reference_key", "reference_key,anything"))
    with pytest.raises(UserError, match="patch-scores"):
        read_scores(tmp_path)
