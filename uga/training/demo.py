"""The demo ensemble: virtual slides of one centre, five folds, one command.

``python -m uga.training.demo weights/demo`` makes everything from nothing and goes on where a killed run stopped.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from uga.cli.console import configure_logging
from uga.model.ensemble import resolve_device
from uga.training.cases import read_cohort
from uga.training.dataset import Dataset, preprocess, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.folds import train_folds
from uga.training.labels import DEMO_MAPPING
from uga.training.presets import load_preset
from uga.training.release import ReleaseNotes, release
from uga.virtual.centres import CENTRES
from uga.virtual.slide import MANIFEST_NAME, make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from uga.model.folder import Model

log = logging.getLogger(__name__)

FOLDS = 5
_CLASSES = (LesionClass.MACRO, LesionClass.MICRO, LesionClass.NEGATIVE, LesionClass.ITC)
_SLIDES_PER_CLASS = 5
_SLIDE_UM, _NODE_UM = 3000.0, 2200.0
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
        device: Where to train; default the CPU.
        threads: CPU threads of the network; default all cores. Weights are reproducible bit for bit with the same
            seed, number of threads, kind of processor and versions.
    """
    folders = NnunetFolders(work)
    folders.activate()
    preset = load_preset("demo")
    preset = preset.with_notes(
        sampling=preset.notes.sampling.model_copy(update={"seed": seed}),
        training=preset.notes.training.model_copy(update={"seed": seed}),
    )
    make_cohort(work / "slides", training_specs(seed))
    cases = read_cohort(work / "slides" / MANIFEST_NAME)
    dataset = Dataset("Dataset500_UgaDemo", folders)
    write_dataset(dataset, cases, DEMO_MAPPING, preset)
    preprocess(dataset, preset, folds=FOLDS, seed=seed)
    train_folds(dataset, range(FOLDS), device=device or resolve_device("cpu"), threads=threads)
    return release(dataset, preset, target, folds=FOLDS, notes=_NOTES)


def training_specs(seed: int) -> list[SlideSpec]:
    """Virtual slides of the training centre: as many of each lesion class, every slide a patient of its own."""
    return [
        SlideSpec(
            seed=1000 * (seed + 1) + number,
            centre_id=TRAINING_CENTRE,
            lesion=_CLASSES[number % len(_CLASSES)],
            width_um=_SLIDE_UM,
            height_um=_SLIDE_UM,
            node_um=_NODE_UM,
            folds=number % 3 == 0,
            pen_marks=number % 4 == 1,
        )
        for number in range(_SLIDES_PER_CLASS * len(_CLASSES))
    ]


def holdout_specs(seed: int) -> list[SlideSpec]:
    """Virtual slides that the ensemble of this seed has not seen: the same tissues at every centre."""
    return [
        SlideSpec(
            seed=1_000_000 + 1000 * seed + number,
            centre_id=centre_id,
            lesion=lesion,
            width_um=_SLIDE_UM,
            height_um=_SLIDE_UM,
            node_um=_NODE_UM,
        )
        for centre_id in sorted(CENTRES)
        for number, lesion in enumerate(_CLASSES)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m uga.training.demo", description=__doc__)
    parser.add_argument("target", type=Path, help="model folder to make; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides, patches, checkpoints (1 GB)")
    parser.add_argument("--seed", type=int, default=0, help="of slides, patches, splits and training (default 0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)")
    parser.add_argument("--threads", type=int, help="CPU threads of the network (default all cores)")
    options = parser.parse_args(arguments)
    configure_logging()
    train_demo(
        options.target,
        work=options.work,
        seed=options.seed,
        device=resolve_device(options.device),
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
