"""What a user may choose for a fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from uga.model.choices import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable

RECIPE = 2
"""Goes up when the same options and corrections come to train otherwise, which is another fine-tuning then."""
WARM_UP_SHARE = 0.1
"""Share of all iterations over which the learning rate rises from zero to its peak."""
PULL = 50.0
"""Without replay, weights decay towards the parent's by this factor times the learning rate, each iteration.

AdamW moves a weight by about the learning rate, so none gets further away than about 1 / PULL.
"""


Triple = tuple[float, float, float]
"""Of red, green, blue, or of three stains."""


def triple(values: Iterable[float]) -> Triple:
    """Three numbers, of an array for instance."""
    first, second, third = (float(value) for value in values)
    return first, second, third


class TrainingOptions(BaseModel):
    """Options that decide the new weights, beside corrections, replay and parent.

    Attributes:
        epochs: Epochs of ``iterations`` batches each; a killed training loses at most one.
        iterations: Batches in an epoch.
        lr: Learning rate after the warm-up; polynomial decay follows.
        mix: Share of every batch that is corrections where there is replay.
        recolour: Share of the replay that is shown in the colours of a corrected centre.
        variants: Number of flipped and stain-shifted variants of each correction.
        seed: Same seed, device, threads and input: same weights.
        precision: What the networks are trained in: ``fp32``; ``bf16``, by autocast with weights in fp32; or ``fp16``,
            nnU-Net's own autocast on a GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[int, Field(ge=1)] = 8
    iterations: Annotated[int, Field(ge=1)] = 25
    lr: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    mix: Annotated[float, Field(gt=0, le=1)] = 0.5
    recolour: Annotated[float, Field(ge=0, le=1)] = 0.0
    variants: Annotated[int, Field(ge=1)] = 100
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "fp32"


class Points(BaseModel):
    """What 0 (``black``) and 255 (``white``) became in each channel of a preprocessed patch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    black: Triple
    white: Triple


class Recolouring(BaseModel):
    """How old patches are shown in the colours of the corrected centres.

    Attributes:
        share: Of the old patches in a batch.
        points: Of all old patches.
        gains: Patch name -> for each corrected centre the factors of optical density (R, G, B) that give its colours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Annotated[float, Field(gt=0, le=1)]
    points: Points
    gains: dict[str, tuple[Triple, ...]]


class TrainerSettings(BaseModel):
    """What `FinetuneTrainer` reads from its plans.

    Attributes:
        corrections: Names of the corrections, and their black and white.
        recolouring: Of old patches; None where it is not done.
        share: Mean share of a batch that is corrections.
        variants: Number of variants of each correction.
        warm_up: Iterations until the peak of the learning rate.
        pull: Decay towards the parent's weights, in units of the learning rate.
        bf16: Whether the networks run in bf16 on the CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corrections: dict[str, Points]
    recolouring: Recolouring | None = None
    share: Annotated[float, Field(gt=0, le=1)]
    variants: Annotated[int, Field(ge=1)]
    warm_up: Annotated[int, Field(ge=0)]
    pull: Annotated[float, Field(ge=0)]
    bf16: bool = False
