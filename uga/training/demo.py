"""The demo ensemble: virtual slides of one centre, five folds, one command.

``python -m uga.training.demo weights/demo --work DIR`` makes everything from nothing and goes on where a killed run
stopped. It is `uga train` on a cohort of virtual slides.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from uga.cli.console import configure_logging
from uga.errors import UserError
from uga.model.folder import load_model
from uga.training.labels import DEMO_MAPPING
from uga.training.presets import load_preset
from uga.training.run import ComputeOptions, TrainingRequest, train
from uga.virtual.centres import CENTRES
from uga.virtual.slide import make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.model.folder import Model

log = logging.getLogger(__name__)

TRAINING_CENTRE = 1
FOLDS = 5
COHORT_FILE = "training.csv"
_CLASSES = (LesionClass.MACRO, LesionClass.MICRO, LesionClass.NEGATIVE, LesionClass.ITC)
_SLIDES_PER_CLASS = 6
_SLIDE_UM, _NODE_UM = 3000.0, 2200.0
_REPLAY_PATCHES, _HOLDOUT_PATCHES = 64, 24


def train_demo(
    target: Path, *, work: Path, seed: int = 0, devices: tuple[str, ...] = ("cpu",), parallel: int = 1, threads: int = 1
) -> Model:
    """Make the demo ensemble.

    Args:
        target: The new model folder; must not exist.
        work: Slides, patches and checkpoints, about 1 GB; a second run with the same folder skips what is done.
        seed: Of slides, patches, splits and training.
        devices: Where to train.
        parallel: Folds at the same time on each device.
        threads: CPU threads of a network. Weights are reproducible bit for bit with the same seed, number of threads,
            kind of processor and versions, however many folds are trained at the same time.

    Raises:
        UserError: the target exists.
    """
    if target.exists():
        raise UserError(f"{target} exists already; remove it or name another folder.")
    preset = load_preset("demo")
    preset = preset.with_notes(
        sampling=preset.notes.sampling.model_copy(update={"seed": seed}),
        training=preset.notes.training.model_copy(update={"seed": seed}),
    )
    request = TrainingRequest(
        cohort=_make_slides(work / "slides", seed),
        output=work / "released",
        work=work,
        preset=preset,
        mapping=DEMO_MAPPING,
        folds=FOLDS,
        replay_patches=_REPLAY_PATCHES,
        holdout_patches=_HOLDOUT_PATCHES,
        weights="float16",
        name="uga-demo",
        description="Metastasis segmentation on virtual H&E slides of one virtual centre, for demonstration and tests.",
        intended_use=(
            "Demonstration and tests on virtual slides only. Not for tissue of patients: it has never seen any. "
            "Not a medical device."
        ),
    )
    model = train(request, ComputeOptions(devices=devices, parallel=parallel, threads=threads))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(model.path, target)
    log.info("%s is ready.", target)
    return load_model(target)


def _make_slides(folder: Path, seed: int) -> Path:
    """Slides and their cohort CSV: what is trained on, and patients held out of it."""
    subsets = {"train": training_specs(seed), "holdout": pack_specs(seed)}
    path = folder / COHORT_FILE
    slides = {name: make_cohort(folder, specs) for name, specs in subsets.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "annotation", "centre", "patient", "class", "split"])
        for name, lines in slides.items():
            writer.writerows([line.slide, line.mask, line.centre, line.patient, line.lesion, name] for line in lines)
    return path


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


def pack_specs(seed: int) -> list[SlideSpec]:
    """Virtual slides of the training centre for the hold-out pack: one of each lesion class, never trained on."""
    return [
        _plain_spec(2_000_000 + 1000 * seed + number, TRAINING_CENTRE, lesion) for number, lesion in enumerate(_CLASSES)
    ]


def holdout_specs(seed: int) -> list[SlideSpec]:
    """Virtual slides for the model card: the same tissues at every centre, neither trained on nor in a pack."""
    return [
        _plain_spec(1_000_000 + 1000 * seed + number, centre_id, lesion)
        for centre_id in sorted(CENTRES)
        for number, lesion in enumerate(_CLASSES)
    ]


def _plain_spec(seed: int, centre_id: int, lesion: LesionClass) -> SlideSpec:
    return SlideSpec(
        seed=seed, centre_id=centre_id, lesion=lesion, width_um=_SLIDE_UM, height_um=_SLIDE_UM, node_um=_NODE_UM
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m uga.training.demo", description=__doc__)
    parser.add_argument("target", type=Path, help="model folder to make; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides, patches, checkpoints (1 GB)")
    parser.add_argument("--seed", type=int, default=0, help="of slides, patches, splits and training (default 0)")
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="where to train (default cpu)")
    parser.add_argument("--parallel", type=int, default=1, help="folds at the same time on each device (default 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a network (default 1)")
    options = parser.parse_args(arguments)
    configure_logging()
    train_demo(
        options.target,
        work=options.work,
        seed=options.seed,
        devices=tuple(options.devices),
        parallel=options.parallel,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
