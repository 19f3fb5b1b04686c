"""``uga model import``: a trained-model folder of nnU-Net v2 becomes a model folder."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynamic_network_architectures.building_blocks.helper import get_matching_batchnorm
from pydantic import ValidationError
from torch import nn

from uga.errors import ModelError
from uga.model.card import (
    CARD_FILE,
    DATASET_FILE,
    PLANS_FILE,
    About,
    ModelCard,
    Training,
    file_sha256,
    first_problem,
    weights_path,
    write_card,
)
from uga.model.checkpoint import CHECKPOINT_FILE, read_checkpoint, write_checkpoint
from uga.model.folder import load_model, verify_model
from uga.model.network import build_network, check_window, full_state, rounded_to_half, save_weights, unique_state
from uga.model.plan import read_json, read_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uga.model.checkpoint import Checkpoint
    from uga.model.folder import Model
    from uga.model.plan import Plan

log = logging.getLogger(__name__)

_BATCHNORM_TRAINER = "nnUNetTrainerBN"
_COMPANIONS = ("dataset_fingerprint.json", "splits.json", "sockets.json", "LICENSE", "README.md", "replay", "holdout")
"""Files and folders that travel with a model when they lie in the source."""

WeightsPrecision = Literal["float32", "float16"]


def import_model(  # noqa: PLR0913 - each is a fact of its own about the model
    source: Path,
    target: Path,
    *,
    name: str,
    tumour_label: str,
    spacing_um: float,
    checkpoint: str = CHECKPOINT_FILE,
    folds: Sequence[int] | None = None,
    about: About | None = None,
    weights: WeightsPrecision = "float32",
    companions: Mapping[str, Path] | None = None,
) -> Model:
    """Make a model folder from a trained-model folder of nnU-Net v2.

    The new folder holds the plans, per fold ``model.safetensors`` and a checkpoint stripped to what nnU-Net needs for
    inference, and ``model.json``. It appears under its name only when it is complete and verified.

    Args:
        source: Folder with ``plans.json``, ``dataset.json`` and ``fold_<k>/<checkpoint>``; left untouched.
        target: The new folder; must not exist, or be empty.
        name: Name of the model.
        tumour_label: Name of the label that means tumour.
        spacing_um: Spacing of the training images, micrometres per pixel; nnU-Net does not record it.
        checkpoint: File name of the checkpoints.
        folds: Folds to import, 0, 1, 2, ...; default all in the source.
        about: Description and provenance; default states research use and the trainer.
        weights: How kernels are stored; float16 rounds them, in the checkpoints too, and halves the folder's size.
        companions: Further files and folders to travel with the model, by their name in its folder.

    Raises:
        ModelError: the source is incomplete, hostile or not a 2D RGB model, or the target exists.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} exists already; remove it or choose another folder.")
    chosen = _folds(source) if folds is None else tuple(folds)
    if not chosen or chosen != tuple(range(len(chosen))):
        raise ModelError(f"{source} gives the folds {list(chosen)}, but an ensemble needs 0, 1, 2, ... without gaps.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        for place, path in (_companions_of(source) | dict(companions or {})).items():
            _copy_companion(path, work / place)
        plan, trainer = _convert(source, work, checkpoint, chosen, weights)
        about = about or About(training=Training(trainer=trainer))
        try:
            card = ModelCard(
                **dict(about),
                name=name,
                labels=plan.labels,
                tumour_label=tumour_label,
                spacing_um=spacing_um,
                window_px=plan.window_px,
                normalisation=plan.normalisation.schemes,
                configuration=plan.configuration,
                folds=chosen,
                files=_hashes(work),
            )
        except ValidationError as error:
            raise ModelError(f"{source} cannot be imported as asked: {first_problem(error)}.") from error
        write_card(work / CARD_FILE, card)
        verify_model(work)
        _make_readable(work)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("imported %s as %s (%d folds)", source, target, len(chosen))
    return load_model(target)


def _folds(source: Path) -> tuple[int, ...]:
    names = (re.fullmatch(r"fold_(\d+)", entry.name) for entry in source.glob("fold_*") if entry.is_dir())
    found = tuple(sorted(int(match[1]) for match in names if match))
    if not found:
        raise ModelError(f"{source} holds no fold_0, fold_1, ...; name a trained-model folder of nnU-Net v2.")
    return found


def _convert(
    source: Path, work: Path, checkpoint: str, folds: Sequence[int], weights: WeightsPrecision
) -> tuple[Plan, str]:
    """Write plans and folds into ``work``; returns the plan and the trainer's name."""
    first = read_checkpoint(source / f"fold_{folds[0]}" / checkpoint)
    plans = _explicit_plans(read_json(source / PLANS_FILE), first)
    (work / PLANS_FILE).write_text(json.dumps(plans, indent=4), encoding="utf-8")
    (work / DATASET_FILE).write_text(json.dumps(read_json(source / DATASET_FILE), indent=4), encoding="utf-8")
    plan = replace(read_plan(work, first.configuration), file=source / PLANS_FILE)
    network = build_network(plan)
    check_window(plan)
    for fold in folds:
        file = source / f"fold_{fold}" / checkpoint
        state = first if fold == folds[0] else read_checkpoint(file)
        if (state.configuration, state.trainer) != (first.configuration, first.trainer):
            raise ModelError(f"{file} was trained otherwise than fold {folds[0]}; import folds of one training only.")
        _refuse_unstated_batchnorm(plan, state)
        unique = unique_state(network, state.weights, file)
        if weights == "float16":
            unique = rounded_to_half(unique, file)
        (work / f"fold_{fold}").mkdir()
        save_weights(unique, work / weights_path(fold))
        write_checkpoint(
            work / f"fold_{fold}" / CHECKPOINT_FILE, replace(state, weights=full_state(network, unique)), fold
        )
    return plan, first.trainer


def _explicit_plans(plans: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """The plans with the norm the network has: nnUNetTrainerBN puts BatchNorm in place of the plan's while it runs."""
    if checkpoint.trainer != _BATCHNORM_TRAINER:
        return plans
    try:
        configuration = plans["configurations"][checkpoint.configuration]
        kwargs = configuration["architecture"]["arch_kwargs"]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{checkpoint.file} was trained by {_BATCHNORM_TRAINER}, but the plans do not state the architecture of "
            f"configuration {checkpoint.configuration!r} itself; write it there with norm_op BatchNorm2d."
        ) from error
    batchnorm = get_matching_batchnorm(nn.Conv2d)
    kwargs["norm_op"] = f"{batchnorm.__module__}.{batchnorm.__name__}"
    kwargs["norm_op_kwargs"] = {"eps": 1e-5, "affine": True}
    return plans


def _refuse_unstated_batchnorm(plan: Plan, checkpoint: Checkpoint) -> None:
    has_statistics = any(name.endswith(".running_mean") for name in checkpoint.weights)
    if has_statistics and "BatchNorm" not in str(plan.architecture.kwargs.get("norm_op")):
        raise ModelError(
            f"{checkpoint.file} holds batch norm, which {plan.file} does not state ({checkpoint.trainer} chose it); "
            "write norm_op torch.nn.modules.batchnorm.BatchNorm2d and its norm_op_kwargs there."
        )


def _companions_of(source: Path) -> dict[str, Path]:
    found = {name: source / name for name in _COMPANIONS}
    return {name: path for name, path in found.items() if path.exists() and not path.is_symlink()}


def _copy_companion(path: Path, target: Path) -> None:
    files = path.rglob("*") if path.is_dir() else (path,)
    for file in files:
        if file.is_file() and not file.is_symlink():
            copy = target / file.relative_to(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _make_readable(folder: Path) -> None:
    """Let every user read the model: containers run as another one, and safetensors writes files for the owner only."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
