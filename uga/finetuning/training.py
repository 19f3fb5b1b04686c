"""Fine-tune the folds of an ensemble; finished folds are kept, a killed one is resumed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from uga.model.folder import load_model
from uga.model.network import load_network
from uga.processes import Job, run_together
from uga.training.folds import Compute
from uga.training.presets import CONFIGURATION
from uga.training.workers import REMEDY, deal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.model.folder import Model
    from uga.training.dataset import Dataset
    from uga.training.workers import Slot

log = logging.getLogger(__name__)

_FINAL, _LATEST = "checkpoint_final.pth", "checkpoint_latest.pth"


def train_folds(dataset: Dataset, model: Model, devices: Sequence[str], *, parallel: int, threads: int) -> Path:
    """Fine-tune all folds of the parent on a prepared dataset.

    Args:
        dataset: From `uga.finetuning.dataset.prepare`.
        model: The parent.
        devices: Such as ``cpu``, or ``cuda:0`` and ``cuda:1``; folds are dealt to them.
        parallel: Folds at the same time on each device; with more than one, each group of folds has a process of its
            own.
        threads: CPU threads of a network (`threads_of_a_fold`).

    Returns:
        nnU-Net's results folder: ``fold_k/checkpoint_final.pth``.

    Raises:
        UserError: a process failed, for lack of memory for instance; the others were stopped.
    """
    waiting = [fold for fold in model.folds if not (results_folder(dataset) / f"fold_{fold}" / _FINAL).exists()]
    if len(waiting) < len(model.folds):
        log.info("%d of %d folds are trained already.", len(model.folds) - len(waiting), len(model.folds))
    slots = deal(waiting, devices, parallel=parallel)
    compute = Compute(torch.device("cpu"), threads)
    if len(slots) == 1:
        _train_slot(slots[0], dataset, model.path, compute)
    elif slots:
        run_together([Job(slot.name, _train_slot, (slot, dataset, model.path, compute), REMEDY) for slot in slots])
    return results_folder(dataset)


def threads_of_a_fold(devices: Sequence[str], parallel: int, folds: int) -> int:
    """CPU threads of a network: torch's (``OMP_NUM_THREADS``), shared out among the folds trained at the same time.

    Their number changes the last digits of the weights.
    """
    return max(1, torch.get_num_threads() // min(folds, len(devices) * parallel))


def results_folder(dataset: Dataset) -> Path:
    """nnU-Net's results folder of a dataset and `FinetuneTrainer`."""
    name = f"FinetuneTrainer__{dataset.plans()['plans_name']}__{CONFIGURATION}"
    return dataset.folders.results / dataset.name / name


def _train_slot(slot: Slot, dataset: Dataset, parent: Path, compute: Compute) -> None:
    """The folds of a slot, one after the other, in this process."""
    dataset.folders.activate()
    compute.apply()
    model = load_model(parent)
    for number, fold in enumerate(slot.folds, start=1):
        _train_fold(dataset, model, fold, torch.device(slot.devices[0]), folds_left=len(slot.folds) - number)


def _train_fold(dataset: Dataset, model: Model, fold: int, device: torch.device, *, folds_left: int) -> None:
    from uga.finetuning.trainer import FinetuneTrainer  # noqa: PLC0415 - nnU-Net reads its environment on import

    latest = results_folder(dataset) / f"fold_{fold}" / _LATEST
    plans: dict[str, Any] = {**dataset.plans(), "continue_training": latest.exists()}
    trainer = FinetuneTrainer(plans, CONFIGURATION, fold, dataset.dataset_json(), device)
    trainer.folds_left = folds_left
    trainer.initialize()
    trainer.warm_start(load_network(model.plan, model.weights_file(fold)).state_dict())
    if latest.exists():
        trainer.load_checkpoint(str(latest))
        log.info("fold %d goes on after epoch %d.", fold, trainer.current_epoch)
    trainer.run_training()
