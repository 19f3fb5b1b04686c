import csv
import json
import re

import numpy as np
import pytest
from evaluation_helpers import slide
from scipy import stats

from uga.errors import UserError
from uga.evaluation.agreement import Agreement, Empty
from uga.evaluation.bootstrap import Resampling
from uga.evaluation.figures import draw_figures
from uga.evaluation.groups import group_slides, group_uncertainty, summarise
from uga.evaluation.outlines import SurfaceDistances
from uga.evaluation.page import write_page
from uga.evaluation.records import Evaluation, Settings
from uga.evaluation.slides import SlideFailure
from uga.evaluation.tables import markdown_table, write_evaluation

FEW = Settings(resamples=100)
MM2 = 1e-6


@pytest.fixture
def cohort():
    """Two patients at A (one with a negative slide too), one at B whose slides hold nothing."""
    return [
        slide("a", [(0.1, (80, 0, 20)), (0.2, (60, 40, 0))], patient="p1"),
        slide("b", [(0.3, (0, 30, 0)), (0.5, (0, 0, 0))], patient="p1", lesion="negative"),
        slide("c", [(0.4, (10, 0, 90))], patient="p2", lesion="itc"),
        slide("d", [], centre="B", patient="p3", lesion="negative"),
    ]


def group(records, label="tumour", centre=None, lesion=None):
    return next(one for one in records if (one.label, one.centre, one.lesion) == (label, centre, lesion))


def test_groups_pool_pixels_and_say_nothing_where_there_is_nothing(cohort):
    records = group_slides(cohort, resampling=FEW.resampling)
    whole = group(records)
    assert (whole.slides, whole.patients, whole.slides_with_dice) == (4, 3, 3)
    assert (whole.true_positive, whole.false_positive, whole.false_negative) == (150, 70, 110)
    assert whole.dice == pytest.approx(300 / 480)
    assert whole.dice_mean == pytest.approx(np.mean([280 / 340, 0, 20 / 110]))
    assert whole.patch_dice_mean == pytest.approx(np.mean([160 / 180, 120 / 160, 0, 20 / 110]))
    assert (whole.patches, whole.patches_with_dice) == (5, 4)
    away = group(records, centre="B")
    assert (away.dice, away.dice_mean, away.patch_score_mean, away.intervals.get("dice")) == (None, None, None, None)
    assert {(one.centre, one.lesion) for one in records} == {
        (None, None), (None, "negative"), (None, "itc"), (None, "macro"),
        ("A", None), ("A", "negative"), ("A", "itc"), ("A", "macro"), ("B", None), ("B", "negative"),
    }  # fmt: skip


def test_false_positives_on_negatives_are_an_area_and_a_share_of_tissue(cohort):
    negative = group(group_slides(cohort, resampling=FEW.resampling), lesion="negative")
    assert negative.false_positive_mm2_mean == pytest.approx(30 * MM2 / 2)
    assert negative.false_positive_share == pytest.approx(30 / cohort[1].tissue_px)
    assert negative.dice == 0


@pytest.mark.parametrize("empty", list(Empty))
def test_the_convention_holds_for_slides_and_patches_alike(cohort, empty):
    whole = group(group_slides(cohort, empty=empty, resampling=FEW.resampling))
    dices = [one.labels["tumour"].dice_by(empty) for one in cohort]
    assert whole.dice_mean == pytest.approx(np.mean([each for each in dices if each is not None]))
    patches = [
        (patch.candidate.score_mean, patch.labels["tumour"].dice_by(empty)) for one in cohort for patch in one.patches
    ]
    scores, errors = zip(*[(score, 1 - dice) for score, dice in patches if dice is not None], strict=True)
    assert whole.patch_spearman == pytest.approx(stats.spearmanr(scores, errors).statistic)
    assert whole.patches_with_dice == len(scores) == (4 if empty is Empty.EXCLUDE else 5)


