"""Iterations of fine-tuning: ours against nnU-Net's own trainer on the same data, network, window and batch size."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uga.finetuning.dataset import DATASET_NAME, prepare, work_plans
from uga.finetuning.options import TrainingOptions
from uga.finetuning.patches import pack_patches
from uga.finetuning.splits import deal
from uga.memory import configure_heap
from uga.model.arithmetic import find_devices, resolve_training_precision
from uga.model.folder import Model, load_model
from uga.model.network import load_network
from uga.training.dataset import Dataset
from uga.training.environment import NnunetFolders
from uga.training.folds import Compute
from uga.training.packs import model_pack

if TYPE_CHECKING:
    from pathlib import Path

_CORRECTIONS = 5
_WARM_UP = 5


def iterate(model_folder: Path, work: Path, who: str, iterations: int) -> dict[str, Any]:
    """Train fold 0 for so many iterations, after a few that do not count.

    Args:
        model_folder: A model with a replay pack, whose patches stand for the corrections too.
        work: For nnU-Net's folders; patches that are there are kept.
        who: ``uga``; ``nnunet``: nnU-Net's trainer with augmentation in this process, as ours has it; or
            ``nnunet-workers``: with its default of worker processes.
        iterations: How many are timed.
    """
    model = load_model(model_folder)
    dataset = _prepared(model, work)
    device = torch.device(find_devices("auto")[0])
    if who == "uga":  # as the command does
        configure_heap()
        Compute(device).apply()
    else:
        os.environ["nnUNet_n_proc_DA"] = "2" if who == "nnunet-workers" else "0"  # noqa: SIM112
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from uga.finetuning.trainer import FinetuneTrainer

    kind = FinetuneTrainer if who == "uga" else nnUNetTrainer
    trainer = kind({**dataset.plans(), "continue_training": False}, "2d", 0, dataset.dataset_json(), device)
    trainer.initialize()
    if who == "uga":
        trainer.warm_start(load_network(model.plan, model.weights_file(0)).state_dict())
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    for _ in range(_WARM_UP):
        trainer.train_step(next(trainer.dataloader_train))
    start, loading = time.perf_counter(), 0.0
    for _ in range(iterations):
        before = time.perf_counter()
        batch = next(trainer.dataloader_train)
        loading += time.perf_counter() - before
        trainer.train_step(batch)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "iterations": iterations, "loading_s": loading, "batch": trainer.batch_size}


def _prepared(model: Model, work: Path) -> Dataset:
    pack = model_pack(model, "replay")
    assert pack is not None
    replay = pack_patches(pack, model)
    corrections = [
        replace(
            patch,
            name=f"correction_{number:03d}",
            slide=f"slide{number}",
            patient=f"slide{number}",
            centre="corrected",
            fold=None,
            read_labels=lambda patch=patch: np.array(patch.read_labels()),
        )
        for number, patch in enumerate(replay[:_CORRECTIONS])
    ]
    dataset = Dataset(DATASET_NAME, NnunetFolders(work))
    dataset.folders.activate()
    held_out = deal(corrections, replay, earlier={}, folds=len(model.folds), seed=0)
    precision = resolve_training_precision("auto", find_devices("auto"))
    preset = work_plans(
        dataset,
        model,
        corrections,
        replay,
        TrainingOptions(precision=precision),
    )
    prepare(dataset, model, preset, corrections, replay, held_out)
    return dataset
