"""From fine-tuned folds to a model folder with its lineage, and to the archive a platform takes."""

from __future__ import annotations

import gzip
import platform
import shutil
import tarfile
from dataclasses import replace
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

import uga
from uga.finetuning.splits import slide_digest
from uga.model.card import CARD_FILE, DATASET_FILE, PLANS_FILE, About, Training, write_card
from uga.model.checkpoint import CHECKPOINT_FILE, read_checkpoint, write_checkpoint
from uga.model.folder import load_model
from uga.model.importer import import_model
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.corrections import Correction
    from uga.finetuning.comparison import Comparison, Verdict
    from uga.finetuning.options import TrainingOptions
    from uga.model.folder import Model
    from uga.model.importer import WeightsPrecision

_PACKAGES = ("nnunetv2", "torch", "numpy", "batchgeneratorsv2", "dynamic-network-architectures")
_SUFFIX = "-finetuned"

Details = dict[str, str | int | float | bool]


def assemble(parent: Model, results: Path, work: Path, training: Training) -> Model:
    """Make the model folder ``work/model`` of fine-tuned folds; plans, labels, packs and papers are the parent's.

    Args:
        parent: The model that was fine-tuned.
        results: nnU-Net's results folder, all folds trained.
        work: Gets the folder; an older one of that name is removed.
        training: Provenance.
    """
    source, target = work / "nnunet", work / "model"
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    for name in (PLANS_FILE, DATASET_FILE):
        shutil.copyfile(parent.path / name, source / name)
    for fold in parent.folds:
        checkpoint = read_checkpoint(results / f"fold_{fold}" / CHECKPOINT_FILE)
        (source / f"fold_{fold}").mkdir()
        # The work dataset calls the configuration by our name.
        write_checkpoint(
            source / f"fold_{fold}" / CHECKPOINT_FILE,
            replace(checkpoint, configuration=parent.card.configuration),
            fold,
        )
    own = {PLANS_FILE, DATASET_FILE, *(f"fold_{fold}" for fold in parent.folds)}
    carried = {PurePosixPath(file).parts[0] for file in parent.card.files} - own
    about = About(
        version=parent.card.version,
        description=parent.card.description,
        intended_use=parent.card.intended_use,
        training=training,
        parent=parent.sha256,
    )
    return import_model(
        source,
        target,
        name=f"{parent.name.removesuffix(_SUFFIX)}{_SUFFIX}",
        tumour_label=parent.tumour_label,
        spacing_um=parent.spacing_um,
        folds=parent.folds,
        about=about,
        weights=_precision(parent),
        companions={name: parent.path / name for name in sorted(carried)},
    )


def provenance(
    parent: Model,
    corrections: Sequence[Correction],
    folds: Sequence[int | None],
    options: TrainingOptions,
    *,
    replayed: int,
    threads: int,
) -> Training:
    """Where the weights come from: parent, corrections by checksum with the fold that held each out, options, seed."""
    details: Details = {
        "parent": parent.name,
        "replay_patches": replayed,
        "corrections": len(corrections),
        "slides": len({correction.slide_id for correction in corrections}),
        "cpu_threads": threads,
        **{f"option {name}": value for name, value in options.model_dump(exclude={"seed"}).items()},
        **{f"correction {number:03d}": correction.sha256 for number, correction in enumerate(corrections)},
    }
    return Training(
        data=f"{parent.name} ({parent.card.training.data or 'training data not stated'}), fine-tuned on "
        f"{len(corrections)} corrected patches.",
        seed=options.seed,
        trainer="uga.finetuning (nnU-Net v2 trainer)",
        versions={
            "uga": uga.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in _PACKAGES},
        },
        corrected={
            **parent.card.training.corrected,
            **{slide_digest(each.slide_id): fold for each, fold in zip(corrections, folds, strict=True)},
        },
        details=details,
    )


def note_guard(model: Model, verdict: Verdict, held_out: Comparison | None, *, forced: bool) -> Model:
    """Write into the card what the guard said; the identity of the model does not change."""
    details: Details = {"guard": verdict.sentence, "forced": forced}
    if held_out is not None:
        for moment, scores in (("before", held_out.before), ("after", held_out.after)):
            dice = scores.dice[model.tumour_label]
            if dice is not None:
                details[f"held-out corrections, {model.tumour_label} Dice {moment}"] = round(dice, 4)
    training = model.card.training
    noted = training.model_copy(update={"details": {**training.details, **details}})
    write_card(model.path / CARD_FILE, model.card.model_copy(update={"training": noted}))
    return load_model(model.path)


def write_archive(model: Path, archive: Path) -> None:
    """Write a model folder as ``.tar.gz`` that unpacks into ``/opt/ml/model``; same folder, same bytes.

    The model's files are at the top of the archive; owner, time and rights are those of nobody in particular.
    """

    def write(partial: Path) -> None:
        with (
            partial.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(model.rglob("*"), key=lambda path: path.relative_to(model).parts):
                tar.add(path, path.relative_to(model).as_posix(), recursive=False, filter=_anonymous)

    write_atomic(archive, write)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def _precision(model: Model) -> WeightsPrecision:
    """How the model stores its kernels."""
    with safe_open(model.weights_file(model.folds[0]), "pt") as weights:
        halves = any(weights.get_tensor(name).dtype == torch.float16 for name in weights.keys())  # noqa: SIM118
    return "float16" if halves else "float32"
