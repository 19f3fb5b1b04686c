from pathlib import Path

import pytest

from uga.errors import UserError
from uga.training.cases import read_cohort

HEADER = "slide,mask,centre,patient,class\n"


def _cohort(tmp_path: Path, text: str) -> Path:
    for name in ("a.tif", "b.tif", "a_mask.tif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty.tif").touch()
    path = tmp_path / "cohort.csv"
    path.write_text(text, "utf-8")
    return path


def test_reads_typed_cases_relative_to_the_csv(tmp_path):
    cases = read_cohort(_cohort(tmp_path, HEADER + "a.tif,a_mask.tif,2,p1,macro\nb.tif,,,,negative\n"))
    assert [case.slide for case in cases] == [tmp_path / "a.tif", tmp_path / "b.tif"]
    assert (cases[0].mask, cases[0].centre, cases[0].patient) == (tmp_path / "a_mask.tif", "2", "p1")
    assert (cases[1].mask, cases[1].centre, cases[1].patient) == (None, "unknown", "b")


def test_column_names_of_others_are_understood(tmp_path):
    cases = read_cohort(_cohort(tmp_path, "\ufeffSlide,Annotation,Center\na.tif,a_mask.tif,RUMC\n"))
    assert (cases[0].mask, cases[0].centre, cases[0].lesion) == (tmp_path / "a_mask.tif", "RUMC", "unknown")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no slides"),
        ("slide,centre\na.tif,1\n", "no column 'mask'"),
        (HEADER + "c.tif,a_mask.tif,1,p,macro\n", "does not exist"),
        (HEADER + "a.tif,a_mask.tif,1,p,huge\n", "unknown class 'huge'"),
        (HEADER + "a.tif,empty.tif,1,p,macro\n", "missing or empty"),
        (HEADER + "a.tif,,1,p,macro\n", "has no mask"),
        (HEADER + ",a_mask.tif,1,p,macro\n", "names no slide"),
        (HEADER + "a.tif,a_mask.tif,1,p,macro\na.tif,a_mask.tif,1,p,macro\n", "lists the slide 'a' 2 times"),
    ],
)
def test_faults_are_one_sentence_before_anything_starts(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_cohort(_cohort(tmp_path, text))
    assert "cohort.csv" in str(caught.value)
