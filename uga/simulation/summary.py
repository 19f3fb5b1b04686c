"""``summary.json``: what an experiment showed, with intervals."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, JsonValue  # noqa: TC002 - pydantic reads the annotations

from uga.model.card import RESEARCH_USE
from uga.output.schema import SCHEMA_VERSION, ModelRecord, Record
from uga.ranking import Strategy  # noqa: TC001 - pydantic reads the annotations
from uga.simulation.oracle import Choosing  # noqa: TC001 - as above


class Estimate(Record):
    """A value with its interval; None where it is not defined. ``caution`` is why it holds the truth too seldom."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    caution: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Point(Record):
    """All cells of a strategy and a budget; a strategy of None is the baseline.

    Attributes:
        dice: Mean over the centres that count of the Dice pooled at each, mean over seeds.
        gain: The same less the baseline's, on the same resamples; None for the baseline, or without one.
        seeds: Dice of each seed.
        by_centre: Dice pooled over the slides of each centre; None for centres without the label.
        by_class: Dice pooled over the slides of each lesion class, all centres together; None for slides without.
        false_positive_mm2: On slides without the label, mean area of each that is wrongly called by it.
        dice_pooled: Pooled over all slides of all centres.
        sensitivity, precision, matthews: Mean over the same centres as ``dice``, each pooled at its centre; the last is
            Matthews' correlation, which calling more by the label does not raise.
        dice_slides: Mean over the slides that hold the label.
        dice_slides_empty_one: Mean over all slides, 1 where the label is neither there nor found.
    """

    rarity: float | None = None
    strategy: Choosing | None = None
    budget: int
    dice: Estimate
    gain: Estimate | None = None
    seeds: dict[int, float | None]
    by_centre: dict[str, Estimate]
    by_class: dict[str, Estimate]
    false_positive_mm2: Estimate
    dice_pooled: Estimate
    sensitivity: Estimate
    precision: Estimate
    matthews: Estimate
    dice_slides: Estimate
    dice_slides_empty_one: Estimate


class Difference(Record):
    """A strategy less the one it is compared with, on the same resamples and seeds.

    Attributes:
        budget: None is the area under the curve.
        dice: In the mean over centres of Dice.
        matthews: In that of Matthews' correlation; None for the area.
        seeds: Those that both have, of which the mean is taken.
        identical: Whether both have the same Dice with every seed in every resample, as where they corrected the same.
    """

    rarity: float | None = None
    strategy: Choosing
    budget: int | None = None
    dice: Estimate
    matthews: Estimate | None = None
    seeds: int
    identical: bool


class Area(Record):
    """Area under a strategy's curve of Dice over budget, as a mean Dice over the budgets; of seeds with all budgets."""

    rarity: float | None = None
    strategy: Choosing
    dice: Estimate
    seeds: int


class Errors(Record):
    """Shares of the judged area of some patches: what the label was missed on, and what was wrongly called by it."""

    missed: float
    wrongly_called: float


class Choice(Record):
    """What the cells of a strategy and budget have corrected, means over seeds.

    Attributes:
        holds_label: Share of the patches whose reference holds the label.
        shifted: Share of the patches from slides unlike the training domain.
        slides: Slides that gave a patch.
        baseline_dice: Mean of the patches' smoothed Dice by the baseline.
        errors: What the baseline had wrong in them.
        guard_refused: Cells whose model the fine-tuning's guard would not have released.
        short: Cells that corrected fewer patches than their budget.
    """

    rarity: float | None = None
    strategy: Choosing
    budget: int
    patches: float
    holds_label: float
    shifted: float
    slides: float
    baseline_dice: float
    errors: Errors
    guard_refused: int
    short: int


class CentrePool(Record):
    """The query pool of a centre by the baseline; excluded patches are left out.

    ``dice`` is pooled over the patches, and so is ``dice_if_all``, of calling every pixel by the label: what an
    ensemble reaches that has learnt nothing. ``dice_shifted`` and ``dice_home`` are those of shifted patches and of the
    others, where there are both. ``score_*`` are of the patches' mean uncertainty.
    """

    centre: str
    slides: int
    patches: int
    holds_label: int
    shifted: int
    dice: float | None = None
    dice_if_all: float | None = None
    dice_shifted: float | None = None
    dice_home: float | None = None
    errors: Errors
    score_mean: float
    score_quartiles: tuple[float, float, float]


class ScoreQuality(Record):
    """How well a score finds the patches that are segmented badly, over all pools.

    Attributes:
        score: Its name.
        spearman: With 1 - smoothed Dice of the patches; all are resampled by patient.
        spearman_with_label: The same over the patches that hold the label or are said to.
        auroc_shifted: Of telling shifted patches from the others.
    """

    score: str
    spearman: Estimate
    spearman_with_label: Estimate
    auroc_shifted: Estimate


class RarityPool(Record):
    """What a pool of some rarity held, means over seeds."""

    rarity: float
    patches: float
    shifted: float


class Summary(Record):
    """The whole of ``summary.json``."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    data_notice: str
    name: str
    title: str
    description: str
    label: str
    unit: str
    per: str
    """What a budget is for: ``a centre`` or ``in all``."""
    level: float
    resamples: int
    centres: tuple[str, ...]
    """Those whose mean is the headline: the centres that were asked for and hold the label."""
    centres_left_out: tuple[str, ...]
    """Centres that were asked for and do not hold the label."""
    dice_if_all: float | None
    """Of calling every judged pixel of their test slides by the label."""
    test_slides: int
    test_patients: int
    lone_patients: int
    """Test patients that are alone in their stratum, so that no resample leaves them out."""
    seeds: int
    compare_with: Strategy
    cells: int
    finished: int
    points: tuple[Point, ...]
    differences: tuple[Difference, ...]
    areas: tuple[Area, ...]
    choices: tuple[Choice, ...]
    pool: tuple[CentrePool, ...]
    rarities: tuple[RarityPool, ...]
    scores: tuple[ScoreQuality, ...]
    home_centres: tuple[str, ...]
    home_is_least_uncertain: bool | None = None
    baseline: ModelRecord
    given_baseline: bool
    """Whether it took the place of the configuration's."""
    command: str
    config: dict[str, JsonValue]
    versions: dict[str, str]
    computed_on: tuple[str, ...]
    cell_seconds: dict[str, float]
    updated: AwareDatetime

    def point(self, strategy: Choosing | None, budget: int, rarity: float | None = None) -> Point | None:
        """One point; None if no such cell is finished."""
        wanted = (None if strategy is None else rarity, strategy, budget)
        return next((p for p in self.points if (p.rarity, p.strategy, p.budget) == wanted), None)

    @property
    def cautions(self) -> list[str]:
        """What is said against intervals, each once."""
        estimates = [each.dice for each in self.differences] + [each.dice for each in self.areas]
        estimates += [each.matthews for each in self.differences if each.matthews]
        for point in self.points:
            estimates += [point.dice, *([point.gain] if point.gain else []), *point.by_centre.values()]
            estimates += [*point.by_class.values(), point.false_positive_mm2, point.dice_pooled]
            estimates += [point.dice_slides, point.dice_slides_empty_one]
            estimates += [point.sensitivity, point.precision, point.matthews]
        for score in self.scores:
            estimates += [score.spearman, score.spearman_with_label, score.auroc_shifted]
        return list(dict.fromkeys(each.caution for each in estimates if each.caution))
