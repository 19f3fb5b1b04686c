"""Tiny but genuine trained-model folders of nnU-Net v2, for tests.

Use::

    trained = make_trained_folder(tmp_path, folds=5, network="residual", norm="batch", normalisation="zscore")
    trained.source   # what nnUNetv2_train leaves: plans.json, dataset.json, fold_<k>/checkpoint_final.pth
    trained.model    # the same after `import_model`: plus model.json and fold_<k>/model.safetensors

Both folders load in nnU-Net's nnUNetPredictor. Weights are random (seeded per fold), so labels are noise, but every
layer matters: biases, affine norms and running statistics are non-trivial. One call takes well under a second.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from uga.model.importer import import_model

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"background": 0, "tissue": 1, "tumour": 2}
INSTANCE_NORM = "torch.nn.modules.instancenorm.InstanceNorm2d"
BATCH_NORM = "torch.nn.modules.batchnorm.BatchNorm2d"
_CLASSES = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}
_SCHEMES = {
    "zscore": "ZScoreNormalization",
    "rgb01": "RGBTo01Normalization",
    "none": "NoNormalization",
    "rescale": "RescaleTo01Normalization",
    "ct": "CTNormalization",
}
_CHANNEL_NAMES = {"zscore": "zscore", "rgb01": "rgb_to_0_1", "none": "noNorm", "rescale": "rescale_to_0_1", "ct": "CT"}


@dataclass(frozen=True)
class TrainedFolder:
    """``source`` as nnU-Net wrote it, ``model`` as UGA imported it."""

    source: Path
    model: Path


def make_trained_folder(
    folder: Path,
    *,
    folds: int = 5,
    network: Literal["plain", "residual"] = "plain",
    norm: Literal["instance", "batch"] = "instance",
    normalisation: Literal["zscore", "rgb01", "none", "rescale", "ct"] = "rgb01",
    labels: dict[str, int] | None = None,
    tumour_label: str = "tumour",
    window: tuple[int, int] = (64, 64),
    features: tuple[int, ...] = (8, 16, 16),
    spacing_um: float = 1.0,
    seed: int = 0,
) -> TrainedFolder:
    """Write ``folder/trained`` and import it as ``folder/model``."""
    source = write_nnunet_folder(
        folder / "trained",
        folds=folds,
        network=network,
        norm=norm,
        normalisation=normalisation,
        labels=labels,
        window=window,
        features=features,
        seed=seed,
    )
    model = folder / "model"
    import_model(source, model, name="tiny", tumour_label=tumour_label, spacing_um=spacing_um)
    return TrainedFolder(source, model)


def write_nnunet_folder(
    source: Path,
    *,
    folds: int = 5,
    network: Literal["plain", "residual"] = "plain",
    norm: Literal["instance", "batch"] = "instance",
    normalisation: str = "rgb01",
    labels: dict[str, int] | None = None,
    window: tuple[int, int] = (64, 64),
    features: tuple[int, ...] = (8, 16, 16),
    seed: int = 0,
) -> Path:
    """Write a trained-model folder as nnUNetv2_train leaves it; batch norm comes from nnUNetTrainerBN."""
    labels = LABELS if labels is None else labels
    dataset = {
        "channel_names": {str(channel): _CHANNEL_NAMES[normalisation] for channel in range(3)},
        "labels": labels,
        "numTraining": 10,
        "file_ending": ".png",
    }
    plans = nnunet_plans(network=network, normalisation=normalisation, window=window, features=features)
    source.mkdir(parents=True)
    write_json(source / "dataset.json", dataset)
    write_json(source / "plans.json", plans)
    for fold in range(folds):
        (source / f"fold_{fold}").mkdir()
        torch.save(
            nnunet_checkpoint(plans, dataset, fold, norm=norm, seed=seed * 1000 + fold),
            source / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return source


def nnunet_plans(
    *,
    network: str = "plain",
    normalisation: str = "rgb01",
    window: tuple[int, int] = (64, 64),
    features: tuple[int, ...],
) -> dict[str, Any]:
    """A plans.json as the planner of nnU-Net 2.8.1 writes it for 2D RGB images."""
    stages = len(features)
    per_stage = "n_conv_per_stage" if network == "plain" else "n_blocks_per_stage"
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    intensity = {"max": 255.0, "mean": 141.5, "median": 150.0, "min": 3.0, "std": 47.25}
    intensity |= {"percentile_00_5": 20.0, "percentile_99_5": 240.0}
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(window),
        "median_image_size_in_voxels": [256.0, 256.0],
        "spacing": [1.0, 1.0],
        "normalization_schemes": [_SCHEMES[normalisation]] * 3,
        "use_mask_for_norm": [False] * 3,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{_CLASSES[network]}",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(features),
                "conv_op": "torch.nn.modules.conv.Conv2d",
                "kernel_sizes": [[3, 3]] * stages,
                "strides": [[1, 1], *[[2, 2]] * (stages - 1)],
                per_stage: [2] * stages,
                "n_conv_per_stage_decoder": [1] * (stages - 1),
                "conv_bias": True,
                "norm_op": INSTANCE_NORM,
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset501_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 256, 256],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): intensity for channel in range(3)},
    }


def nnunet_checkpoint(
    plans: dict[str, Any], dataset: dict[str, Any], fold: int, *, norm: str, seed: int
) -> dict[str, Any]:
    """The content nnUNetTrainer.save_checkpoint (2.8.1) writes, after one optimiser step."""
    architecture = plans["configurations"]["2d"]["architecture"]
    kwargs = dict(architecture["arch_kwargs"])
    if norm == "batch":
        kwargs |= {"norm_op": BATCH_NORM, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    generator = torch.Generator().manual_seed(seed)
    network = get_network_from_plans(
        architecture["network_class_name"],
        kwargs,
        architecture["_kw_requires_import"],
        3,
        len([name for name in dataset["labels"] if name != "ignore"]),
        allow_init=True,
        deep_supervision=True,
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    _randomise(network, generator)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    losses = [np.float32(0.75), np.float64(0.5)]
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.1), np.float64(0.2)],
            "ema_fg_dice": [np.float64(0.1), np.float64(0.11)],
            "dice_per_class_or_region": [[np.float64(0.1)], [np.float32(0.2)]],
            "train_losses": losses,
            "val_losses": losses,
            "lrs": [0.01, 0.00999],
            "epoch_start_timestamps": [1.0, 2.0],
            "epoch_end_timestamps": [1.5, 2.5],
        },
        "_best_ema": np.float64(0.11),
        "current_epoch": 2,
        "init_args": {
            "plans": plans,
            "configuration": "2d",
            "fold": fold,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainerBN" if norm == "batch" else "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as nnU-Net does."""
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * (2.0 / parameter[0].numel()) ** 0.5)
            else:
                parameter.copy_((1.0 if name.endswith("norm.weight") else 0.0) + 0.3 * noise)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
                module.num_batches_tracked.fill_(250)
