"""nnU-Net's trainer with settings from the plans, exact resumption, one log line an epoch, and quick validation.

Import this module only after `NnunetFolders.activate`. Network, loss, optimiser, learning-rate decay and augmentation
are nnU-Net's.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule

from uga.progress import duration
from uga.training.curves import CURVES, CURVES_FILE, PICTURE_FILE, Curves, draw
from uga.training.presets import PresetNotes
from uga.training.stain import insert_hed_jitter

log = logging.getLogger(__name__)

_VALIDATION_SEED = 2**31
_SECONDS_BETWEEN_CURVES = 600
_SMOOTHING = 0.1  # nnU-Net's


class _NoLongerImprovingError(Exception):
    """The fold has ended before its last epoch."""


class UgaTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Reads its settings from ``plans["uga"]["training"]``.

    Random numbers are seeded anew for every epoch from (seed, fold, epoch), so a training that was killed and resumed
    ends with the same weights as one that was not (with augmentation in this process, ``nnUNet_n_proc_DA=0``).
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net reads this very signature
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net's banner
            super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp:
            self.device = device  # nnU-Net takes a GPU for granted
        self.settings = PresetNotes.model_validate(plans["uga"]).training
        self.initial_lr = self.settings.initial_lr
        self.num_epochs = self.settings.epochs
        self.num_iterations_per_epoch = self.settings.iterations_per_epoch
        self.num_val_iterations_per_epoch = self.settings.validation_iterations
        self.oversample_foreground_percent = self.settings.foreground_oversampling
        self.save_every = self.settings.checkpoint_every_epochs
        self.folds_left = 0
        """Folds that this process trains after this one, for the time left."""
        self._best_ema: float | None = None
        self._first_epoch = 0
        self._started = self._drawn = time()

    def initialize(self) -> None:
        """Build network, optimiser and loss; the initial weights depend on seed and fold alone."""
        self._seed(0)
        with contextlib.redirect_stdout(io.StringIO()):
            super().initialize()

    def run_training(self) -> None:
        """nnU-Net's training, which ends early if the pseudo Dice has ceased to improve and that was asked for."""
        # For each fold anew: predictors, which validate the fold before, have cuDNN choose kernels by stop-watch.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        try:
            super().run_training()
        except _NoLongerImprovingError:
            log.info("fold %s ends after epoch %d: no improvement.", self.fold, self.current_epoch)
            self.on_train_end()

    def on_epoch_start(self) -> None:
        """Look back before the epoch, not after it, so that a resumed training ends where an undisturbed one does."""
        patience = self.settings.patience
        if patience is not None and self.current_epoch - self._best_epoch() >= patience:
            raise _NoLongerImprovingError
        super().on_epoch_start()

    def _best_epoch(self) -> int:
        """The finished epoch, counted from 1, with the best smoothed pseudo Dice; the last one while all are zero."""
        dices = self.logger.get_value("mean_fg_dice", step=None)
        smoothed, best, best_epoch = None, 0.0, len(dices)
        for epoch, dice in enumerate(dices, start=1):
            if np.isnan(dice):
                continue  # no foreground in any batch; it would spoil nnU-Net's own running mean for good
            smoothed = dice if smoothed is None else smoothed + _SMOOTHING * (dice - smoothed)
            if smoothed > best:
                best, best_epoch = smoothed, epoch
        return best_epoch

    def _seed(self, epoch: int) -> None:
        sequence = np.random.SeedSequence([self.settings.seed, int(self.fold), epoch, self.local_rank])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - nnU-Net's loader draws from the global generator
        torch.manual_seed(seed)

    def print_to_log_file(self, *args: object, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Write to nnU-Net's log file; the console gets our own lines only."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)
        if also_print_to_console:
            log.debug("fold %s: %s", self.fold, " ".join(str(arg) for arg in args).strip())

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """nnU-Net's augmentation, made reproducible, with stain jitter if asked for."""
        composed = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        for entry in composed.transforms:
            transform = getattr(entry, "transform", entry)
            if isinstance(transform, GaussianBlurTransform):
                # It would choose between two algorithms by stop-watch, which rounds differently from run to run.
                transform.benchmark = False
        if self.settings.hed_jitter > 0:
            insert_hed_jitter(composed, self.settings.hed_jitter, self.configuration_manager.normalization_schemes)
        return composed

    def on_train_start(self) -> None:
        """As nnU-Net does, and start the clock."""
        super().on_train_start()
        self._first_epoch = self.current_epoch
        self._started = time()

    def _save_debug_information(self) -> None:
        """Nothing: nnU-Net would write the machine's name into the results."""

    def plot_network_architecture(self) -> None:
        """Nothing: needs a package that no longer works."""

    def on_train_epoch_start(self) -> None:
        """Seed the epoch."""
        self._seed(self.current_epoch + 1)
        super().on_train_epoch_start()

    def on_validation_epoch_start(self) -> None:
        """Validate on the same batches after every epoch."""
        self._seed(_VALIDATION_SEED)
        super().on_validation_epoch_start()

    def on_epoch_end(self) -> None:
        """Log one line and save a checkpoint now and then; curves are drawn once, at the end."""
        self.logger.log("epoch_end_timestamps", time(), self.current_epoch)
        epoch, last = self.current_epoch, self.num_epochs - 1
        dice = float(self.logger.get_value("mean_fg_dice", step=-1))
        ema = float(self.logger.get_value("ema_fg_dice", step=-1))
        self._best_ema = ema if self._best_ema is None else max(self._best_ema, ema)
        if self.settings.patience is not None and self._best_epoch() == epoch + 1:
            self.save_checkpoint(self._best_file)
        if (epoch + 1) % self.save_every == 0 and epoch != last:
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
        if self.local_rank == 0:
            now = time()
            seconds = (now - self._started) / (epoch + 1 - self._first_epoch)
            rest = seconds * (last - epoch)
            all_folds = rest + seconds * self.num_epochs * self.folds_left
            log.info(
                "fold %s, epoch %d/%d: training loss %.3f, validation loss %.3f, pseudo Dice %.3f, %.1f s, %s left%s",
                self.fold,
                epoch + 1,
                self.num_epochs,
                self.logger.get_value("train_losses", step=-1),
                self.logger.get_value("val_losses", step=-1),
                dice,
                seconds,
                duration(rest),
                f", {duration(all_folds)} with the folds after it" if self.folds_left else "",
            )
            if now - self._drawn > _SECONDS_BETWEEN_CURVES:
                self._draw()
                self._drawn = now
        self.current_epoch += 1

    def on_train_end(self) -> None:
        """As nnU-Net does, with the best weights if the fold may end early, and draw the curves (`progress.png`)."""
        best = Path(self._best_file)
        if self.local_rank == 0 and best.exists():
            content = torch.load(best, map_location=self.device, weights_only=True)
            self._bare_network().load_state_dict(content["network_weights"])
        super().on_train_end()
        if self.local_rank == 0:
            best.unlink(missing_ok=True)
            Path(self.output_folder, CURVES_FILE).write_text(json.dumps(self._curves()), "utf-8")
            self._draw()

    def _curves(self) -> Curves:
        return {name: [_finite(value) for value in self.logger.get_value(name, step=None)] for name in CURVES}

    def _draw(self) -> None:
        """Our own small picture; nnU-Net's takes seconds and 16 megapixels."""
        draw({int(self.fold): self._curves()}, Path(self.output_folder, PICTURE_FILE))

    @property
    def _best_file(self) -> str:
        return str(Path(self.output_folder) / "checkpoint_best.pth")

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint of plain values whole or not at all; loadable with ``weights_only=True``."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoint = {
            "network_weights": self._bare_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": _plain(self.logger.get_checkpoint()),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": {"configuration": self.configuration_name, "fold": self.fold},
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        partial = f"{filename}.partial"
        torch.save(checkpoint, partial)
        os.replace(partial, filename)  # noqa: PTH105 - nnU-Net's paths are strings

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Continue from a checkpoint of this class; a file is opened without executing anything in it.

        Not left to nnU-Net, whose own loader unpickles freely and, in 2.8.1, does not accept a loaded checkpoint.
        """
        if not self.was_initialized:
            self.initialize()
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, str):
            checkpoint = torch.load(checkpoint, map_location=self.device, weights_only=True)
        self._bare_network().load_state_dict(checkpoint["network_weights"])
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.logger.load_checkpoint(checkpoint["logging"])
        self._best_ema = checkpoint["_best_ema"]
        self.current_epoch = checkpoint["current_epoch"]
        self.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]

    def _bare_network(self) -> torch.nn.Module:
        """The network without the wrappers of distributed and compiled training."""
        network = self.network.module if self.is_ddp else self.network
        bare: torch.nn.Module = network._orig_mod if isinstance(network, OptimizedModule) else network  # noqa: SLF001
        return bare

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:  # noqa: ARG002 - nnU-Net's signature
        """Predict the fold's validation patches as nnU-Net does, in this process; write `validation.json`.

        Pooled over all patches: Dice of each foreground label, and the counts it is made of (pixels). Of several
        processes that train a fold together, the first does it alone.
        """
        if self.local_rank != 0:
            return
        network = self._bare_network()
        self.set_deep_supervision_enabled(False)
        network.eval()
        with contextlib.redirect_stdout(io.StringIO()):
            predictor = nnUNetPredictor(use_mirroring=False, device=self.device, allow_tqdm=False)
            predictor.manual_initialization(
                network, self.plans_manager, self.configuration_manager, None, self.dataset_json, "", None
            )
        _, names = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, names)
        others = ("background", "ignore")
        labels = {name: value for name, value in self.dataset_json["labels"].items() if name not in others}
        counts = {name: np.zeros(3, np.int64) for name in labels}
        for name in dataset.identifiers:
            data, segmentation, _, _ = dataset.load_case(name)
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.array(data[:])))
            predicted = logits.float().argmax(0).cpu().numpy()
            reference = np.asarray(segmentation[:])[0]
            judged = reference != self.label_manager.ignore_label if self.label_manager.has_ignore_label else True
            for label, value in labels.items():
                positive, true = (predicted == value) & judged, (reference == value) & judged
                counts[label] += [(positive & true).sum(), (positive & ~true).sum(), (~positive & true).sum()]
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        result = {
            label: {"dice": _dice(*count), "tp": int(count[0]), "fp": int(count[1]), "fn": int(count[2])}
            for label, count in counts.items()
        }
        Path(self.output_folder, "validation.json").write_text(json.dumps(result, indent=2), "utf-8")
        dices = ", ".join(
            f"{label} {entry['dice']:.3f}" if entry["dice"] is not None else f"{label} absent"
            for label, entry in result.items()
        )
        log.info("fold %s: pooled validation Dice over %d patches: %s", self.fold, len(names), dices)


def _dice(tp: int, fp: int, fn: int) -> float | None:
    """2 TP / (2 TP + FP + FN); None where the label occurs neither in reference nor prediction."""
    total = 2 * tp + fp + fn
    return float(2 * tp / total) if total else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers, in nested lists and dictionaries."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
