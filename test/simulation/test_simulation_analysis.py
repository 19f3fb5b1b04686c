"""Points, areas and differences of results made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from outcome_helpers import OPTIONS, make_patches, pool_patch, slide

from uga.evaluation.agreement import Agreement
from uga.ranking import Strategy
from uga.simulation.analysis import Outcomes, centre_pools, home_is_least_uncertain, score_qualities
from uga.simulation.cells import BASELINE, CellKey
from uga.simulation.findings import findings
from uga.simulation.results import read_slides, write_slides


def test_the_headline_is_the_mean_of_the_centres(outcomes: Outcomes) -> None:
    baseline = outcomes.points[0]
    assert (baseline.strategy, baseline.budget) == (None, 0)
    centres = [baseline.by_centre[name].value for name in ("a", "b")]
    assert baseline.dice.value == pytest.approx(np.mean(centres))
    counts = [result.agreement for result in outcomes.results[BASELINE] if result.centre == "a"]
    assert centres[0] == pytest.approx(Agreement.pooled(counts).dice)
    assert baseline.dice_pooled.value == pytest.approx(
        Agreement.pooled(result.agreement for result in outcomes.results[BASELINE]).dice
    )
    assert set(baseline.by_class) == {"micro", "macro", "negative"}


def test_seeds_are_averaged(outcomes: Outcomes) -> None:
    point = next(p for p in outcomes.points if (p.strategy, p.budget) == (Strategy.MEAN, 5))
    assert set(point.seeds) == {0, 1, 2}
    assert point.dice.value == pytest.approx(np.mean(list(point.seeds.values())))
    assert point.dice.low < point.dice.value < point.dice.high


def test_false_positives_of_negative_slides_are_an_area(outcomes: Outcomes) -> None:
    wrong = [r.agreement.false_positive for r in outcomes.results[BASELINE] if r.lesion == "negative"]
    assert outcomes.points[0].false_positive_mm2.value == pytest.approx(np.mean(wrong) * 4e-6)


def test_differences_are_paired(outcomes: Outcomes) -> None:
    """Slides and seeds differ by far more than the strategies, in the same way for both."""
    found = {(d.strategy, d.budget): d.dice for d in outcomes.differences}
    assert found[Strategy.MEAN, 5].value == pytest.approx(0.1, abs=0.02)
    assert found[Strategy.MEAN, 5].excludes_zero
    assert found[Strategy.MEAN, 5].high - found[Strategy.MEAN, 5].low < 0.03
    own = next(p for p in outcomes.points if (p.strategy, p.budget) == (Strategy.MEAN, 5)).dice
    assert own.high - own.low > 2 * (found[Strategy.MEAN, 5].high - found[Strategy.MEAN, 5].low)
    assert (Strategy.RANDOM, 5) not in found
    areas = {area.strategy: area.dice.value for area in outcomes.areas}
    assert found[Strategy.MEAN, None].value == pytest.approx(areas[Strategy.MEAN] - areas[Strategy.RANDOM])


def test_the_area_starts_at_the_baseline(outcomes: Outcomes) -> None:
    values = [outcomes.points[0].dice.value] + [
        next(p for p in outcomes.points if (p.strategy, p.budget) == (Strategy.MEAN, budget)).dice.value
        for budget in (5, 10)
    ]
    area = next(a for a in outcomes.areas if a.strategy is Strategy.MEAN)
    assert area.dice.value == pytest.approx((values[0] + 2 * values[1] + values[2]) / 4)


def test_a_strategy_that_lacks_a_budget_has_no_area(outcomes: Outcomes) -> None:
    part = {key: value for key, value in outcomes.results.items() if (key.strategy, key.budget) != (Strategy.MEAN, 10)}
    areas = Outcomes(part, OPTIONS, 2.0).areas
    assert {area.strategy for area in areas} == {Strategy.RANDOM, Strategy.ENTROPY}


def test_a_seed_that_is_missing_does_not_spoil_a_point(outcomes: Outcomes) -> None:
    gone = CellKey(strategy=Strategy.MEAN, budget=5, seed=1)
    part = Outcomes({key: value for key, value in outcomes.results.items() if key != gone}, OPTIONS, 2.0)
    point = next(p for p in part.points if (p.strategy, p.budget) == (Strategy.MEAN, 5))
    assert set(point.seeds) == {0, 2}
    assert point.dice.value == pytest.approx(np.mean(list(point.seeds.values())))


def test_only_the_centres_that_count_are_in_the_headline(outcomes: Outcomes) -> None:
    only = Outcomes(outcomes.results, OPTIONS.model_copy(update={"centres": ("b",)}), 2.0)
    assert only.points[0].dice.value == only.points[0].by_centre["b"].value
    assert only.points[0].by_centre == outcomes.points[0].by_centre


def test_a_single_slide_of_a_kind_has_no_interval() -> None:
    results = {BASELINE: [slide("a", 0, 0.5), slide("a", 1, 0.9, lesion="negative")]}
    lone = Outcomes(results, OPTIONS, 1.0)
    assert lone.lone_patients == 2
    assert lone.points[0].dice.value is not None
    assert lone.points[0].dice.low is None


def test_slide_means_know_where_the_label_is(outcomes: Outcomes) -> None:
    results = [slide("a", 0, 0.6), slide("a", 1, 1.0, lesion="negative"), slide("a", 2, 0.9, lesion="negative")]
    point = Outcomes({BASELINE: results}, OPTIONS, 1.0).points[0]
    assert point.dice_slides.value == pytest.approx(0.6)
    assert point.dice_slides_empty_one.value == pytest.approx((0.6 + 1.0 + 0.0) / 3)


def test_results_come_back(tmp_path, outcomes: Outcomes) -> None:
    write_slides(tmp_path / "slides.csv", outcomes.results[BASELINE])
    assert read_slides(tmp_path / "slides.csv") == outcomes.results[BASELINE]


def test_pools_and_scores() -> None:
    patches = make_patches()
    home, abroad = centre_pools(patches)
    assert (home.centre, home.patches, home.shifted, home.slides) == ("a", 10, 0, 3)
    assert home.dice > abroad.dice
    assert home.score_mean < abroad.score_mean
    assert home_is_least_uncertain([home, abroad], ["a"]) is True
    assert home_is_least_uncertain([home, abroad], ["b"]) is False
    assert home_is_least_uncertain([home, abroad], []) is None
    found = {each.score: each for each in score_qualities(patches, OPTIONS)}
    assert found["score_mean"].spearman.value == pytest.approx(1.0)
    assert found["reference_key"].spearman.value == pytest.approx(-1.0)
    assert found["disagreement"].auroc_shifted.value == 1.0
    assert {"entropy", "mutual-information", "entropy of tumour"} <= set(found)


@pytest.mark.parametrize(("counts", "dice"), [((0, 0, 0), 1.0), ((0, 3, 0), 0.25), ((5, 0, 0), 1.0)])
def test_smoothed_dice_is_the_authors(counts: tuple[int, int, int], dice: float) -> None:
    own = replace(pool_patch(0, 0.1), agreement=Agreement(*counts))
    assert own.smoothed_dice == dice
    assert own.holds_label == (counts[0] > 0)


def test_findings_say_what_the_intervals_say(outcomes: Outcomes, summary_of) -> None:
    said = "\n".join(findings(summary_of(outcomes)))
    assert "At 5 patches a centre, mean is above random, and the interval excludes zero" in said
    assert "entropy is not told apart from random" in said
    assert "10 corrected patches a centre take the mean Dice of tumour from" in said
    few = {key: value for key, value in outcomes.results.items() if key.seed == 0}
    said = "\n".join(findings(summary_of(Outcomes(few, OPTIONS, 2.0), cells=19)))
    assert "Only 7 of 19 cells are finished" in said
    assert "One seed was run" in said
