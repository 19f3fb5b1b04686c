"""Points, areas and differences of results made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcome_helpers import OPTIONS, cell, make_patches, pool_patch, slide

from uga.evaluation.agreement import Agreement
from uga.ranking import Strategy
from uga.simulation.analysis import Outcomes
from uga.simulation.cells import BASELINE, CellKey, Plan
from uga.simulation.findings import findings
from uga.simulation.oracle import Oracle
from uga.simulation.querying import centre_pools, choices, home_is_least_uncertain, score_qualities
from uga.simulation.results import SlideResult, described, read_slides, write_slides
from uga.simulation.tables import markdown, told
from uga.training.cases import Case


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


def test_calling_more_by_the_label_raises_dice_and_not_the_correlation(summary_of) -> None:
    """Half of each slide is tumour: calling all of it so has Dice 2/3, more than a baseline that finds a third."""
    half = 500

    def slides(found: int, false: int) -> list[SlideResult]:
        agreement = Agreement(found, false, half - found)
        return [SlideResult(f"{n}", "a", f"p{n}", "micro", "tumour", 2 * half, agreement) for n in range(7)]

    results = {BASELINE: slides(170, 30)}
    results[CellKey(strategy=Strategy.RANDOM, budget=5)] = slides(280, 130)
    results[CellKey(strategy=Strategy.MEAN, budget=5)] = slides(half, half)
    made = summary_of(Outcomes(results, OPTIONS, 2.0))
    everything = made.point(Strategy.MEAN, 5)
    assert made.dice_if_all == pytest.approx(2 / 3)
    assert everything.dice.value == pytest.approx(2 / 3)
    assert everything.dice.value > made.point(Strategy.RANDOM, 5).dice.value
    assert (everything.sensitivity.value, everything.precision.value, everything.matthews.value) == (1, 0.5, 0)
    difference = next(each for each in made.differences if each.strategy is Strategy.MEAN)
    assert difference.dice.value > 0 > difference.matthews.value
    assert difference.matthews.value == pytest.approx(-made.point(Strategy.RANDOM, 5).matthews.value)
    said = "\n".join(findings(made))
    assert "Calling all of the test slides tumour would have Dice 0.667:" in said
    assert "At 5 patches a centre by Matthews' correlation, mean" in said
    tables = markdown(made)
    assert "| all called tumour |  | 0.667 | 1.000 |  | 0.000 |" in tables["What is found and what is right"]
    assert f"{difference.matthews.value:+.3f}" in tables["Differences from random in Matthews' correlation"]


def test_nothing_is_said_of_a_correlation_that_does_not_exist(summary_of) -> None:
    """Where everything that is judged is tumour, as with outlines of tumour alone."""

    def slides(found: int) -> list[SlideResult]:
        agreement = Agreement(found, 0, 1000 - found)
        return [SlideResult(f"{n}", "a", f"p{n}", "micro", "tumour", 1000, agreement) for n in range(7)]

    results = {BASELINE: slides(300)}
    results[CellKey(strategy=Strategy.RANDOM, budget=5)] = slides(400)
    results[CellKey(strategy=Strategy.MEAN, budget=5)] = slides(500)
    made = summary_of(Outcomes(results, OPTIONS, 2.0))
    assert made.point(Strategy.MEAN, 5).matthews.value is None
    assert made.dice_if_all == 1
    assert "by Matthews" not in "\n".join(findings(made))
    tables = markdown(made)
    assert "Differences from random in Matthews' correlation" not in tables
    assert "Differences from random" in tables


def test_what_is_alike_with_several_rarities_is_said_once(outcomes: Outcomes, summary_of) -> None:
    results = {BASELINE: outcomes.results[BASELINE]}
    for rarity in (0.01, 0.1, 1.0):
        for key, listed in outcomes.results.items():
            if key.budget == 5:
                same = rarity == 0.1 and key.strategy is Strategy.MEAN
                other = key.model_copy(update={"strategy": Strategy.RANDOM})
                results[key.model_copy(update={"rarity": rarity})] = outcomes.results[other] if same else listed
    said = findings(summary_of(Outcomes(results, OPTIONS, 2.0)))
    compared = [sentence for sentence in said if "told apart from random" in sentence]
    assert [sentence.partition(":")[0] for sentence in compared] == [
        "With 1 and 100 % of the pool shifted",
        "With 10 % of the pool shifted",
    ]
    assert "mean is above random" in compared[0]
    assert "mean is identical with random" in compared[1]


def test_nothing_is_said_of_the_correlation_where_calling_all_by_the_label_has_little(summary_of) -> None:
    def rare(results: list[SlideResult]) -> list[SlideResult]:
        return [replace(result, judged_px=1000 * result.judged_px) for result in results]

    made = summary_of(Outcomes({BASELINE: rare(cell(0.5))}, OPTIONS, 2.0))
    assert made.dice_if_all < 0.01
    assert "Matthews" not in "\n".join(findings(made))


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


def test_seeds_are_paired(outcomes: Outcomes) -> None:
    """With a cell missing, differences are of the seeds that both strategies have, areas of those with all budgets."""
    gone = CellKey(strategy=Strategy.MEAN, budget=5, seed=1)
    part = Outcomes({key: value for key, value in outcomes.results.items() if key != gone}, OPTIONS, 2.0)
    found = {(d.strategy, d.budget): d for d in part.differences}
    seeds = {(p.strategy, p.budget): p.seeds for p in part.points}
    gains = [seeds[Strategy.MEAN, 5][seed] - seeds[Strategy.RANDOM, 5][seed] for seed in (0, 2)]
    assert found[Strategy.MEAN, 5].seeds == 2
    assert found[Strategy.MEAN, 5].dice.value == pytest.approx(np.mean(gains))
    assert (found[Strategy.MEAN, 10].seeds, found[Strategy.MEAN, None].seeds) == (3, 2)
    assert {area.strategy: area.seeds for area in part.areas} == {
        Strategy.RANDOM: 3, Strategy.MEAN: 2, Strategy.ENTROPY: 3
    }  # fmt: skip
    alone = {key: value for key, value in outcomes.results.items() if key.strategy is not Strategy.RANDOM or key.seed}
    alone = {key: value for key, value in alone.items() if key.strategy is not Strategy.MEAN or not key.seed}
    assert not [d for d in Outcomes(alone, OPTIONS, 2.0).differences if d.strategy is Strategy.MEAN]


def test_the_seeds_of_a_difference_are_told_where_some_are_missing(outcomes: Outcomes, summary_of) -> None:
    gone = CellKey(strategy=Strategy.MEAN, budget=5, seed=1)
    part = Outcomes({key: value for key, value in outcomes.results.items() if key != gone}, OPTIONS, 2.0)
    made = summary_of(part, cells=19)
    assert "mean (2 of 3 seeds) is above random" in "\n".join(findings(made))
    tables = markdown(made)
    for title in ("Dice of tumour", "Gain over the baseline", "Differences from random"):
        assert tables[title].count(", 2 of 3 seeds") == 1 + (title == "Differences from random")  # and of its area


def test_one_budget_has_no_area(outcomes: Outcomes, summary_of) -> None:
    part = Outcomes({key: value for key, value in outcomes.results.items() if key.budget < 10}, OPTIONS, 2.0)
    assert part.areas == ()
    assert {difference.budget for difference in part.differences} == {5}
    assert "area" not in "\n".join(findings(summary_of(part)))


def seeds_gain(gains: tuple[float, ...]) -> Outcomes:
    """The mean over random by so much with each seed, alike on all slides."""
    results = {BASELINE: cell(0.5)}
    for seed, gain in enumerate(gains):
        for strategy, extra in ((Strategy.RANDOM, 0.0), (Strategy.MEAN, gain)):
            results[CellKey(strategy=strategy, budget=5, seed=seed)] = cell(0.6 + extra, seed=seed)
    return Outcomes(results, OPTIONS, 2.0)


def test_three_seeds_of_one_sign_prove_nothing() -> None:
    (apart,) = seeds_gain((0.01, 0.05, 0.2)).differences
    assert apart.dice.value == pytest.approx(0.26 / 3, abs=0.005)
    assert apart.dice.low < 0
    assert not apart.dice.excludes_zero
    (alike,) = seeds_gain((0.08, 0.09, 0.1)).differences
    assert alike.dice.excludes_zero


def test_gains_are_over_the_baseline_on_the_same_slides(outcomes: Outcomes) -> None:
    baseline, *others = outcomes.points
    assert baseline.gain is None
    for point in others:
        assert point.gain.value == pytest.approx(point.dice.value - baseline.dice.value)
        assert point.gain.low < point.gain.value < point.gain.high
        assert point.gain.low >= -1
        assert 0 <= point.dice.low < point.dice.high <= 1


def test_strategies_that_correct_the_same_are_identical(outcomes: Outcomes, summary_of) -> None:
    results = dict(outcomes.results)
    for key, listed in outcomes.results.items():
        if key.strategy is Strategy.RANDOM:
            results[key.model_copy(update={"strategy": Strategy.SUM})] = listed
    twins = Outcomes(results, OPTIONS, 2.0)
    assert {d.strategy for d in twins.differences if d.identical} == {Strategy.SUM}
    made = summary_of(twins)
    said = "\n".join(findings(made))
    assert "sum is identical with random" in said
    assert "sum is not told apart" not in said
    assert "| sum | identical | identical | identical |" in markdown(made)["Differences from random"]


def test_a_centre_without_the_label_is_left_out_and_named(outcomes: Outcomes, summary_of) -> None:
    """Whether anything is found there or not: neither moves the headline."""
    results = {}
    for number, (key, listed) in enumerate(outcomes.results.items()):
        results[key] = [*listed, slide("c", 0, 1.0 - 0.5 * (number % 2), lesion="negative")]
    more = Outcomes(results, OPTIONS, 2.0)
    assert more.headline_centres == ("a", "b")
    assert more.centres_left_out == ("c",)
    assert [p.dice.value for p in more.points] == [p.dice.value for p in outcomes.points]
    assert all(point.by_centre["c"].value is None for point in more.points)
    assert "No test slide of centre c holds tumour, so the mean over centres is that of a, b." in findings(
        summary_of(more)
    )
    nothing = Outcomes(results, OPTIONS.model_copy(update={"centres": ("c",)}), 2.0)
    assert {point.dice.value for point in nothing.points} == {None}
    assert findings(summary_of(nothing))


def test_no_resample_loses_the_label_of_a_patient_whose_first_slide_has_none() -> None:
    def of(patient: str, number: int, *, lesion: str) -> SlideResult:
        return replace(slide("a", number, 0.6, lesion=lesion), patient=patient)

    slides = [of("first", 0, lesion="negative"), of("first", 1, lesion="micro")]
    slides += [
        replace(slide("a", number, number / 10, lesion="negative"), patient=f"{number}") for number in range(2, 9)
    ]
    dice = Outcomes({BASELINE: slides}, OPTIONS, 2.0).points[0].dice
    assert 0 < dice.low <= dice.value <= dice.high


def test_few_patients_are_cautioned_against(summary_of) -> None:
    results = {BASELINE: [slide("a", number, 0.5 + number / 10) for number in range(3)]}
    results[CellKey(strategy=Strategy.MEAN, budget=5)] = [slide("a", number, 0.6 + number / 20) for number in range(3)]
    few = Outcomes(results, OPTIONS, 2.0)
    assert few.points[0].dice.caution == "fewer than 6 patients"
    assert told(few.points[0].dice).endswith("*)")
    made = summary_of(few)
    assert "Intervals with a * rest on fewer than 6 patients: they hold the truth less often than 95 %." in findings(
        made
    )
    assert r"\*) |" in markdown(made)["Dice of tumour"]


def test_enough_patients_are_not(outcomes: Outcomes, summary_of) -> None:
    made = summary_of(outcomes)
    assert made.points[1].dice.caution is None
    assert "*" not in told(made.points[1].dice)


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


def test_results_are_of_whom_the_cohort_says(outcomes: Outcomes) -> None:
    listed = outcomes.results[BASELINE]
    cases = [Case(each.slide, Path("x.tif"), None, "elsewhere", f"new {each.slide}", "itc") for each in listed]
    for before, after in zip(listed, described(listed, cases[::-1]), strict=True):
        assert (after.centre, after.patient, after.lesion) == ("elsewhere", f"new {before.slide}", "itc")
        assert (after.slide, after.label, after.agreement) == (before.slide, before.label, before.agreement)


def test_cells_that_fall_short_of_their_budget_are_told(outcomes: Outcomes, summary_of) -> None:
    plans = []
    for seed, count in enumerate((10, 9)):
        key = CellKey(strategy=Strategy.MEAN, budget=5, seed=seed)
        plans.append(Plan(key, tuple(make_patches()[:count]), tuple(range(count)), "0" * 64))
    manifests = {plan.key: Guarded() for plan in plans}
    (choice,) = choices(plans, manifests, pools=2)
    assert (choice.patches, choice.short) == (9.5, 1)
    said = "\n".join(findings(summary_of(outcomes, choices=(choice,))))
    assert "1 cell corrected fewer patches than the budget (5), as a pool gave no more." in said
    (choice,) = choices(plans, manifests, pools=1)
    assert choice.short == 0
    assert "fewer patches than the budget" not in "\n".join(findings(summary_of(outcomes, choices=(choice,))))


class Guarded:
    """All that is asked of a manifest."""

    guard = None


def test_pools_and_scores() -> None:
    patches = make_patches()
    home, abroad = centre_pools(patches)
    assert (home.centre, home.patches, home.shifted, home.slides) == ("a", 10, 0, 3)
    assert home.dice > abroad.dice
    area = patches[0].candidate.size ** 2
    assert home.dice_if_all == abroad.dice_if_all == pytest.approx(200 / (area + 100))
    assert (home.dice_shifted, home.dice_home) == (abroad.dice_shifted, abroad.dice_home) == (None, None)
    wrong = [patch.agreement for patch in patches if patch.candidate.centre == "b"]
    assert abroad.errors.missed == pytest.approx(sum(each.false_negative for each in wrong) / len(wrong) / area)
    assert abroad.errors.wrongly_called == pytest.approx(sum(each.false_positive for each in wrong) / len(wrong) / area)
    assert home.score_mean < abroad.score_mean
    assert home_is_least_uncertain([home, abroad], ["a"]) is True
    assert home_is_least_uncertain([home, abroad], ["b"]) is False
    assert home_is_least_uncertain([home, abroad], []) is None
    found = {each.score: each for each in score_qualities(patches, OPTIONS)}
    assert found["score_mean"].spearman.value == pytest.approx(1.0)
    assert found["reference_key"].spearman.value == pytest.approx(-1.0)
    assert found["disagreement"].auroc_shifted.value == 1.0
    assert {"entropy", "mutual-information", "entropy of tumour", "variation-ratio", "threshold-dice"} <= set(found)
    assert not any("above" in score for score in found)


def test_a_shift_that_costs_the_baseline_nothing_is_told(outcomes, summary_of) -> None:
    patches = make_patches()[:10]

    def said(wrong: int) -> list[str]:
        """The second half of the patches is shifted and has so many pixels wrong, the first half 50."""
        mixed = [
            replace(patch, shifted=number >= 5, agreement=Agreement(100, wrong if number >= 5 else 50, 0))
            for number, patch in enumerate(patches)
        ]
        sentences = findings(summary_of(outcomes, pool=centre_pools(mixed)))
        return [sentence for sentence in sentences if "what is called shifted" in sentence]

    assert not said(51)
    (sentence,) = said(40)
    assert (
        "centre a the baseline segments the shifted patches no worse (Dice 0.833) than the others (0.800)" in sentence
    )
    assert not [each for each in findings(summary_of(outcomes, pool=centre_pools(patches))) if "called shifted" in each]


def test_what_was_wrong_in_the_corrected_patches_is_counted() -> None:
    patches = [replace(make_patches()[0], agreement=Agreement(10, 2 * n, n)) for n in (3, 5)]
    plan = Plan(CellKey(strategy=Strategy.MEAN, budget=2, seed=0), tuple(patches), (0, 1), "0" * 64)
    (choice,) = choices([plan], {plan.key: Guarded()}, pools=1)
    judged = 2 * patches[0].judged_px
    assert choice.errors.missed == pytest.approx(8 / judged)
    assert choice.errors.wrongly_called == pytest.approx(16 / judged)


def test_a_baseline_that_is_no_better_than_calling_everything_so_is_told(outcomes, summary_of) -> None:
    """Half of each patch holds the label, so that calling all by it has a Dice of 2/3."""
    half = make_patches()[0].candidate.size ** 2 // 2

    def said(wrong: int) -> list[str]:
        patches = [replace(patch, agreement=Agreement(half - wrong, wrong, wrong)) for patch in make_patches()[:10]]
        sentences = findings(summary_of(outcomes, pool=centre_pools(patches)))
        return [sentence for sentence in sentences if "calling all of it" in sentence]

    (sentence,) = said(half // 4)
    assert "Dice over the pool of centre a, 0.750, is hardly above what calling all of it tumour has, 0.667" in sentence
    assert not said(half // 5)
    unjudged = [replace(patch, agreement=Agreement(), judged=0.0) for patch in make_patches()]
    assert not [each for each in findings(summary_of(outcomes, pool=centre_pools(unjudged))) if "calling" in each]


def test_patches_with_the_label_are_those_where_it_is_or_is_found() -> None:
    """Of the label that is evaluated, which need not be the model's tumour."""
    patches = make_patches()
    background = [replace(patch, agreement=Agreement(0, 0, 0)) for patch in patches]
    (first, *_) = score_qualities(background, OPTIONS)
    assert first.spearman_with_label.value is None
    found = [*background[:4], *(replace(patch, agreement=Agreement(0, 9, 0)) for patch in patches[4:])]
    found = [replace(patch, candidate=replace(patch.candidate, tumour_fraction=0.0)) for patch in found]
    assert {patch.holds_label for patch in found} == {False}
    (some, *_) = score_qualities(found, OPTIONS)
    assert some.spearman_with_label == score_qualities(found[4:], OPTIONS)[0].spearman


