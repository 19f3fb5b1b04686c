"""``uga evaluate`` as a user runs it: on finished virtual slides, and on what can go wrong."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from finished_helpers import MODEL, candidate, tiles, write_finished, write_reference
from PIL import Image

from uga.cli.console import execute
from uga.cli.main import app
from uga.evaluation.records import Evaluation
from uga.output.finished import finished_slides
from uga.scores import read_scores
from uga.slide import open_slide
from uga.tissue import detect_tissue
from uga.virtual.slide import make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

LABELS = "background=0 tissue=1 tumour=2"


def uga(*arguments: object) -> int:
    return execute(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Three small virtual slides of two patients at two centres, segmented by a random ensemble."""
    root = tmp_path_factory.mktemp("virtual")
    small = {"width_um": 620, "height_um": 560, "node_um": 420, "dust": 0}
    make_cohort(
        root / "slides",
        [
            SlideSpec(seed=5, centre_id=1, lesion=LesionClass.MICRO, patient="p1", **small),
            SlideSpec(seed=5, centre_id=2, lesion=LesionClass.MICRO, patient="p1", **small),
            SlideSpec(seed=6, centre_id=2, patient="p2", **small),
        ],
    )
    arguments = ("--input", root / "slides", "--output", root / "out", "--model", tiny_model, "--patch", 256)
    assert uga("infer", *arguments, "--stride", 128, "--top", 1) == 0
    return root


def evaluation_of(folder: Path) -> Evaluation:
    return Evaluation.model_validate_json((folder / "evaluation.json").read_bytes())


