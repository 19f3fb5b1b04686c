"""The demo ensemble: virtual slides of one centre, five folds, one command.

``python -m uga.training.demo weights/demo`` makes everything from nothing and goes on where a killed run stopped.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from uga.model.ensemble import resolve_device
from uga.model.folder import load_model
from uga.training.dataset import Dataset, preprocess, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.folds import train_folds
from uga.training.labels import DEMO_MAPPING
from uga.training.presets import load_preset
from uga.training.release import ReleaseNotes, release

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from uga.model.folder import Model

log = logging.getLogger(__name__)

FOLDS = 5
TRAINING_CENTRE = 1
_NOTES = ReleaseNotes(
    name="uga-demo",
    description="Metastasis segmentation on virtual H&E slides of one virtual centre, for demonstration and tests.",
    data=f"Virtual slides of centre {TRAINING_CENTRE} made by uga.virtual; no slide of a patient.",
    intended_use=(
        "Demonstration and tests on virtual slides only. Not for tissue of patients: it has never seen any. "
        "Not a medical device."
    ),
)


def train_demo(
    target: Path, *, work: Path, seed: int = 0, device: torch.device | None = None, threads: int | None = None
) -> Model:
    """Make the demo ensemble.

    Args:
        target: The new model folder; must not exist, or be empty.
        work: Slides, patches and checkpoints, about 1 GB; a second run with the same folder skips what is done.
        seed: Of slides, patches, splits and training.
        device: Where to train; default the CPU, so that equal seeds give equal weights everywhere.
        threads: CPU threads of the network; default all cores.
    """
    folders = NnunetFolders(work)
    folders.activate()
    preset = load_preset("demo")
    preset = preset.with_notes(
        sampling=preset.notes.sampling.model_copy(update={"seed": seed}),
        training=preset.notes.training.model_copy(update={"seed": seed}),
    )
    cases = make_cohort(work / "slides", training_specs(seed))
    dataset = Dataset("Dataset500_UgaDemo", folders)
    write_dataset(dataset, cases, DEMO_MAPPING, preset)
    preprocess(dataset, preset, folds=FOLDS, seed=seed)
    train_folds(dataset, range(FOLDS), device=device or resolve_device("cpu"), threads=threads)
    return release(dataset, preset, target, folds=FOLDS, notes=_NOTES)