def test_intervals_draw_patients_and_say_why_there_is_none(cohort):
    records = group_slides(cohort, resampling=Resampling(resamples=200))
    assert group(records).intervals["dice"].low is not None
    lone = group(records, lesion="itc").intervals["dice"]
    assert (lone.low, lone.high, lone.reason) == (None, None, "one patient only")
    assert group(records, centre="A", lesion="macro").intervals["dice"].reason == "one patient only"


def test_outlines_of_slides_without_them_do_not_count():
    slides = [
        slide("a", [], patient="p1", surface=SurfaceDistances(10, 10, 15, hd95_um=30.0, mean_um=6.0)),
        slide("b", [], patient="p2", surface=SurfaceDistances(10, 0, 0)),
        slide("c", [], patient="p3", surface=SurfaceDistances(0, 0, 0)),
    ]
    whole = group(group_slides(slides, resampling=FEW.resampling))
    assert (whole.nsd_mean, whole.hd95_median_um, whole.distance_median_um) == (0.75 / 2, 30.0, 6.0)
    assert whole.slides_with_outlines == 1
    assert whole.intervals["hd95_median_um"].reason == "one patient only"


def test_scores_tell_a_shifted_centre_from_home():
    slides = [
        slide("a", [(0.1, (1, 0, 0)), (0.3, (1, 0, 0))], patient="p1"),
        slide("b", [(0.2, (1, 0, 0)), (0.4, (1, 0, 0))], centre="B", patient="p2"),
    ]
    found = {one.centre: one for one in group_uncertainty(slides, home="A") if one.lesion is None}
    assert found["B"].shift_auroc == pytest.approx(3 / 4)
    assert found["A"].shift_auroc is None
    assert found[None].shift_auroc is None
    assert all(one.shift_auroc is None for one in group_uncertainty(slides))


def test_uncertainty_is_that_of_all_pixels_together(cohort):
    whole = next(one for one in group_uncertainty(cohort, resampling=FEW.resampling) if one.centre is None)
    assert whole.pixels == sum(one.tissue_px for one in cohort)
    assert sum(one.pixels for one in whole.bins) == whole.pixels
    assert whole.error_rate == pytest.approx(sum(one.errors[1].sum() for one in cohort) / whole.pixels)
    assert 0 <= whole.aurc <= 1
    assert whole.excess_aurc <= whole.aurc
    rates = [(patch.candidate.score_mean, patch.error_rate) for one in cohort for patch in one.patches]
    assert whole.patch_error_spearman == pytest.approx(stats.spearmanr(*zip(*rates, strict=True)).statistic)


def test_a_single_slide_of_a_single_patient_has_values_and_no_interval():
    evaluation = summarise([slide("a", [(0.1, (5, 1, 1))])], FEW)
    for record in (*evaluation.groups, *evaluation.uncertainty_groups):
        assert {one.reason for one in record.intervals.values()} == {"one patient only"}
    assert evaluation.group("tumour").dice == pytest.approx(10 / 12)
    assert evaluation.group("tumour").patch_spearman is None


def test_the_table_shows_centres_classes_and_false_pixels(cohort):
    evaluation = summarise(cohort, FEW)
    table = markdown_table(evaluation, "tumour")
    assert "| centre | slides | Dice, all slides | 95 % interval | negative | itc | macro | patches |" in table
    assert re.search(
        r"\| A \| 3 \| 0\.625 \| 0\.\d+ to 0\.\d+\* \| 30 px false \| 0\.182 \| 0\.824 \| 5 \| 0\.300 \|", table
    )
    assert "| B | 1 |  |  | 0 px false |  |  | 0 |  |" in table
    assert table.endswith("\n\n\\* fewer than 6 patients: holds the truth less often than the level says.")


