"""The variants of a correction: all eight flips and turns, hue and stains shifted, drawn once from a seed.

A variant is a rule, not a file: it is applied to the crop that a batch needs. That equals a crop from a stored variant,
because colours change pixel by pixel and flips commute with cropping, and costs no disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from uga.finetuning.options import Triple, triple
from uga.training.stain import HedJitter

STAIN_SCALING = 0.05
"""Half-width of the scaling of each stain, as in the published pathology trainers (``hed005``)."""
STAIN_SHIFT = 0.01
"""Half-width of the shift of each stain; their 0.05 tints glass and hides what is typical of a centre."""
HUE_DEGREES = 10.0
"""Half-width of the hue rotation."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One rule: ``turns`` quarter turns, perhaps mirrored; stains scaled and shifted, hue turned by ``hue`` degrees."""

    turns: int = 0
    mirrored: bool = False
    stain_factor: Triple = (1.0, 1.0, 1.0)
    stain_offset: Triple = (0.0, 0.0, 0.0)
    hue: float = 0.0

    def place(self, image: torch.Tensor) -> torch.Tensor:
        """Turn and mirror (..., h, w)."""
        turned = torch.rot90(image, self.turns, (-2, -1))
        return torch.flip(turned, (-1,)) if self.mirrored else turned

    def colour(self, image: torch.Tensor) -> torch.Tensor:
        """Shift the colours of RGB (3, h, w), float32 in 0..1; same range."""
        if self.stain_factor != (1.0, 1.0, 1.0) or self.stain_offset != (0.0, 0.0, 0.0):
            image = _StainShift(self.stain_factor, self.stain_offset)(image=image)["image"]
        if self.hue:
            image = torch.tensordot(_hue_rotation(self.hue), image, dims=1).clamp(0, 1)
        return image


UNCHANGED = Variant()


def draw_variants(name: str, count: int, *, seed: tuple[int, ...], square: bool) -> tuple[Variant, ...]:
    """The variants of one correction; the first is the correction as it is.

    Args:
        name: Of the correction.
        count: How many.
        seed: Same seed and name, same variants; the folds of an ensemble have different seeds.
        square: Whether crops are square; otherwise quarter turns are left out.
    """
    rng = np.random.default_rng([*seed, *name.encode()])
    turns = (0, 1, 2, 3) if square else (0, 2)
    places = [(turn, mirrored) for turn in turns for mirrored in (False, True)]
    drawn = [UNCHANGED]
    for number in range(1, count):
        turn, mirrored = places[number % len(places)]
        drawn.append(
            Variant(
                turns=turn,
                mirrored=mirrored,
                stain_factor=triple(1 + rng.uniform(-STAIN_SCALING, STAIN_SCALING, 3)),
                stain_offset=triple(rng.uniform(-STAIN_SHIFT, STAIN_SHIFT, 3)),
                hue=float(rng.uniform(-HUE_DEGREES, HUE_DEGREES)),
            )
        )
    return tuple(drawn)


class _StainShift(HedJitter):
    """`HedJitter` with parameters that are given, not drawn."""

    def __init__(self, factor: Triple, offset: Triple) -> None:
        super().__init__(0.0)
        self._parameters = {"factor": torch.tensor(factor), "offset": torch.tensor(offset)}

    def get_parameters(self, **_: object) -> dict[str, torch.Tensor]:
        return self._parameters


def _hue_rotation(degrees: float) -> torch.Tensor:
    """RGB rotated about the grey axis (Rodrigues): grey stays grey, the sum of the channels stays."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)) / math.sqrt(3)
    along = torch.full((3, 3), (1 - cosine) / 3)
    across = sine * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    return cosine * torch.eye(3) + along + across
