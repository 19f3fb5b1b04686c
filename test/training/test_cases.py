import logging
from pathlib import Path

import pytest

from uga.errors import UserError
from uga.training.cases import read_cohort

HEADER = "slide,annotation,centre,patient,class\n"


def _cohort(tmp_path: Path, text: str) -> Path:
    for name in ("a.tif", "b.tif", "a_mask.tif", "a.xml", "a.pdf", "other/a.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty.tif").touch()
    path = tmp_path / "cohort.csv"
    path.write_text(text, "utf-8")
    return path


def test_reads_typed_cases_relative_to_the_csv(tmp_path):
    cases = read_cohort(_cohort(tmp_path, HEADER + "a.tif,a_mask.tif,2,p1,macro\nb.tif,,,,negative\n"))
    assert [case.slide for case in cases] == [tmp_path / "a.tif", tmp_path / "b.tif"]
    assert (cases[0].annotation, cases[0].centre, cases[0].patient) == (tmp_path / "a_mask.tif", "2", "p1")
    assert (cases[1].annotation, cases[1].centre, cases[1].patient) == (None, "unknown", "b")
    assert {case.subset for case in cases} == {"train"}
    assert not cases[0].has_shapes


def test_optional_columns(tmp_path):
    text = "slide,annotation,patient,split,unannotated,tissue\na.tif,a.xml,p,holdout,background,a_mask.tif\n"
    (case,) = read_cohort(_cohort(tmp_path, text))
    assert (case.subset, case.unannotated, case.tissue) == ("holdout", "background", tmp_path / "a_mask.tif")
    assert case.has_shapes


def test_column_and_class_names_of_others_are_understood(tmp_path):
    text = "\ufeffSlide,Mask,Center,Class\na.tif,a_mask.tif,RUMC,Tumor\nb.tif,,RUMC,normal\n"
    cases = read_cohort(_cohort(tmp_path, text))
    assert (cases[0].annotation, cases[0].centre, cases[0].lesion) == (tmp_path / "a_mask.tif", "RUMC", "unknown")
    assert cases[1].lesion == "negative"


@pytest.fixture(autouse=True)
def _our_log_reaches_caplog(monkeypatch):
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)


def test_a_column_that_means_nothing_is_told(tmp_path, caplog):
    read_cohort(_cohort(tmp_path, "slide,annotation,patent\na.tif,a.xml,p\n"))
    assert "'patent'" in caplog.text


