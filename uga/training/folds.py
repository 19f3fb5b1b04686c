"""Train the folds of an ensemble, one after the other; finished folds are kept, a killed one is resumed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict

from uga.training.presets import CONFIGURATION
from uga.training.splits import check_splits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.training.dataset import Dataset

log = logging.getLogger(__name__)


class FoldDice(BaseModel):
    """Pooled agreement on a fold's validation patches, pixels; ``dice`` is None where the label never occurs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice: float | None
    tp: int
    fp: int
    fn: int


def train_folds(
    dataset: Dataset,
    folds: Sequence[int],
    *,
    device: torch.device,
    threads: int | None = None,
    augmentation_processes: int = 0,
) -> Path:
    """Train the folds of a preprocessed dataset.

    Args:
        dataset: Preprocessed by `uga.training.dataset.preprocess`.
        folds: Which folds of its splits.
        device: Where to train.
        threads: Threads of the network on a CPU; default all cores.
        augmentation_processes: nnU-Net's loader processes; 0, in this process, is the reproducible one.

    Returns:
        nnU-Net's results folder of the ensemble: plans, dataset.json and ``fold_k``.
    """
    os.environ["nnUNet_n_proc_DA"] = str(augmentation_processes)  # noqa: SIM112 - nnU-Net's own spelling
    if threads is not None or device.type == "cpu":
        torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    splits = json.loads((dataset.preprocessed / "splits_final.json").read_text("utf-8"))
    index = dataset.index()
    check_splits(splits, {record.name: record.patient for record in index.patches})
    _keep_only_of(
        results_folder(dataset),
        {"plans": dataset.plans(), "splits": splits, "patches": index.model_dump(mode="json")},
    )
    for fold in folds:
        _train_fold(dataset, fold, device)
    return results_folder(dataset)


def results_folder(dataset: Dataset) -> Path:
    """nnU-Net's results folder of a dataset and our trainer."""
    name = f"UgaTrainer__{dataset.plans()['plans_name']}__{CONFIGURATION}"
    return dataset.folders.results / dataset.name / name


def validation_dice(results: Path, fold: int) -> dict[str, FoldDice]:
    """Label -> agreement on the validation patches of a trained fold."""
    content = json.loads((results / f"fold_{fold}" / "validation.json").read_text("utf-8"))
    return {label: FoldDice.model_validate(entry) for label, entry in content.items()}


def _keep_only_of(results: Path, request: dict[str, Any]) -> None:
    """Drop results that answer another request, so that no fold is resumed on other data or settings."""
    file = results / "request.json"
    text = json.dumps(request, indent=1, sort_keys=True)
    if results.exists() and not (file.exists() and file.read_text("utf-8") == text):
        log.warning("%s holds results of other data or settings; starting anew.", results)
        shutil.rmtree(results)
    results.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def _train_fold(dataset: Dataset, fold: int, device: torch.device) -> None:
    from uga.training.trainer import UgaTrainer  # noqa: PLC0415 - nnU-Net reads its environment on import

    folder = results_folder(dataset) / f"fold_{fold}"
    final, latest = folder / "checkpoint_final.pth", folder / "checkpoint_latest.pth"
    if final.exists() and (folder / "validation.json").exists():
        log.info("fold %d is trained already.", fold)
        return
    checkpoint = final if final.exists() else latest if latest.exists() else None
    plans: dict[str, Any] = {**dataset.plans(), "continue_training": checkpoint is not None}
    trainer = UgaTrainer(plans, CONFIGURATION, fold, dataset.dataset_json(), device)
    trainer.initialize()
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
        log.info("fold %d goes on after epoch %d.", fold, trainer.current_epoch)
    if checkpoint != final:
        trainer.run_training()
    trainer.perform_actual_validation()
