"""``evaluation.json``: what the slides of an evaluation say together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uga.evaluation.agreement import Empty
from uga.evaluation.bootstrap import Interval, Resampling
from uga.evaluation.slides import DEFAULT_TOLERANCE_UM
from uga.evaluation.tissue import TissueSource  # noqa: TC001 - pydantic reads the annotation
from uga.model.card import RESEARCH_USE
from uga.output.schema import SCHEMA_VERSION, ModelRecord, Record, UncertaintyRecord
from uga.training.cases import LESION_CLASSES, LesionClass, Unannotated


class GroupRecord(Record):
    """Slides taken together, for one label; a null centre or lesion means all of them.

    Counts are pixels of the maps. A figure that does not exist is null. ``intervals`` has the interval of each figure
    that does, by its name.

    Attributes:
        dice: Over the pixels of all slides.
        dice_mean: Mean over the slides that have a Dice.
        patch_dice_mean: Mean over the ranked patches that have a Dice.
        patches: Patches that the paper's 70 % rule keeps.
        patch_score_mean: Mean score of all those patches.
        patch_spearman: Rank correlation of their scores with 1 - Dice, over those that have a Dice.
        false_positive_mm2_mean: Area of false positives, mean over the slides.
        false_positive_share: False positives as a share of the judged tissue.
        missed_outside_tissue: False negatives where no tissue was found.
        nsd_mean: Normalised surface Dice, mean over the slides that have an outline.
        hd95_median_um, distance_median_um: 95th percentile and mean of the distances between outlines, median over the
            slides that have both outlines.
    """

    centre: str | None
    lesion: LesionClass | None
    label: str
    slides: int
    patients: int
    true_positive: int
    false_positive: int
    false_negative: int
    dice: float | None
    dice_mean: float | None
    slides_with_dice: int
    patches: int
    patches_with_dice: int
    patch_dice_mean: float | None
    patch_score_mean: float | None
    patch_spearman: float | None
    false_positive_mm2_mean: float | None
    false_positive_share: float | None
    missed_outside_tissue: int
    slides_with_outlines: int
    nsd_mean: float | None
    hd95_median_um: float | None
    distance_median_um: float | None
    intervals: dict[str, Interval]


class BinRecord(Record):
    """Pixels of similar uncertainty: what it is between 0 and 1, the error rate it stands for, and what that was."""

    pixels: int
    uncertainty: float | None
    expected_error: float | None
    error_rate: float | None


class UncertaintyGroup(Record):
    """What the uncertainty of slides taken together says about their errors, over the judged pixels of tissue.

    Attributes:
        error_rate: Share of pixels with another label than the reference.
        error_auroc: Detection of those pixels by their uncertainty.
        aurc, excess_aurc: Area under the risk-coverage curve, and what it exceeds that of the best order by.
        calibration_error, average_calibration_error: Gap between error rate and expected error over ``bins``, weighted
            by their pixels and unweighted; null for measures that expect none.
        uce: Gap between error rate and normalised uncertainty (Laves et al. 2019).
        patch_error_spearman: Rank correlation of patch scores with the patches' error rate.
        shift_auroc: Detection of this centre's patches among those of the home centre by their scores.
    """

    centre: str | None
    lesion: LesionClass | None
    slides: int
    patients: int
    pixels: int
    patches: int
    error_rate: float | None
    error_auroc: float | None
    aurc: float | None
    excess_aurc: float | None
    calibration_error: float | None
    average_calibration_error: float | None
    uce: float | None
    patch_error_spearman: float | None
    shift_auroc: float | None
    bins: tuple[BinRecord, ...]
    intervals: dict[str, Interval]


class FailureRecord(Record):
    """A slide that is missing from all figures, and why."""

    slide: str
    message: str


class Settings(Record):
    """How slides were compared and figures computed."""

    unannotated: Unannotated = "ignore"
    tissue: TissueSource = "slide"
    tolerance_um: float | None = DEFAULT_TOLERANCE_UM
    empty: Empty = Empty.EXCLUDE
    home: str | None = None
    level: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=2000, ge=100)
    seed: int = Field(default=0, ge=0)

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(level=self.level, resamples=self.resamples, seed=self.seed)


class Evaluation(Record):
    """The whole of ``evaluation.json``."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    model: ModelRecord
    uncertainty: UncertaintyRecord
    spacing_um: float
    patch_size_px: int
    labels: tuple[str, ...]
    settings: Settings
    failures: tuple[FailureRecord, ...] = ()
    groups: tuple[GroupRecord, ...]
    uncertainty_groups: tuple[UncertaintyGroup, ...]

    @property
    def centres(self) -> list[str]:
        """All centres."""
        return sorted({one.centre for one in self.uncertainty_groups if one.centre is not None})

    @property
    def lesions(self) -> list[LesionClass]:
        """All lesion classes, by severity."""
        return [lesion for lesion in LESION_CLASSES if any(one.lesion == lesion for one in self.uncertainty_groups)]

    def group(self, label: str, centre: str | None = None, lesion: str | None = None) -> GroupRecord | None:
        """One group; None if it holds no slide."""
        wanted = (label, centre, lesion)
        return next((one for one in self.groups if (one.label, one.centre, one.lesion) == wanted), None)

    def uncertainty_group(self, centre: str | None = None, lesion: str | None = None) -> UncertaintyGroup | None:
        """One group of slides; None if it holds none."""
        wanted = (centre, lesion)
        return next((one for one in self.uncertainty_groups if (one.centre, one.lesion) == wanted), None)