def test_virtual_slides_from_end_to_end(virtual, tmp_path, capsys):
    cohort = virtual / "slides" / "cohort.csv"
    arguments = ("evaluate", virtual / "out", "--reference", cohort, "--labels", LABELS, "--resamples", 100)
    assert uga(*arguments, "--output", tmp_path / "one", "--home", 1) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1] == f"Open {tmp_path / 'one' / 'evaluation.html'}"
    assert "(3 of 3): tissue Dice" in said.out

    evaluation = evaluation_of(tmp_path / "one")
    assert evaluation.labels == ("background", "tissue", "tumour")
    assert (evaluation.centres, evaluation.lesions) == (["1", "2"], ["negative", "micro"])
    by_hand = dict.fromkeys(("tp", "fp", "fn"), 0)
    pixels = errors = 0
    for one in finished_slides([virtual / "out"]):
        predicted = tifffile.imread(one.segmentation, level=0)
        reference = tifffile.imread(virtual / "slides" / "masks" / one.record.file, level=0)
        inside, there = predicted == 2, reference == 2
        for name, count in (("tp", inside & there), ("fp", inside & ~there), ("fn", there & ~inside)):
            by_hand[name] += int(count.sum())
        with open_slide(virtual / "slides" / one.record.file) as slide:
            grid = slide.grid(1.0)
            tissue = detect_tissue(slide, grid).expand(grid.region)
        pixels += int(tissue.sum())
        errors += int((predicted != reference)[tissue].sum())
    whole = evaluation.group("tumour")
    assert (whole.true_positive, whole.false_positive, whole.false_negative) == tuple(by_hand.values())
    assert whole.patients == 2
    certain = evaluation.uncertainty_group()
    assert certain.pixels == pixels
    assert certain.error_rate == pytest.approx(errors / pixels)
    assert certain.patches > 3
    assert evaluation.uncertainty_group("2").shift_auroc is not None

    rows = list(csv.DictReader((tmp_path / "one" / "patches.csv").open()))
    scores = {(c.x, c.y): c.score_mean for c in read_scores(virtual / "out" / Path(rows[0]["slide"]).stem)}
    own = [row for row in rows if row["slide"] == rows[0]["slide"] and row["label"] == "tumour"]
    assert {(int(row["x"]), int(row["y"])): float(row["score_mean"]) for row in own} == scores
    picture = np.asarray(Image.open(tmp_path / "one" / "figures" / "centres-tumour.png"))
    assert picture.std() > 10

    assert uga(*arguments, "--output", tmp_path / "two", "--home", 1) == 0
    for name in ("evaluation.json", "slides.csv", "patches.csv", "evaluation.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_label_that_no_reference_holds_is_told(virtual, tmp_path, capsys):
    arguments = ("evaluate", virtual / "out", "--reference", virtual / "slides" / "cohort.csv", "--resamples", 100)
    assert uga(*arguments, "--output", tmp_path, "--labels", "background=0,1,2 tissue=3 tumour=4") == 0
    assert "No reference holds tumour; does --labels (background=0,1,2 tissue=3 tumour=4)" in capsys.readouterr().err


def test_a_slide_that_only_has_the_name_is_not_taken_for_the_segmented_one(virtual, tmp_path, capsys):
    slides = tmp_path / "slides"
    shutil.copytree(virtual / "slides", slides)
    first, second, _ = sorted(path.name for path in slides.glob("*.tif"))
    shutil.copyfile(slides / second, slides / first)
    arguments = ("evaluate", virtual / "out", "--reference", slides / "cohort.csv", "--labels", LABELS)
    assert uga(*arguments, "--output", tmp_path / "eval", "--resamples", 100, "--no-outlines") == 1
    err = capsys.readouterr().err.splitlines()
    assert f"{slides / first} is not the slide that was segmented" in err[0]
    assert err[-1].startswith("1 of 3 slides could not be evaluated and are in no figure;")
    evaluation = evaluation_of(tmp_path / "eval")
    assert [one.slide for one in evaluation.failures] == [first]
    assert evaluation.uncertainty_group().slides == 2
    assert first in (tmp_path / "eval" / "evaluation.html").read_text()
    assert uga(*arguments, "--output", tmp_path / "eval", "--resamples", 100, "--tissue", "patches") == 0


@pytest.fixture
def made_up(tmp_path):
    """A finished slide, its reference and a cohort that names them; the slide itself is empty."""
    predicted, reference = np.zeros((96, 128), np.uint8), np.zeros((96, 128), np.uint8)
    predicted[10:40, 10:40], reference[10:40, 20:50] = 1, 2
    write_finished(tmp_path / "out", "s", predicted, tiles("s", predicted))
    write_reference(tmp_path / "masks" / "s.tif", reference)
    (tmp_path / "s.tif").touch()
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("slide,mask,centre,class\ns.tif,masks/s.tif,A,macro\n")
    return ("evaluate", tmp_path / "out", "--reference", cohort, "--output", tmp_path / "eval", "--resamples", 100)


def test_maps_alone_are_enough_when_asked(made_up, tmp_path, capsys):
    assert uga(*made_up, "--tissue", "patches") == 0
    evaluation = json.loads((tmp_path / "eval" / "evaluation.json").read_text())
    assert evaluation["model"]["name"] == MODEL.name
    assert evaluation["settings"]["tissue"] == "patches"
    assert evaluation["groups"][0]["dice"] == pytest.approx(2 / 3)
    assert "| A | 1 | 0.667 | one patient only |" in capsys.readouterr().out


def test_the_only_slide_that_fails_is_told_as_the_error_it_is(made_up, tmp_path, capsys):
    assert uga(*made_up) == 1
    assert str(tmp_path / "s.tif") in capsys.readouterr().err.splitlines()[-1]
    assert uga(*made_up, "--tissue", "patches", "--labels", "background=0 tumour=3") == 2
    assert "holds the values [2]" in capsys.readouterr().err
    assert not (tmp_path / "eval" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--unannotated", "perhaps"), "'perhaps' is not one of 'ignore', 'background'"),
        (("--empty", "zero"), "'zero' is not one of 'exclude', 'one', 'smoothed'"),
        (("--home", "Mars"), "is of the centre 'Mars'; --home must name one of A."),
        (("--confidence", "95"), "less than or equal to 0.999"),
        (("--reference", "nowhere.csv"), "nowhere.csv cannot be read"),
    ],
)
def test_requests_that_make_no_sense_are_refused_before_any_work(made_up, tmp_path, capsys, arguments, sentence):
    assert uga(*made_up, *arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""
    assert not (tmp_path / "eval" / "evaluation.json").exists()


def test_an_output_that_is_a_file_is_named(made_up, tmp_path, capsys):
    (tmp_path / "eval").write_text("notes")
    assert uga(*made_up) == 2
    assert f"The folder {tmp_path / 'eval'} cannot be written (File exists)" in capsys.readouterr().err


def test_a_run_whose_list_is_gone_is_named(made_up, tmp_path, capsys):
    (tmp_path / "out" / "ranked-patches.json").write_text("{}")
    assert uga(*made_up, "--tissue", "patches") == 2
    assert (
        "ranked-patches.json cannot be read as a list of ranked patches; run the slide again."
        in capsys.readouterr().err
    )


def test_the_tissue_mask_of_the_run_must_be_at_hand(virtual, tmp_path, capsys):
    slides, out = tmp_path / "slides", tmp_path / "out"
    shutil.copytree(virtual / "slides", slides)
    shutil.copytree(virtual / "out", out)
    manifest = next(out.glob("*/manifest.json"))
    content = json.loads(manifest.read_text())
    content["options"]["tissue_mask_sha256"] = "1" * 64
    manifest.write_text(json.dumps(content))
    arguments = ("evaluate", manifest.parent, "--reference", slides / "cohort.csv", "--labels", LABELS)
    assert uga(*arguments, "--output", tmp_path / "eval") == 2
    assert "with a tissue mask that the cohort does not name" in capsys.readouterr().err


def test_help_teaches_without_loading_torch(capsys):
    assert uga("evaluate", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("AURC", "evaluation.html", "--empty", "--home", "--tolerance", "Exit codes"):
        assert word in text


def test_a_white_patch_counts_in_the_table_but_not_in_figures(tmp_path):
    labels = np.ones((64, 128), np.uint8)
    patches = [candidate("s", 0.2), candidate("s", 0.9, white=0.9, x=64)]
    write_finished(tmp_path / "out", "s", labels, patches)
    write_reference(tmp_path / "masks" / "s.tif", labels * 2)
    (tmp_path / "s.tif").touch()
    (tmp_path / "cohort.csv").write_text("slide,mask,centre,class\ns.tif,masks/s.tif,A,macro\n")
    arguments = ("--reference", tmp_path / "cohort.csv", "--output", tmp_path / "eval", "--tissue", "patches")
    assert uga("evaluate", tmp_path / "out", *arguments, "--resamples", 100) == 0
    rows = list(csv.DictReader((tmp_path / "eval" / "patches.csv").open()))
    assert [row["ranked"] for row in rows] == ["1", "0"]
    assert evaluation_of(tmp_path / "eval").group("tumour").patch_score_mean == pytest.approx(0.2)
