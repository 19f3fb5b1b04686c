"""From nnU-Net's results to a model folder that carries its provenance."""

from __future__ import annotations

import json
import logging
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict

import uga
from uga.errors import UserError
from uga.model.card import About, Training
from uga.model.importer import import_model
from uga.training.folds import results_folder, validation_dice
from uga.training.labels import IGNORE, TUMOUR
from uga.training.splits import SPLITS_FILE, slide_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from uga.model.folder import Model
    from uga.model.importer import WeightsPrecision
    from uga.training.dataset import Dataset
    from uga.training.packs import Pack
    from uga.training.presets import Preset

log = logging.getLogger(__name__)

_PACKAGES = ("nnunetv2", "torch", "numpy", "batchgeneratorsv2", "dynamic-network-architectures")


class ReleaseNotes(BaseModel):
    """What an author says about a model.

    Attributes:
        name: Name of the model.
        description: One or two sentences.
        intended_use: What it is for and what not; None for the default, research use.
        data: What it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    data: str
    intended_use: str | None = None


def release(
    dataset: Dataset,
    preset: Preset,
    target: Path,
    *,
    folds: int,
    notes: ReleaseNotes,
    weights: WeightsPrecision = "float32",
    packs: Sequence[Pack] = (),
) -> Model:
    """Make a model folder of a trained ensemble, with splits, validation Dice and, if given, packs of patches.

    Args:
        dataset: The dataset, all folds trained.
        preset: What it was trained with.
        target: The new model folder; must not exist, or be empty.
        folds: Number of folds.
        notes: What the author says.
        weights: How the kernels are stored; ``float16`` rounds them, for every reader of the folder.
        packs: To travel with the model, at most one of each purpose, in the folder of that name.

    Raises:
        UserError: a fold is not trained to its end, or a pack has other labels or another spacing.
        ModelError: the target exists.
    """
    results = results_folder(dataset)
    for fold in range(folds):
        if not (results / f"fold_{fold}" / "validation.json").exists():
            raise UserError(f"Fold {fold} in {results} is not trained to its end; run the training again to resume it.")
    index = dataset.index()
    for pack in packs:
        # Whether a label `ignore` occurs depends on the slides a pack was written from, not on the model.
        found = _judged(pack.index.labels), pack.index.spacing_um
        wanted = _judged(dataset.dataset_json()["labels"]), preset.notes.spacing_um
        if found != wanted:
            raise UserError(
                f"The pack {pack.path} has other labels or another spacing than the model ({found}, not {wanted}); "
                "write it from the model's own data."
            )
    details: dict[str, str | int | float | bool] = {
        "preset": preset.notes.description,
        "patches": len(index.patches),
        "patients": len({record.patient for record in index.patches}),
        "slides": len({record.case for record in index.patches}),
        "patch_px": preset.notes.sampling.patch_px,
        "benign_per_tumour": preset.notes.sampling.benign_per_tumour,
        "epochs": preset.notes.training.epochs,
        "iterations_per_epoch": preset.notes.training.iterations_per_epoch,
        "initial_lr": preset.notes.training.initial_lr,
        "cpu_threads": torch.get_num_threads(),
    }
    for fold in range(folds):
        dice = validation_dice(results, fold)[TUMOUR].dice
        if dice is not None:
            details[f"fold_{fold}_validation_tumour_dice"] = round(dice, 4)
    details |= {f"{pack.index.purpose}_patches": len(pack.index.items) for pack in packs}
    training = Training(
        data=notes.data,
        seed=preset.notes.training.seed,
        trainer="uga.training (nnU-Net v2 trainer)",
        versions={
            "uga": uga.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in _PACKAGES},
        },
        details=details,
    )
    about = About(description=notes.description, training=training)
    if notes.intended_use is not None:
        about = about.model_copy(update={"intended_use": notes.intended_use})
    splits = slide_splits(dataset.splits(), {record.name: record.case for record in index.patches})
    (results / SPLITS_FILE).write_text(json.dumps(splits, indent=1), "utf-8")
    return import_model(
        results,
        target,
        name=notes.name,
        tumour_label=TUMOUR,
        spacing_um=preset.notes.spacing_um,
        folds=range(folds),
        about=about,
        weights=weights,
        companions={pack.index.purpose: pack.path for pack in packs},
    )


def _judged(labels: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in labels.items() if name != IGNORE}
