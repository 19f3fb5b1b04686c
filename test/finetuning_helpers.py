"""A tiny ensemble that knows one centre, and corrected packages of another: purple discs there, green ones here."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from output_helpers import ranked_patch
from PIL import Image
from training_helpers import draw_patch, tiny_preset, write_synthetic_dataset

from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter
from uga.output.schema import ModelRecord, SlideRecord, UncertaintyRecord
from uga.training.dataset import preprocess
from uga.training.folds import train_folds
from uga.training.packs import write_pack
from uga.training.release import ReleaseNotes, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.model.folder import Model

CPU = torch.device("cpu")
FOLDS = 2
PATCH_PX = 64


@contextmanager
def own_environment() -> Iterator[None]:
    """Puts environment and threads back, which a training changes."""
    before, threads = dict(os.environ), torch.get_num_threads()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        torch.set_num_threads(threads)


@cache
def trained_parent() -> Model:
    """Two folds that find purple discs, with replay and hold-out packs; nobody may write into the folder."""
    folder = Path(tempfile.mkdtemp(prefix="uga-parent-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with own_environment():
        return _train(folder)


def _train(folder: Path) -> Model:
    preset = tiny_preset(epochs=10, iterations=10)
    dataset = write_synthetic_dataset(folder / "work", preset, patients=4)
    preprocess(dataset, preset, folds=FOLDS, seed=0)
    train_folds(dataset, range(FOLDS), device=CPU, threads=1)
    packs = [
        write_pack(
            dataset,
            folder / purpose,
            purpose=purpose,
            patches=8,
            size_px=PATCH_PX,
            max_bytes=10**7,
            quality=None,
            seed=0,
        )
        for purpose in ("replay", "holdout")
    ]
    notes = ReleaseNotes(name="tiny", description="A test.", data="Synthetic.")
    return release(dataset, preset, folder / "model", folds=FOLDS, notes=notes, packs=packs)


def draw_foreign(rng: np.random.Generator, size: int = PATCH_PX) -> tuple[np.ndarray, np.ndarray]:
    """RGB and label of the other centre: discs are green."""
    rgb, label = draw_patch(rng, size, tumour=True)
    rgb[label == 1] = (110, 190, 120)
    return rgb, label


def write_corrections(
    folder: Path,
    model: Model,
    *,
    slides: int = 2,
    per_slide: int = 2,
    poisoned: bool = False,
    predicted: int = 0,
    seed: int = 5,
) -> list[Path]:
    """Packages with ``correction.png`` below ``folder``; the prediction is ``predicted`` everywhere.

    ``poisoned`` takes patches as the parent knows them and swaps their labels.
    """
    rng = np.random.default_rng(seed)
    packages = []
    for number in range(slides):
        slide = SlideRecord(
            id=f"slide{number}",
            file=f"slide{number}.svs",
            width=4000,
            height=4000,
            mpp_x=0.5,
            mpp_y=0.5,
            quickhash=f"q{number}",
        )
        grid = Grid.over(4000, 4000, SpacingUm(0.5, 0.5), model.spacing_um)
        writer = PackageWriter(
            folder / slide.id,
            slide,
            ModelRecord(name=model.name, sha256=model.sha256, folds=model.folds),
            UncertaintyRecord(measure="soft-cross-entropy"),
            model.labels,
            model.tumour_label,
            grid,
        )
        for rank in range(1, per_slide + 1):
            image, label = draw_patch(rng, PATCH_PX, tumour=True) if poisoned else draw_foreign(rng)
            region = GridRegion(200 * rank, 100, PATCH_PX, PATCH_PX)
            package = writer.write(
                ranked_patch(region, grid, image, rank),
                region,
                image=image,
                prediction=np.full_like(label, predicted),
                uncertainty=np.zeros_like(label),
            )
            Image.fromarray(1 - label if poisoned else label).save(package / "correction.png")
            packages.append(package)
    return packages
