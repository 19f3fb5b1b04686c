"""Slides and models to measure on; made once, kept in the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from PIL import Image

from benchmarks.measure import ROOT
from uga.geometry import GridRegion
from uga.model.importer import import_model
from uga.slide import open_slide
from uga.training.presets import CONFIGURATION, load_preset
from uga.virtual.slide import write_virtual_slide
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from pathlib import Path

DEMO = ROOT / "weights" / "demo"
_NORMS = {"instance": "torch.nn.modules.instancenorm.InstanceNorm2d", "batch": "torch.nn.modules.batchnorm.BatchNorm2d"}


@dataclass(frozen=True)
class Network:
    """A network with random weights and a bias: it predicts background everywhere, and takes the time it takes."""

    name: str
    features: tuple[int, ...]
    window_px: int
    norm: str


MEDIUM = Network("medium", (16, 32, 64, 128, 128), 512, "instance")
LARGE = Network("large", (32, 64, 128, 256, 512, 512, 512, 512), 512, "batch")
"""The network of the preset ``pathology``, after the group's published settings."""


def model_folder(work: Path, network: Network) -> Path:
    """A model folder of five folds."""
    target = work / "models" / network.name
    if target.exists():
        return target
    source = work / "models" / f"{network.name}-nnunet"
    preset = load_preset("pathology")
    plans: dict[str, Any] = preset.plans_for("Dataset501_Benchmark", {str(channel): {} for channel in range(3)})
    del plans["uga"]
    configuration = plans["configurations"][CONFIGURATION]
    configuration["patch_size"] = [network.window_px] * 2
    stages = len(network.features)
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments |= {
        "n_stages": stages,
        "features_per_stage": list(network.features),
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1], *[[2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "norm_op": _NORMS[network.norm],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    }
    dataset = {
        "channel_names": preset.channel_names,
        "labels": {"background": 0, "benign": 1, "tumour": 2},
        "numTraining": 1,
        "file_ending": ".png",
    }
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for fold in range(5):
        torch.manual_seed(fold)
        built = get_network_from_plans(
            configuration["architecture"]["network_class_name"],
            arguments,
            configuration["architecture"]["_kw_requires_import"],
            3,
            3,
            allow_init=True,
            deep_supervision=True,
        )
        with torch.no_grad():
            built.decoder.seg_layers[-1].bias[0] = 20.0
        checkpoint = {
            "network_weights": built.state_dict(),
            "init_args": {"configuration": CONFIGURATION, "fold": fold},
            "trainer_name": "UgaTrainer",
            "inference_allowed_mirroring_axes": (0, 1),
        }
        (source / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint, source / f"fold_{fold}" / "checkpoint_final.pth")
    import_model(source, target, name=network.name, tumour_label="tumour", spacing_um=1.0)
    return target


def virtual_slide(work: Path, name: str, **spec: Any) -> Path:
    """A virtual slide in a folder of its own."""
    path = work / "slides" / name / f"{name}.tif"
    if not path.exists():
        print(f"  drawing {name} ...", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_virtual_slide(SlideSpec(**{"lesion": LesionClass.MACRO, "seed": 7, **spec}), path)
    return path


def sections(work: Path, count: int) -> Path:
    """A slide of 15 x 15 mm with so many sections of tissue, 2 mm² each."""
    spec = {"width_um": 15_000.0, "height_um": 15_000.0, "node_um": 1500.0, "node_count": count}
    return virtual_slide(work, f"15000-15000-1500-{count}", centre_id=2, **spec)


def square(work: Path, side_px: int) -> Path:
    """A slide of nothing but tissue at 1 um/px, with a mask that says so: every window is one of nnU-Net's."""
    path = work / "slides" / f"square-{side_px}" / f"square-{side_px}.tif"
    if path.exists():
        return path
    drawn = virtual_slide(work, "for-squares", centre_id=1, width_um=3200.0, height_um=3200.0, node_um=2900.0)
    with open_slide(drawn) as slide:
        grid = slide.grid(1.0)
        start = (grid.width - side_px) // 2
        pixels = slide.read(grid, GridRegion(start, start, side_px, side_px))
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(256, 256), resolution=(10_000, 10_000), resolutionunit="CENTIMETER"
    )
    Image.fromarray(np.full((side_px // 8, side_px // 8), 255, np.uint8)).save(
        path.with_name(f"{path.stem}_tissue.png")
    )
    return path
