"""Folds at the same time: several on one device, over several GPUs, or one fold on several GPUs (DDP)."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed

from uga.errors import UserError
from uga.model.gpus import find_gpus
from uga.processes import Job, run_together
from uga.training.folds import Compute, is_trained, prepare_results, results_folder, train_fold, train_folds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.training.dataset import Dataset

REMEDY = "start again to go on from the last checkpoint, with fewer folds at the same time or a smaller preset"
"""Against folds that die in training."""

log = logging.getLogger(__name__)

# The first process validates a fold while the others wait at the barrier.
_TIMEOUT = timedelta(days=1)


def resolve_devices(choice: str) -> tuple[str, ...]:
    """Devices of ``auto``, ``cpu``, ``cuda`` or a list such as ``cuda:0,cuda:1``.

    Raises:
        UserError: no such devices, or one that does not compute.
    """
    names = [name.strip() for name in choice.split(",")]
    if names == ["cpu"]:
        return ("cpu",)
    gpus = find_gpus()
    if names == ["auto"]:
        return gpus.usable_with_warnings()[:1] or ("cpu",)
    wanted = ["cuda:0" if name == "cuda" else name for name in names]
    if faults := [gpus.faults[name] for name in wanted if name in gpus.faults]:
        raise UserError(faults[0])
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(gpus.usable):
        found = f"the GPUs found are {', '.join(gpus.usable)}" if gpus.usable else "no GPU was found"
        raise UserError(f"--devices {choice} cannot be used: {found}; name each once, or cpu alone.")
    return tuple(wanted)


@dataclass(frozen=True, slots=True)
class Slot:
    """Folds that are trained one after the other on the same devices; more than one device train a fold together."""

    devices: tuple[str, ...]
    folds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For messages."""
        folds = " and ".join(map(str, self.folds))
        return f"Training fold {folds} on {' and '.join(self.devices)}"


def deal(folds: Sequence[int], devices: Sequence[str], *, parallel: int = 1, devices_per_fold: int = 1) -> list[Slot]:
    """Deal folds to devices in turn.

    Args:
        folds: Folds to train.
        devices: Such as ``cuda:0``, ``cuda:1``, or ``cpu``.
        parallel: Folds at the same time on a device, or on each group of devices.
        devices_per_fold: Devices that train a fold together.

    Raises:
        UserError: the devices do not make whole groups.
    """
    if len(devices) % devices_per_fold:
        raise UserError(
            f"{len(devices)} devices do not make groups of {devices_per_fold}; name a multiple of it with --devices."
        )
    groups = [tuple(devices[i : i + devices_per_fold]) for i in range(0, len(devices), devices_per_fold)] * parallel
    slots = [Slot(group, tuple(folds[number :: len(groups)])) for number, group in enumerate(groups)]
    return [slot for slot in slots if slot.folds]


def train_slots(dataset: Dataset, slots: Sequence[Slot], *, threads: int | None, augmentation_processes: int) -> Path:
    """Train every slot in a process of its own, all at the same time.

    Args:
        dataset: Preprocessed.
        slots: From `deal`.
        threads: Threads of each network on a CPU; default the cores, shared out.
        augmentation_processes: nnU-Net's loader processes of each slot.

    Returns:
        nnU-Net's results folder of the ensemble.

    Raises:
        UserError: a process failed; the others were stopped.
    """
    results = prepare_results(dataset)
    shared = max(1, (os.cpu_count() or 1) // sum(len(slot.devices) for slot in slots))
    compute = Compute(torch.device("cpu"), threads or shared, augmentation_processes)
    run_together([Job(slot.name, _train_slot, (slot, dataset, compute), REMEDY) for slot in slots])
    return results


def _train_slot(slot: Slot, dataset: Dataset, compute: Compute) -> None:
    dataset.folders.activate()
    device = torch.device(slot.devices[0])
    if device.type == "cuda":
        # Before CUDA starts in this process: nnU-Net takes the first devices that it sees.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_visible(torch.device(each)) for each in slot.devices)
        device = torch.device("cuda", 0)
    if len(slot.devices) == 1:
        train_folds(
            dataset,
            slot.folds,
            device=device,
            threads=compute.threads,
            augmentation_processes=compute.augmentation_processes,
        )
        return
    with tempfile.TemporaryDirectory(dir=dataset.folders.work) as folder:
        size = len(slot.devices)
        rest = (size, Path(folder) / "rendezvous", slot.folds, dataset, replace(compute, device=device))
        run_together([Job(slot.name, train_rank, (rank, *rest), REMEDY) for rank in range(size)])


def _visible(device: torch.device) -> str:
    """The name of a GPU for CUDA, where the environment may already show only some of them."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    index = device.index or 0
    return shown.split(",")[index] if shown else str(index)


def train_rank(rank: int, size: int, store: Path, folds: Sequence[int], dataset: Dataset, compute: Compute) -> None:
    """One of the processes that train a fold together, as nnU-Net's own DDP does.

    Args:
        rank: 0 to size - 1; 0 writes checkpoints and validates.
        size: Number of processes.
        store: A file in a folder that all processes see, where they find each other.
        folds: Folds, one after the other.
        dataset: Preprocessed.
        compute: The device of rank 0, threads and loader processes of each rank.
    """
    dataset.folders.activate()
    on_gpu = compute.device.type == "cuda"
    device = torch.device("cuda", rank) if on_gpu else compute.device
    replace(compute, device=device).apply()
    if on_gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=_TIMEOUT
    )
    try:
        waiting = [fold for fold in folds if not is_trained(results_folder(dataset), fold)]
        # All have looked before the first changes anything.
        torch.distributed.barrier()
        for number, fold in enumerate(waiting, start=1):
            train_fold(dataset, fold, device, folds_left=len(waiting) - number)
            torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
