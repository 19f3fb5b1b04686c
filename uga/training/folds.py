"""Train the folds of an ensemble; finished folds are kept, a killed one is resumed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict

from uga.memory import keep_large_arrays_apart
from uga.output.files import write_atomic
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


@dataclass(frozen=True, slots=True)
class Compute:
    """What one process trains with.

    Attributes:
        device: Where to train.
        threads: Threads of the network on a CPU; None for all cores.
        augmentation_processes: nnU-Net's loader processes; 0, in this process, is the reproducible one.
    """

    device: torch.device
    threads: int | None = None
    augmentation_processes: int = 0

    def apply(self) -> None:
        """Set this process up for it."""
        keep_large_arrays_apart(False)
        os.environ["nnUNet_n_proc_DA"] = str(self.augmentation_processes)  # noqa: SIM112 - nnU-Net's own spelling
        if self.threads is not None or self.device.type == "cpu":
            torch.set_num_threads(self.threads or os.cpu_count() or 1)


def train_folds(
    dataset: Dataset,
    folds: Sequence[int],
    *,
    device: torch.device,
    threads: int | None = None,
    augmentation_processes: int = 0,
) -> Path:
    """Train the folds of a preprocessed dataset, one after the other, in this process.

    Args:
        dataset: Preprocessed by `uga.training.dataset.preprocess`.
        folds: Which folds of its splits.
        device: Where to train.
        threads: Threads of the network on a CPU; default all cores.
        augmentation_processes: nnU-Net's loader processes; 0, in this process, is the reproducible one.

    Returns:
        nnU-Net's results folder of the ensemble: plans, dataset.json and ``fold_k``.
    """
    results = prepare_results(dataset)
    compute = Compute(device, threads, augmentation_processes)
    compute.apply()
    waiting = [fold for fold in folds if not is_trained(results, fold)]
    for fold in folds:
        if fold not in waiting:
            log.info("fold %d is trained already.", fold)
    for number, fold in enumerate(waiting, start=1):
        train_fold(dataset, fold, device, folds_left=len(waiting) - number)
    return results


def prepare_results(dataset: Dataset) -> Path:
    """The results folder; results of other data or settings are dropped, so that no fold is resumed on them.

    Raises:
        UserError: the splits leak.
    """
    splits, index = dataset.splits(), dataset.index()
    check_splits(splits, {record.name: record.patient for record in index.patches})
    results = results_folder(dataset)
    file = results / "request.json"
    request = {"plans": dataset.plans(), "splits": splits, "patches": index.model_dump(mode="json")}
    text = json.dumps(request, indent=1, sort_keys=True)
    if file.exists() and file.read_text("utf-8") == text:
        return results
    if results.exists():
        log.warning("%s holds results of other data or settings; starting anew.", results)
        shutil.rmtree(results)
    results.mkdir(parents=True)
    write_atomic(file, text.encode())
    return results


def is_trained(results: Path, fold: int) -> bool:
    """Whether a fold is trained and validated."""
    folder = results / f"fold_{fold}"
    return (folder / "checkpoint_final.pth").exists() and (folder / "validation.json").exists()


def results_folder(dataset: Dataset) -> Path:
    """nnU-Net's results folder of a dataset and our trainer."""
    name = f"UgaTrainer__{dataset.plans()['plans_name']}__{CONFIGURATION}"
    return dataset.folders.results / dataset.name / name


def validation_dice(results: Path, fold: int) -> dict[str, FoldDice]:
    """Label -> agreement on the validation patches of a trained fold."""
    content = json.loads((results / f"fold_{fold}" / "validation.json").read_text("utf-8"))
    return {label: FoldDice.model_validate(entry) for label, entry in content.items()}


def train_fold(dataset: Dataset, fold: int, device: torch.device, *, folds_left: int = 0) -> None:
    """Train and validate a fold, from its last checkpoint if it has one.

    Args:
        dataset: Preprocessed.
        fold: Which of its splits.
        device: Where to train.
        folds_left: How many folds this process trains after this one, for the time left.
    """
    from uga.training.trainer import UgaTrainer  # noqa: PLC0415 - nnU-Net reads its environment on import

    folder = results_folder(dataset) / f"fold_{fold}"
    final, latest = folder / "checkpoint_final.pth", folder / "checkpoint_latest.pth"
    checkpoint = final if final.exists() else latest if latest.exists() else None
    plans: dict[str, Any] = {**dataset.plans(), "continue_training": checkpoint is not None}
    trainer = UgaTrainer(plans, CONFIGURATION, fold, dataset.dataset_json(), device)
    trainer.folds_left = folds_left
    trainer.initialize()
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
        log.info("fold %d goes on after epoch %d.", fold, trainer.current_epoch)
    if checkpoint != final:
        trainer.run_training()
    trainer.perform_actual_validation()
