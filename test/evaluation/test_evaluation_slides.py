import csv
import json

import numpy as np
import pytest
from finished_helpers import MODEL, candidate, write_finished, write_reference

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import UserError
from uga.evaluation.slides import evaluate_slides
from uga.evaluation.tables import Evaluation, group_slides, markdown_table
from uga.training.cases import Case
from uga.training.labels import LabelMapping

MAPPING = LabelMapping.parse("background=0,1 tumour=2 ignore=7")


def case(tmp_path, name, reference, centre="A", lesion="macro"):
    annotation = None if reference is None else write_reference(tmp_path / "masks" / f"{name}.tif", reference)
    return Case(name, tmp_path / f"{name}.tif", annotation, centre, name, lesion)


@pytest.fixture
def tall():
    """Predicted and reference maps taller than a band: 300 px agree, 20 are false, 100 missed, 50 not judged."""
    predicted, reference = np.zeros((1300, 200), np.uint8), np.zeros((1300, 200), np.uint8)
    predicted[505:520, 10:30], reference[505:520, 10:30] = 1, 2
    predicted[1200:1201, 0:20] = 1
    reference[1290:1300, 190:200] = 2
    predicted[0:5, 0:10], reference[0:5, 0:10] = 1, 7
    return predicted, reference


def test_counts_run_across_bands_and_leave_out_what_is_not_judged(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [candidate("s", 0.25), candidate("s", 9.0, white=0.8)])
    (one,) = evaluate_slides([tmp_path / "out"], [case(tmp_path, "s", tall[1])], MAPPING)
    agreement = one.labels["tumour"]
    assert (agreement.true_positive, agreement.false_positive, agreement.false_negative) == (300, 20, 100)
    assert one.patch_scores == (0.25,), "white patches are not ranked, so they do not count"


def test_groups_pool_pixels_and_say_nothing_where_there_is_nothing(tmp_path):
    full, none = np.ones((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    write_finished(tmp_path / "out" / "a", "a", full, [candidate("a", 0.1)])
    write_finished(tmp_path / "out" / "b", "b", full, [candidate("b", 0.3), candidate("b", 0.5)])
    write_finished(tmp_path / "out" / "c", "c", none, [])
    cases = [
        case(tmp_path, "a", full * 2),
        case(tmp_path, "b", None, lesion="negative"),
        case(tmp_path, "c", none, centre="B", lesion="negative"),
    ]
    groups = group_slides(evaluate_slides([tmp_path / "out"], cases, MAPPING))
    evaluation = Evaluation(model="m", model_sha256="0" * 64, measure="u", groups=groups)
    home = evaluation.group("tumour", "A")
    assert (home.slides, home.dice, home.dice_mean) == (2, pytest.approx(2 / 3), pytest.approx(0.5))
    assert home.patch_score_mean == pytest.approx(0.3)
    away = evaluation.group("tumour", "B")
    assert (away.dice, away.dice_mean, away.patch_score_mean) == (None, None, None)
    assert evaluation.group("tumour", "B", "macro") is None
    assert evaluation.group("tumour", None, "negative").false_positive == 64 * 64
    table = markdown_table(evaluation, "tumour")
    assert "| A | 2 | 0.667 | 4,096 px false | 1.000 | 3 | 0.300 |" in table


def test_a_slide_without_reference_is_named(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [])
    with pytest.raises(UserError, match=r"The slide s\.tif .* has no reference"):
        evaluate_slides([tmp_path / "out"], [case(tmp_path, "t", tall[1])], MAPPING)


def test_a_model_with_more_labels_than_the_mapping_is_refused(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0] * 2, [])
    with pytest.raises(UserError, match="holds the label 2"):
        evaluate_slides([tmp_path / "out"], [case(tmp_path, "s", tall[1])], MAPPING)


def test_the_command_writes_what_it_says(tmp_path, tall, capsys):
    write_finished(tmp_path / "out", "s", tall[0], [candidate("s", 0.25)])
    write_reference(tmp_path / "masks" / "s.tif", tall[1])
    (tmp_path / "s.tif").touch()
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("slide,mask,centre,class\ns.tif,masks/s.tif,A,macro\n")
    arguments = ["evaluate", str(tmp_path / "out"), "--reference", str(cohort), "--output", str(tmp_path / "eval")]
    assert execute(app, [*arguments, "--labels", "background=0,1 tumour=2 ignore=7"]) == 0
    evaluation = json.loads((tmp_path / "eval" / "evaluation.json").read_text())
    assert evaluation["model"] == MODEL.name
    assert evaluation["groups"][0]["dice"] == pytest.approx(600 / 720)
    (row,) = csv.DictReader((tmp_path / "eval" / "slides.csv").open())
    assert float(row["dice"]) == pytest.approx(600 / 720)
    assert "| A | 1 | 0.833 |" in capsys.readouterr().out
    assert execute(app, [*arguments, "--unannotated", "perhaps"]) == 2
    assert "use one of ignore, background" in capsys.readouterr().err
    assert execute(app, arguments) == 2, "the default mapping does not know the value 7"
