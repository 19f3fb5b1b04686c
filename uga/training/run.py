"""A training from files to a model folder: what ``uga train`` does."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field

from uga.errors import UserError
from uga.model.importer import WeightsPrecision
from uga.output.files import check_writable
from uga.training.cases import Case, Unannotated, read_cohort
from uga.training.dataset import Dataset, check_cases, preprocess, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.faults import Faults
from uga.training.folds import train_folds
from uga.training.labels import LabelMapping
from uga.training.needs import check_needs, estimate
from uga.training.packs import Pack, Purpose, write_pack
from uga.training.presets import Preset
from uga.training.release import ReleaseNotes, release
from uga.training.splits import Split, read_splits
from uga.training.workers import Slot, deal, train_slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.model.folder import Model

log = logging.getLogger(__name__)

_TRAINING_SET, _HOLDOUT_SET = "Dataset501_Training", "Dataset502_Holdout"
_PACK_BYTES = 500_000_000
_PACK_QUALITY = 90
_LOADERS_PER_GPU = 12


class ComputeOptions(BaseModel):
    """Where a training runs.

    Attributes:
        devices: Such as ``cpu``, or ``cuda:0`` and ``cuda:1``; folds are dealt to them.
        parallel: Folds at the same time on each device.
        devices_per_fold: GPUs that train a fold together, as nnU-Net's DDP does.
        threads: Threads of a network on a CPU; None for all cores.
        augmentation_processes: Loader processes of each fold in training; None for none on a CPU, up to 12 on a GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: tuple[str, ...] = ("cpu",)
    parallel: int = Field(default=1, ge=1)
    devices_per_fold: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    augmentation_processes: int | None = Field(default=None, ge=0)


