"""Small synthetic data for the training tests: pink tissue, purple tumour discs, drawn from a seed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image

from uga.training.cases import Case, read_cohort
from uga.training.dataset import Dataset, PatchIndex, PatchRecord
from uga.training.environment import NnunetFolders
from uga.training.labels import DEMO_MAPPING
from uga.training.presets import Preset, load_preset

if TYPE_CHECKING:
    from pathlib import Path


def draw_patch(rng: np.random.Generator, size: int, *, tumour: bool) -> tuple[np.ndarray, np.ndarray]:
    """RGB (size, size, 3) and label (size, size)."""
    rgb = rng.normal((225, 170, 195), 8, (size, size, 3))
    label = np.zeros((size, size), np.uint8)
    if tumour:
        ys, xs = np.mgrid[:size, :size]
        y, x = rng.integers(size // 4, 3 * size // 4, 2)
        label[(ys - y) ** 2 + (xs - x) ** 2 < (size // 4) ** 2] = 1
        rgb[label == 1] -= (90, 90, 40)
    return rgb.clip(0, 255).astype(np.uint8), label


def write_cohort(folder: Path, *, size_um: int = 320, held_out: int = 0) -> tuple[Case, ...]:
    """Four slides at 0.5 um/px with masks (0 glass, 1 benign, 2 tumour) at 1 um/px; the last is benign without one.

    Held-out slides with tumour come on top.
    """
    rng = np.random.default_rng(1)
    lines = ["slide,mask,centre,patient,class,split"]
    for number in range(4 + held_out):
        tumour = number != 3
        rgb, label = draw_patch(rng, size_um, tumour=tumour)
        rgb[:, :60] = 245
        mask = label + 1
        mask[:, :60] = 0
        _write_tiff(folder / f"s{number}.tif", np.kron(rgb, np.ones((2, 2, 1), np.uint8)), 0.5)
        name = f"m{number}.tif" if tumour else ""
        if tumour:
            _write_tiff(folder / name, mask, 1.0)
        split = "train" if number < 4 else "holdout"
        lines.append(f"s{number}.tif,{name},1,p{number},{'macro' if tumour else 'negative'},{split}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(lines))
    return read_cohort(path)


def _write_tiff(path: Path, pixels: np.ndarray, um_per_px: float) -> None:
    resolution = (1e4 / um_per_px, 1e4 / um_per_px)
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric=photometric, resolution=resolution, resolutionunit="CENTIMETER"
    )


def tiny_preset(*, epochs: int = 2, iterations: int = 2, seed: int = 0, patience: int | None = None) -> Preset:
    """The demo preset with a network of a few thousand weights."""
    preset = load_preset("demo")
    plans = json.loads(json.dumps(preset.plans))
    configuration = plans["configurations"]["2d"]
    configuration["patch_size"] = [32, 32]
    configuration["batch_size"] = 2
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs.update(
        n_stages=3,
        features_per_stage=[4, 8, 8],
        kernel_sizes=[[3, 3]] * 3,
        strides=[[1, 1], [2, 2], [2, 2]],
        n_conv_per_stage=[1] * 3,
        n_conv_per_stage_decoder=[1] * 2,
    )
    training = preset.notes.training.model_copy(
        update={
            "epochs": epochs,
            "iterations_per_epoch": iterations,
            "validation_iterations": 1,
            "checkpoint_every_epochs": 1,
            "patience": patience,
            "seed": seed,
        }
    )
    sampling = preset.notes.sampling.model_copy(update={"patch_px": 64})
    return Preset(plans=plans, notes=preset.notes.model_copy(update={"training": training, "sampling": sampling}))


def write_tiny_preset(path: Path, **settings: int) -> Path:
    """`tiny_preset` as a file for ``uga train --preset``."""
    preset = tiny_preset(**settings)
    path.write_text(json.dumps({"uga": preset.notes.model_dump(mode="json", exclude_none=True), **preset.plans}))
    return path


def write_synthetic_dataset(work: Path, preset: Preset, *, patients: int = 4, size: int = 64) -> Dataset:
    """A raw dataset of two patches a patient, one with and one without tumour."""
    folders = NnunetFolders(work)
    folders.activate()
    dataset = Dataset("Dataset501_Synthetic", folders)
    for folder in ("imagesTr", "labelsTr"):
        (dataset.raw / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = []
    for patient in range(patients):
        for number, tumour in enumerate((True, False)):
            name = f"p{patient}_{number:03d}"
            rgb, label = draw_patch(rng, size, tumour=tumour)
            Image.fromarray(rgb).save(dataset.raw / "imagesTr" / f"{name}_0000.png")
            Image.fromarray(label).save(dataset.raw / "labelsTr" / f"{name}.png")
            records.append(
                PatchRecord(
                    name=name,
                    case=f"p{patient}",
                    kind="tumour" if tumour else "benign",
                    x=0,
                    y=0,
                    centre="1",
                    patient=f"p{patient}",
                    lesion="macro",
                )
            )
    (dataset.raw / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": preset.channel_names,
                "labels": DEMO_MAPPING.dataset_labels(with_ignore=False),
                "numTraining": len(records),
                "file_ending": ".png",
                "overwrite_image_reader_writer": "NaturalImage2DIO",
            }
        )
    )
    index = PatchIndex(request={"spacing_um": 1.0}, patches=tuple(records))
    (dataset.raw / "patches.json").write_text(index.model_dump_json())
    return dataset