def test_files_hold_what_the_records_say(cohort, tmp_path):
    failure = SlideFailure("e.tif", UserError("The reference e.xml is empty; draw outlines."))
    evaluation = summarise(cohort, FEW, failures=[failure])
    write_evaluation(tmp_path, evaluation, cohort)
    content = (tmp_path / "evaluation.json").read_text()
    assert Evaluation.model_validate_json(content) == evaluation
    parsed = json.loads(content)
    assert parsed["schema_version"] == "1.0"
    assert parsed["failures"] == [{"slide": "e.tif", "message": "The reference e.xml is empty; draw outlines."}]
    away = next(one for one in parsed["groups"] if one["centre"] == "B")
    assert away["dice"] is None, "what does not exist is null, not left out"
    slides = list(csv.DictReader((tmp_path / "slides.csv").open()))
    assert [row["dice"] for row in slides][3] == ""
    assert float(slides[0]["dice"]) == pytest.approx(280 / 340)
    assert float(slides[1]["fp_mm2"]) == pytest.approx(30 * MM2)
    patches = list(csv.DictReader((tmp_path / "patches.csv").open()))
    assert [(row["slide"], int(row["tp"]), row["ranked"]) for row in patches][:2] == [
        ("a.tif", 80, "1"),
        ("a.tif", 60, "1"),
    ]
    summed = np.sum([[int(row[name]) for name in ("tp", "fp", "fn")] for row in patches], axis=0)
    assert Agreement(*summed.tolist()) == Agreement.pooled(one.labels["tumour"] for one in cohort)


def test_tables_without_a_patch_keep_their_header(tmp_path):
    write_evaluation(tmp_path, summarise([slide("a", [])], FEW), [slide("a", [])])
    assert (tmp_path / "patches.csv").read_text().startswith("slide,centre,patient,class,x,y,size,ranked,score_mean")


def written_page(folder, slides, settings=FEW, failures=()):
    evaluation = summarise(slides, settings, failures=failures)
    drawn = draw_figures(folder, evaluation, slides)
    return write_page(folder, evaluation, slides, drawn).read_text("utf-8")


def test_the_page_asks_for_nothing_outside_and_escapes_names(cohort, tmp_path):
    nasty = [*cohort, slide("<script>x", [(0.1, (1, 0, 1))], centre='"><b>$x^$', patient="p9")]
    failure = SlideFailure("f&.tif", UserError("broken <reference>; mend it."))
    page = written_page(tmp_path, nasty, Settings(resamples=100, home="A"), [failure])
    assert "Research use only" in page
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert "broken &lt;reference&gt;; mend it." in page
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", page) == []
    assert "://" not in re.sub(r'src="data:[^"]*"', "", page)
    assert "default-src 'none'" in page


def test_every_figure_is_there_twice_and_the_same_every_time(cohort, tmp_path):
    evaluation = summarise(cohort, FEW)
    for folder in ("one", "two"):
        drawn = draw_figures(tmp_path / folder, evaluation, cohort)
    names = [one.name for one in drawn]
    assert names == ["centres-tumour", "dice-tumour", "patches-tumour", "reliability", "risk-coverage"]
    files = sorted(path.name for path in (tmp_path / "one" / "figures").iterdir())
    assert files == sorted(f"{name}.{ending}" for name in names for ending in ("png", "svg"))
    for file in files:
        one, two = ((tmp_path / folder / "figures" / file).read_bytes() for folder in ("one", "two"))
        assert one == two


@pytest.mark.parametrize("empty", list(Empty))
def test_pages_of_almost_nothing(tmp_path, empty):
    settings = Settings(resamples=100, empty=empty, tolerance_um=None)
    page = written_page(tmp_path, [slide("a", [], lesion="negative")], settings)
    assert "Evaluation of 1 slide<" in page
    assert "nan" not in re.sub(r'src="data:[^"]*"', "", page).lower()


def test_several_labels_each_have_their_part(cohort, tmp_path):
    slides = [slide(name, [(0.2, (5, 1, 2))], patient=name, labels=("in situ", "tumour")) for name in "ab"]
    page = written_page(tmp_path, slides)
    assert "Agreement: in situ" in page
    assert (tmp_path / "figures" / "dice-in-situ.svg").is_file()
    assert "Agreement: tumour" in page