def test_slides_of_one_name_in_two_folders_are_two_cases(tmp_path):
    cases = read_cohort(_cohort(tmp_path, HEADER + "a.tif,a.xml,1,,macro\nother/a.tif,a.xml,1,,macro\n"))
    assert [case.id for case in cases] == ["a", "other-a"]
    assert [case.patient for case in cases] == ["a", "other-a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no slides"),
        ("slide,centre\na.tif,1\n", "no column 'annotation'"),
        (HEADER + "c.tif,a_mask.tif,1,p,macro\n", "does not exist"),
        (HEADER + "a.tif,a_mask.tif,1,p,huge\n", "unknown class 'huge'"),
        (HEADER + "a.tif,empty.tif,1,p,macro\n", "missing or empty"),
        (HEADER + "a.tif,a.pdf,1,p,macro\n", "no known kind"),
        (HEADER + "a.tif,,1,p,macro\n", "has no annotation"),
        (HEADER + ",a_mask.tif,1,p,macro\n", "names no slide"),
        (HEADER + "a.tif,a_mask.tif,1,p,macro\na.tif,a.xml,1,p,macro\n", r"a.tif' 2 times; keep one annotation"),
        ("slide,annotation,split\na.tif,a.xml,test\n", "unknown split 'test'; use one of train, holdout"),
        ("slide,annotation,unannotated\na.tif,a.xml,benign\n", "unknown unannotated 'benign'"),
        (
            "slide,annotation,patient,split\na.tif,a.xml,p,train\nb.tif,a.xml,p,holdout\n",
            "patient 'p' both in training and held out",
        ),
        ("slide,annotation,class\na.tif,a.xml,macro,more\n", "Line 2 of .* has more cells than the header"),
    ],
)
def test_faults_are_one_sentence_before_anything_starts(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_cohort(_cohort(tmp_path, text))
    assert "cohort.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_cells_beyond_the_header_are_nothing(tmp_path):
    (case,) = read_cohort(_cohort(tmp_path, "slide,annotation,class\na.tif,a.xml,macro,,\n"))
    assert case.lesion == "macro"


def test_every_fault_is_named(tmp_path, caplog):
    text = HEADER + "a.tif,,1,p,macro\nb.tif,empty.tif,1,p,macro\na.tif,a.xml,1,p,huge\n"
    with pytest.raises(UserError, match="3 faults"):
        read_cohort(_cohort(tmp_path, text))
    assert all(text in caplog.text for text in ("Line 2", "Line 3", "Line 4", "no annotation", "empty", "'huge'"))


def _folder(tmp_path: Path, *names: str) -> Path:
    root = tmp_path / "cohort"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_gives_annotations_by_stem_centres_and_classes(tmp_path):
    root = _folder(
        tmp_path,
        "rumc/s1.tif", "rumc/s1.xml",
        "rumc/macro/s2.svs", "rumc/macro/annotations/s2.geojson",
        "umcu/s3.tif", "umcu/s3_mask.tif", "umcu/masks/s4.tif", "umcu/s4.tif", "umcu/s4_tissue.png",
        "umcu/negative/s5.tif",
        "s6.tif", "s6.json",
        "umcu/s7.tif", "umcu/annotations/s7_mask.tif", "umcu/masks/s8_mask.tif", "umcu/s8.tif",
    )  # fmt: skip
    cases = {case.id: case for case in read_cohort(root)}
    assert {name: case.centre for name, case in cases.items()} == {
        "s1": "rumc", "s2": "rumc", "s3": "umcu", "s4": "umcu", "s5": "umcu", "s6": "unknown",
        "s7": "umcu", "s8": "umcu",
    }  # fmt: skip
    assert {name: case.annotation and case.annotation.relative_to(root).as_posix() for name, case in cases.items()} == {
        "s1": "rumc/s1.xml",
        "s2": "rumc/macro/annotations/s2.geojson",
        "s3": "umcu/s3_mask.tif",
        "s4": "umcu/masks/s4.tif",
        "s5": None,
        "s6": "s6.json",
        "s7": "umcu/annotations/s7_mask.tif",
        "s8": "umcu/masks/s8_mask.tif",
    }
    assert (cases["s2"].lesion, cases["s5"].lesion, cases["s1"].lesion) == ("macro", "negative", "unknown")
    assert cases["s4"].tissue == root / "umcu/s4_tissue.png"
    assert len({case.patient for case in cases.values()}) == 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.tif", "a.xml", "a.geojson"), r"2 annotations \(a.geojson and a.xml\); keep one"),
        (("a.tif", "masks/a.tif", "a_mask.tif"), "2 annotations"),
        (("rumc/a.tif",), "no annotation; add one, or put it below a folder 'negative'"),
        (("a.xml",), "No slide was found"),
    ],
)
def test_faults_of_a_folder(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        read_cohort(_folder(tmp_path, *names))


def test_an_empty_annotation_in_a_folder(tmp_path):
    root = _folder(tmp_path, "a.tif", "a.xml")
    (root / "a.xml").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.xml, which is missing or empty"):
        read_cohort(root)


def test_a_patient_named_like_the_slides_file_is_kept(tmp_path):
    text = "slide,annotation,class,patient,split\na.tif,,negative,a,train\nother/a.tif,,negative,a,{}\n"
    first, second = read_cohort(_cohort(tmp_path, text.format("train")))
    assert first.id != second.id
    assert (first.patient, second.patient) == ("a", "a")
    with pytest.raises(UserError, match="patient 'a' both in training and held out"):
        read_cohort(_cohort(tmp_path, text.format("holdout")))


def test_a_slide_with_mask_in_its_name_is_a_slide(tmp_path):
    folder = _folder(tmp_path, "P1_masked.tif", "P1_masked.geojson", "b.tif", "b_mask.tif")
    assert [case.slide.name for case in read_cohort(folder)] == ["P1_masked.tif", "b.tif"]