@pytest.mark.parametrize(("counts", "dice"), [((0, 0, 0), 1.0), ((0, 3, 0), 0.25), ((5, 0, 0), 1.0)])
def test_smoothed_dice_is_the_authors(counts: tuple[int, int, int], dice: float) -> None:
    own = replace(pool_patch(0, 0.1), agreement=Agreement(*counts))
    assert own.smoothed_dice == dice
    assert own.holds_label == (counts[0] > 0)


def test_the_oracle_is_no_strategy_to_be_the_best_of(outcomes: Outcomes, summary_of) -> None:
    results = dict(outcomes.results)
    for key, listed in outcomes.results.items():
        if key.strategy is Strategy.MEAN:  # the best
            results[key.model_copy(update={"strategy": Oracle.ORACLE})] = listed
    said = findings(summary_of(Outcomes(results, OPTIONS, 2.0)))
    assert sum("the best of 3 strategies, chosen on these slides, is mean with 0." in each for each in said) == 2
    own = [each for each in said if "chosen by the reference itself" in each]
    assert [each.partition(" patches")[0] for each in own] == ["5", "10"]
    assert "a gain of +0.297 (+" in own[0] + own[1]
    assert any(each.startswith("At 5 patches a centre, mean and oracle are above random") for each in said)


def test_findings_say_what_the_intervals_say(outcomes: Outcomes, summary_of) -> None:
    said = "\n".join(findings(summary_of(outcomes)))
    assert "At 5 patches a centre, mean is above random, and the interval excludes zero" in said
    assert "entropy is not told apart from random" in said
    assert "10 corrected patches a centre take the mean Dice of tumour from" in said
    assert "with random, a gain of +0.191 (+" in said
    assert said.count("; the best of 3 strategies, chosen on these slides, is mean with 0.") == 2
    assert "a gain of +0.297 (+" in said
    few = {key: value for key, value in outcomes.results.items() if key.seed == 0}
    said = "\n".join(findings(summary_of(Outcomes(few, OPTIONS, 2.0), cells=19)))
    assert "Only 7 of 19 cells are finished" in said
    assert "One seed was run" in said
