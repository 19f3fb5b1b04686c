"""What a training needs of disk and memory, told before it starts."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from uga.errors import UserError
from uga.training.presets import CONFIGURATION

if TYPE_CHECKING:
    from pathlib import Path

    from uga.training.presets import Preset
    from uga.training.workers import Slot

log = logging.getLogger(__name__)

# Measured on H&E at 1 um/px: PNG of compression level 1; nnU-Net's compressed float32, and its list of label places.
_RAW_BYTES_PER_PX = 1.5
_PREPROCESSED_BYTES_PER_PX = 3.5
_BYTES_PER_PATCH = 700_000
# A checkpoint holds weights and momentum, a model folder the weights for us and for nnU-Net, all float32.
_CHECKPOINT_BYTES_PER_WEIGHT = 8
_MODEL_BYTES_PER_WEIGHT = 8
# nnU-Net's planner: this many feature map values at this batch size take 8 GB on a GPU, with mixed precision.
_REFERENCE_BYTES = 8e9
_REFERENCE_VALUES = 85e6
_REFERENCE_BATCH = 12
_FLOAT32_FACTOR = 2.0
_PROCESS_BYTES = 1e9
_LOADER_BYTES = 0.5e9


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes.

    Attributes:
        work: Disk of the work folder: patches, preprocessed patches, checkpoints.
        output: Disk of the model folder.
        memory: Main memory of all processes together.
        device: Memory of each GPU; 0 without one.
    """

    work: float
    output: float
    memory: float
    device: float


def estimate(preset: Preset, slots: list[Slot], *, patches: int, folds: int, augmentation_processes: int) -> Needs:
    """Needs of a training.

    Args:
        preset: Patch, window, batch and network.
        slots: What is trained at the same time.
        patches: Patches of all slides, held-out ones included.
        folds: Folds of the ensemble.
        augmentation_processes: Loader processes of each slot.
    """
    weights, feature_map = _network_size(preset)
    patch_px = preset.notes.sampling.patch_px**2
    checkpoints = _CHECKPOINT_BYTES_PER_WEIGHT * weights
    per_patch = (_RAW_BYTES_PER_PX + _PREPROCESSED_BYTES_PER_PX) * patch_px + _BYTES_PER_PATCH
    ranks = len(slots[0].devices)
    training = _REFERENCE_BYTES * preset.batch_size / ranks * feature_map / (_REFERENCE_VALUES * _REFERENCE_BATCH)
    on_gpu = not slots[0].devices[0].startswith("cpu")
    processes = len(slots) * ranks
    devices = {device for slot in slots for device in slot.devices}
    return Needs(
        # While a fold trains, its last and best checkpoints lie beside the one that is being written.
        work=patches * per_patch + checkpoints * (folds + 2 * len(slots)),
        output=_MODEL_BYTES_PER_WEIGHT * weights * folds,
        memory=processes
        * (
            _PROCESS_BYTES
            + 2 * checkpoints
            + augmentation_processes * 1.5 * _LOADER_BYTES
            + (0 if on_gpu else training * _FLOAT32_FACTOR)
        ),
        device=training * processes / len(devices) if on_gpu else 0.0,
    )


def check_needs(needs: Needs, *, work: Path, output: Path) -> None:
    """Tell the needs and refuse a disk that is too small; both folders exist.

    Raises:
        UserError: the disk lacks space.
    """
    gpu = f", {needs.device / 1e9:.1f} GB on each GPU" if needs.device else ""
    log.info(
        "Needs about %.1f GB of disk for work and %.1f GB for the model, %.1f GB of memory%s.",
        needs.work / 1e9,
        needs.output / 1e9,
        needs.memory / 1e9,
        gpu,
    )
    there = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    missing = max(0.0, needs.work - there)
    if work.stat().st_dev == output.stat().st_dev:
        wanted = [(work, missing + needs.output)]
    else:
        wanted = [(work, missing), (output, needs.output)]
    for folder, size in wanted:
        free = shutil.disk_usage(folder).free
        if size > free:
            raise UserError(
                f"{folder} has {free / 1e9:.1f} GB free, the training needs about {size / 1e9:.1f} GB more; make room, "
                "name another folder, or lower the caps of patches."
            )
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needs.memory > total:
        log.warning("This machine has %.1f GB of memory, which may not do; lower --parallel.", total / 1e9)


def _network_size(preset: Preset) -> tuple[int, int]:
    """Weights of one fold, and values of all feature maps of one window."""
    architecture = preset.plans["configurations"][CONFIGURATION]["architecture"]
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            input_channels=3,
            output_channels=2,
            allow_init=False,
            deep_supervision=True,
        )
    weights = sum(parameter.numel() for parameter in network.parameters())
    return weights, int(network.compute_conv_feature_map_size(preset.window_px))