class TrainingRequest(BaseModel):
    """What is trained, from what, and what it becomes.

    Attributes:
        cohort: CSV or folder, see `read_cohort`.
        output: Gets ``model/`` and ``curves/``.
        work: Patches, checkpoints; a run that was killed goes on from there.
        preset: Plans, sampling and training settings.
        mapping: Reference values and classes to labels.
        unannotated: What area outside all shapes is, where the cohort does not say.
        folds: Folds of the ensemble; None for five, or as many as ``splits`` has.
        splits: The user's own splits.
        replay_patches: Training patches that travel with the model.
        holdout_patches: Patches of held-out slides that travel with the model.
        weights: How kernels are stored; ``float16`` rounds them and halves the model folder.
        notes: What the author says; the training data are described by us.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: Path
    output: Path
    work: Path
    preset: Preset
    mapping: LabelMapping
    unannotated: Unannotated = "ignore"
    folds: int | None = Field(default=None, ge=2)
    splits: Path | None = None
    replay_patches: int = Field(default=0, ge=0)
    holdout_patches: int = Field(default=0, ge=0)
    weights: WeightsPrecision = "float32"
    name: str = "uga-model"
    description: str = ""
    intended_use: str | None = None


def train(request: TrainingRequest, compute: ComputeOptions) -> Model:
    """Train an ensemble; a second call with the same work folder goes on where a killed one stopped.

    Raises:
        UserError: anything wrong with the request, named before the training starts, or a training that failed.
    """
    target = request.output / "model"
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} exists already; remove it or name another folder with --output.")
    for folder in (request.output, request.work):
        check_writable(folder, "name another one")
    cases, held_out, splits = _read(request, compute)
    folds = len(splits) if splits is not None else request.folds or 5
    slots = deal(range(folds), compute.devices, parallel=compute.parallel, devices_per_fold=compute.devices_per_fold)
    loaders = _loaders(compute, slots)
    seed = request.preset.notes.training.seed

    folders = NnunetFolders(request.work)
    folders.activate()
    dataset, other = Dataset(_TRAINING_SET, folders), Dataset(_HOLDOUT_SET, folders)

    def tell_needs(patches: int) -> None:
        needs = estimate(request.preset, slots, patches=patches, folds=folds, augmentation_processes=loaders)
        check_needs(needs, work=request.work, output=request.output)

    write_dataset(dataset, cases, request.mapping, request.preset, announce=tell_needs)
    if request.holdout_patches:
        write_dataset(other, held_out, request.mapping, request.preset)
    preprocess(dataset, request.preset, folds=folds, seed=seed, own_splits=splits, processes=os.cpu_count() or 1)
    if len(slots) == 1 and slots[0].devices == ("cpu",) and not loaders:
        results = train_folds(dataset, slots[0].folds, device=torch.device("cpu"), threads=compute.threads)
    else:
        results = train_slots(dataset, slots, threads=compute.threads, augmentation_processes=loaders)

    packs = []
    if request.replay_patches:
        packs.append(_pack(dataset, "replay", request.replay_patches, request.preset))
    if request.holdout_patches:
        packs.append(_pack(other, "holdout", request.holdout_patches, request.preset))
    notes = _notes(request, cases)
    model = release(dataset, request.preset, target, folds=folds, notes=notes, weights=request.weights, packs=packs)

    from uga.training.curves import draw_overview  # noqa: PLC0415 - nnU-Net reads its environment on import

    draw_overview(results, folds, request.output / "curves")
    return model


def _read(request: TrainingRequest, compute: ComputeOptions) -> tuple[list[Case], list[Case], list[Split] | None]:
    """Slides to train on, slides held out, and the user's splits; every fault that a quick look finds is named."""
    everything = [
        replace(case, unannotated=case.unannotated or request.unannotated) for case in read_cohort(request.cohort)
    ]
    cases = [case for case in everything if case.subset == "train"]
    held_out = [case for case in everything if case.subset == "holdout"]
    faults = Faults(f"The cohort {request.cohort}")
    check_cases(everything, request.mapping, request.preset, faults)
    if request.holdout_patches and not held_out:
        faults.add(
            f"The cohort {request.cohort} holds no slide out; write holdout into its column 'split' for some patients."
        )
    if compute.devices_per_fold > request.preset.batch_size:
        faults.add(
            f"A batch of {request.preset.batch_size} cannot be shared by {compute.devices_per_fold} GPUs; "
            "use fewer with --ddp or a preset with a larger batch."
        )
    patients = {case.id: case.patient for case in cases}
    splits = None
    if request.splits is not None:
        with faults.collect():
            splits = read_splits(request.splits, patients)
            if request.folds not in (None, len(splits)):
                raise UserError(f"{request.splits} has {len(splits)} splits, not {request.folds}; leave out --folds.")
    elif len(set(patients.values())) < (request.folds or 5):
        faults.add(
            f"{request.folds or 5} folds need as many patients, {request.cohort} trains on "
            f"{len(set(patients.values()))}; use fewer with --folds."
        )
    faults.raise_if_any()
    return cases, held_out, splits


def _loaders(compute: ComputeOptions, slots: Sequence[Slot]) -> int:
    if compute.augmentation_processes is not None:
        return compute.augmentation_processes
    if compute.devices[0].startswith("cpu"):
        return 0
    processes = sum(len(slot.devices) for slot in slots)
    return max(1, min(_LOADERS_PER_GPU, (os.cpu_count() or 1) // processes - 1))


def _pack(dataset: Dataset, purpose: Purpose, patches: int, preset: Preset) -> Pack:
    """Patches somewhat larger than the window, so that augmentation can turn and scale them."""
    folder = dataset.folders.work / "packs" / purpose
    shutil.rmtree(folder, ignore_errors=True)
    return write_pack(
        dataset,
        folder,
        purpose=purpose,
        patches=patches,
        size_px=min(preset.notes.sampling.patch_px, max(preset.window_px) * 3 // 2),
        max_bytes=_PACK_BYTES,
        quality=_PACK_QUALITY,
        seed=preset.notes.sampling.seed,
    )


def _notes(request: TrainingRequest, cases: Sequence[Case]) -> ReleaseNotes:
    centres = Counter(case.centre for case in cases)
    classes = Counter(case.lesion for case in cases)
    counted = [", ".join(f"{count} {name}" for name, count in sorted(each.items())) for each in (centres, classes)]
    return ReleaseNotes(
        name=request.name,
        description=request.description,
        data=f"{len(cases)} slides of {len({case.patient for case in cases})} patients; by centre: {counted[0]}; "
        f"by class: {counted[1]}.",
        intended_use=request.intended_use,
    )
