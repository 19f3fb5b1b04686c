"""nnU-Net's trainer, warm-started from a fold of the parent.

Import this module only after `NnunetFolders.activate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from uga.finetuning.dataset import SETTINGS_KEY
from uga.finetuning.loader import MixedLoader
from uga.finetuning.options import TrainerSettings
from uga.finetuning.schedule import WarmUpPoly
from uga.finetuning.variants import draw_variants
from uga.training.trainer import UgaTrainer

if TYPE_CHECKING:
    from collections.abc import Mapping


def run_in_bf16(network: nn.Module) -> None:
    """Let a network on the CPU compute in bf16 by autocast; weights, gradients and outputs stay float32."""
    if not any(isinstance(module, nn.InstanceNorm2d) for module in network.modules()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's stubs
    forward = network.forward

    def low_precision(batch: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = forward(batch)
        if isinstance(outputs, torch.Tensor):
            return outputs.float()
        return [output.float() for output in outputs]  # of deep supervision

    network.forward = low_precision


class FinetuneTrainer(UgaTrainer):
    """Differs from `UgaTrainer` in where it starts, what it sees and how fast it moves.

    All weights, heads included, start as the parent's (`warm_start`). Batch norm keeps the parent's running statistics
    and normalises with them in training too: a batch of a few crops from several centres has no statistics worth
    following, and so the network that is trained is the one that will predict.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net reads this very signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device = device  # nnU-Net takes the first GPU for granted
        self.finetuning = TrainerSettings.model_validate(plans[SETTINGS_KEY])
        self._anchor: list[torch.Tensor] = []
        self._iteration = 0

    def initialize(self) -> None:
        """As `UgaTrainer`, with networks that run in bf16 if asked for."""
        super().initialize()
        if self.finetuning.bf16:
            run_in_bf16(self._bare_network())

    def warm_start(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over a complete state dict; call after `initialize` and before any checkpoint is loaded."""
        network = self._bare_network()
        network.load_state_dict(weights, strict=True)
        self._anchor = [parameter.detach().clone() for parameter in network.parameters()]

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmUpPoly]:
        """AdamW, as nnU-Net's own Adam trainers, with our schedule.

        The momentum of nnU-Net's SGD, 0.99, remembers as many iterations as a fine-tuning has; what the first batches
        push, the last ones cannot take back.
        """
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay, amsgrad=True
        )
        return optimizer, WarmUpPoly(
            optimizer,
            peak=self.initial_lr,
            warm_up=self.finetuning.warm_up,
            per_epoch=self.num_iterations_per_epoch,
            epochs=self.num_epochs,
        )

    def get_dataloaders(self) -> tuple[SingleThreadedAugmenter, SingleThreadedAugmenter]:
        """Corrections and replay for training; the patches held out of this fold for the pseudo Dice.

        A fold that holds nothing out shows its pseudo Dice on the unchanged training patches.
        """
        window = self.configuration_manager.patch_size
        rotation, dummy_2d, crop, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        scales, labels = self._get_deep_supervision_scales(), self.label_manager
        transforms = self.get_training_transforms(
            window,
            rotation,
            scales,
            mirror_axes,
            dummy_2d,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
            foreground_labels=labels.foreground_labels,
            ignore_label=labels.ignore_label,
        )
        for transform in transforms.transforms:
            if isinstance(transform, SpatialTransform):  # what a turned crop lacks is tissue that nobody judged
                transform.padding_value_seg = labels.ignore_label
        training, held_out = self.get_tr_and_val_datasets()
        if not held_out.identifiers:
            held_out = training
        settings = self.finetuning
        common = {"batch_size": self.batch_size, "final_patch_size": window, "label_manager": labels}
        common["oversample_foreground_percent"] = self.oversample_foreground_percent
        mixed = MixedLoader(
            training,
            patch_size=crop,
            transforms=transforms,
            variants={
                name: draw_variants(
                    name,
                    settings.variants,
                    seed=(self.settings.seed, int(self.fold)),
                    square=window[0] == window[1],
                )
                for name in settings.corrections
            },
            points=settings.corrections,
            recolouring=settings.recolouring,
            share=settings.share,
            ignore_label=labels.ignore_label,
            **common,
        )
        plain = nnUNetDataLoader(
            held_out,
            patch_size=window,
            transforms=self.get_validation_transforms(
                scales, foreground_labels=labels.foreground_labels, ignore_label=labels.ignore_label
            ),
            **common,
        )
        return SingleThreadedAugmenter(mixed, None), SingleThreadedAugmenter(plain, None)

    def on_train_epoch_start(self) -> None:
        """As nnU-Net does, with batch norm as in inference."""
        super().on_train_epoch_start()
        self._iteration = self.current_epoch * self.num_iterations_per_epoch
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step at our learning rate, then a decay towards the parent's weights if asked for."""
        rate = self.lr_scheduler.at(self._iteration)
        self._iteration += 1
        result: dict[str, Any] = super().train_step(batch)
        if self.finetuning.pull > 0:
            with torch.no_grad():
                parameters: list[torch.Tensor] = list(self._bare_network().parameters())
                torch._foreach_lerp_(parameters, self._anchor, min(1.0, rate * self.finetuning.pull))
        return result
