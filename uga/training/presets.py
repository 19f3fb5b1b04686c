"""Presets: readable nnU-Net plans with the few things nnU-Net's plans do not say under the key ``uga``."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uga.errors import UserError
from uga.model.card import first_problem
from uga.training.sampling import SamplingOptions

CONFIGURATION = "2d"


class TrainingSettings(BaseModel):
    """What `UgaTrainer` changes in nnU-Net's trainer; the rest is nnU-Net's.

    Attributes:
        epochs: Epochs of ``iterations_per_epoch`` batches each.
        iterations_per_epoch: Batches an epoch.
        validation_iterations: Batches of the pseudo Dice after each epoch.
        initial_lr: Learning rate of the first epoch; nnU-Net's polynomial decay follows.
        foreground_oversampling: Share of a batch that is forced to hold foreground.
        checkpoint_every_epochs: A killed training loses at most this many epochs.
        hed_jitter: Half-width of the random stain scaling and shift in HED space; 0 turns it off.
        patience: Epochs without a better smoothed pseudo Dice after which a fold ends, with its best weights; None
            trains all epochs and keeps the last weights, as nnU-Net does.
        seed: Same seed, same data, same device: same weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=1000, ge=1)
    iterations_per_epoch: int = Field(default=250, ge=1)
    validation_iterations: int = Field(default=50, ge=1)
    initial_lr: float = Field(default=1e-2, gt=0)
    foreground_oversampling: float = Field(default=0.33, ge=0, le=1)
    checkpoint_every_epochs: int = Field(default=10, ge=1)
    hed_jitter: float = Field(default=0.0, ge=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    seed: int = 0


class PresetNotes(BaseModel):
    """The key ``uga`` of a preset's plans."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    spacing_um: float = Field(gt=0)
    sampling: SamplingOptions
    training: TrainingSettings


class Preset(BaseModel):
    """nnU-Net plans and the notes in them."""

    model_config = ConfigDict(frozen=True)

    plans: dict[str, Any]
    notes: PresetNotes

    @property
    def channel_names(self) -> dict[str, str]:
        """`channel_names` of nnU-Net's dataset.json, whose values say how channels are normalised."""
        scheme = self.plans["configurations"][CONFIGURATION]["normalization_schemes"][0]
        name = {"RGBTo01Normalization": "rgb_to_0_1", "ZScoreNormalization": "zscore"}.get(scheme, scheme)
        return {"0": name, "1": name, "2": name}

    @property
    def window_px(self) -> tuple[int, int]:
        """Window of the network, (height, width)."""
        height, width = self.plans["configurations"][CONFIGURATION]["patch_size"]
        return height, width

    @property
    def batch_size(self) -> int:
        """Windows of a batch, over all devices that train a fold together."""
        return int(self.plans["configurations"][CONFIGURATION]["batch_size"])

    def with_notes(self, **changes: SamplingOptions | TrainingSettings | float) -> Preset:
        """The same preset with another spacing, other sampling or training settings."""
        notes = self.notes.model_copy(update=changes)
        return Preset(plans=self.plans, notes=notes)

    def plans_for(self, dataset_name: str, intensities: dict[str, Any]) -> dict[str, Any]:
        """Complete nnU-Net plans for a dataset.

        Args:
            dataset_name: nnU-Net dataset name, ``Dataset501_Name``.
            intensities: Foreground intensities per channel of the dataset's fingerprint.
        """
        return {
            **self.plans,
            "dataset_name": dataset_name,
            "foreground_intensity_properties_per_channel": intensities,
            "uga": self.notes.model_dump(mode="json", exclude_none=True),
        }


def load_preset(name_or_path: str) -> Preset:
    """A preset that comes with UGA by its name, or a user's own by the path of its JSON file.

    Raises:
        UserError: no such preset, or not valid.
    """
    text = preset_text(name_or_path)
    try:
        plans = json.loads(text)
        notes = PresetNotes.model_validate(plans.pop("uga"))
        window = plans["configurations"][CONFIGURATION]["patch_size"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else repr(error)
        raise UserError(f"The preset {name_or_path} is not valid ({reason}); compare it with a shipped one.") from error
    if notes.sampling.patch_px < max(window):
        raise UserError(
            f"The preset {name_or_path} samples patches of {notes.sampling.patch_px} px for windows of "
            f"{max(window)} px; make sampling.patch_px at least as large."
        )
    return Preset(plans=plans, notes=notes)


def preset_text(name_or_path: str) -> str:
    """The file of a preset, for a user to copy and change.

    Raises:
        UserError: no such preset.
    """
    folder = resources.files("uga.training") / "presets"
    shipped = {Path(entry.name).stem: entry for entry in folder.iterdir() if entry.name.endswith(".json")}
    entry = shipped.get(name_or_path)
    try:
        return entry.read_text("utf-8") if entry else Path(name_or_path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"There is no preset '{name_or_path}'; use one of {', '.join(sorted(shipped))} or the path of a JSON file."
        ) from error
