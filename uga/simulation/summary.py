"""``summary.json``: what an experiment showed, with intervals."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, JsonValue  # noqa: TC002 - pydantic reads the annotations

from uga.model.card import RESEARCH_USE
from uga.output.schema import SCHEMA_VERSION, ModelRecord, Record
from uga.ranking import Strategy  # noqa: TC001 - pydantic reads the annotations


class Estimate(Record):
    """A value with its bootstrap interval; None where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Point(Record):
    """All cells of a strategy and a budget; a strategy of None is the baseline.

    Attributes:
        dice: Mean over the centres that count of the Dice pooled at each, mean over seeds.
        seeds: The same for each seed.
        by_centre: Dice pooled over the slides of each centre.
        by_class: Dice pooled over the slides of each lesion class, all centres together; None for slides without.
        false_positive_mm2: On slides without the label, mean area of each that is wrongly called by it.
        dice_pooled: Pooled over all slides of all centres.
        dice_slides: Mean over the slides that hold the label.
        dice_slides_empty_one: Mean over all slides, 1 where the label is neither there nor found.
    """

    rarity: float | None = None
    strategy: Strategy | None = None
    budget: int
    dice: Estimate
    seeds: dict[int, float | None]
    by_centre: dict[str, Estimate]
    by_class: dict[str, Estimate]
    false_positive_mm2: Estimate
    dice_pooled: Estimate
    dice_slides: Estimate
    dice_slides_empty_one: Estimate


class Difference(Record):
    """A strategy less the one it is compared with, on the same resamples; budget None is the area under the curve."""

    rarity: float | None = None
    strategy: Strategy
    budget: int | None = None
    dice: Estimate


class Area(Record):
    """Area under a strategy's curve of Dice over budget, as a mean Dice over the budgets."""

    rarity: float | None = None
    strategy: Strategy
    dice: Estimate


class Choice(Record):
    """What the cells of a strategy and budget have corrected, means over seeds.

    Attributes:
        holds_label: Share of the patches whose reference holds the label.
        shifted: Share of the patches from slides unlike the training domain.
        slides: Slides that gave a patch.
        baseline_dice: Mean of the patches' smoothed Dice by the baseline.
        guard_refused: Cells whose model the fine-tuning's guard would not have released.
    """

    rarity: float | None = None
    strategy: Strategy
    budget: int
    patches: float
    holds_label: float
    shifted: float
    slides: float
    baseline_dice: float
    guard_refused: int


class CentrePool(Record):
    """The query pool of a centre by the baseline; excluded patches are left out.

    ``dice`` is pooled over the patches; ``score_*`` are of the patches' mean uncertainty.
    """

    centre: str
    slides: int
    patches: int
    holds_label: int
    shifted: int
    dice: float | None = None
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
    command: str
    config: dict[str, JsonValue]
    versions: dict[str, str]
    computed_on: tuple[str, ...]
    cell_seconds: dict[str, float]
    updated: AwareDatetime

    def point(self, strategy: Strategy | None, budget: int, rarity: float | None = None) -> Point | None:
        """One point; None if no such cell is finished."""
        wanted = (None if strategy is None else rarity, strategy, budget)
        return next((p for p in self.points if (p.rarity, p.strategy, p.budget) == wanted), None)
