"""What a user may choose for a run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from uga.measures import Measure
from uga.model.choices import EngineChoice, PrecisionChoice
from uga.ranking import Exclusion, Scope, Strategy


class Profile(StrEnum):
    """How thoroughly windows cover a slide; docs/performance.md has what each gains and costs."""

    REFERENCE = "reference"
    FAST = "fast"
    THOROUGH = "thorough"

    @property
    def overlap(self) -> float:
        """Overlap of neighbouring windows."""
        return 0.25 if self is Profile.FAST else 0.5

    @property
    def mirroring(self) -> bool:
        """Whether windows are also predicted mirrored along both axes."""
        return self is Profile.THOROUGH


PROFILE_HELP = (
    "reference: windows overlap by half, as in nnU-Net; fast: by a quarter, 1.7 to 1.9 times as fast, 2 % of tissue "
    "labels change and Dice falls by 0.01 (docs/performance.md); thorough: half, and mirrored, a quarter as fast."
)


class RunOptions(BaseModel):
    """Options that decide what a run writes, beside the slides and the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_um: Annotated[float, Field(gt=0)] | None = None
    """Working spacing; None takes the model's."""
    mpp: Annotated[float, Field(gt=0)] | None = None
    """Pixel size of level 0 in um that overrides the slides' own."""
    engine: EngineChoice = "auto"
    precision: PrecisionChoice = "auto"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    mirroring: bool = False
    uncertainty: Measure = Measure.SOFT_CROSS_ENTROPY
    top: Annotated[int, Field(ge=0)] = 20
    patch_px: Annotated[int, Field(gt=0)] = 1024
    stride_px: Annotated[int, Field(gt=0)] | None = None
    """Distance of patch corners; None is the patch's side, a grid without overlap."""
    strategy: Strategy = Strategy.MEAN
    exclusion: Exclusion = Exclusion.PAPER
    scope: Scope = Scope.COHORT
    seed: int = 0
    per_slide_cap: Annotated[int, Field(ge=1)] | None = None
    """Patches of one slide at most in the list over several."""
    extra_scores: bool = False
    """Whether patch-scores.csv also has what `uga.ranking.extras` measures."""

    @property
    def keeps_extra(self) -> bool:
        """Whether extra scores are kept: because they were asked for, or because the strategy orders by them."""
        return self.extra_scores or self.strategy.needs_extra

    @property
    def stride(self) -> int:
        """Distance of patch corners in grid pixels."""
        return self.patch_px if self.stride_px is None else self.stride_px
