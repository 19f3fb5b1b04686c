"""The ensemble at run time: all folds resident on one device."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch

from uga.errors import ModelError, UserError
from uga.model.network import load_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from uga.model.folder import Model

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BF16_CAPABILITY = (8, 0)


class Ensemble:
    """Networks of several folds, frozen, on one device.

    Args:
        model: A verified model.
        device: Where the networks live and the batches come from.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``; logits are float32 in any case.
        folds: Folds to use; default all of the model.
        allow_single: Accept a single fold, which has no disagreement to measure.

    Raises:
        ModelError: an unknown fold, fewer than two folds, or weights that do not fit.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        folds: Sequence[int] | None = None,
        allow_single: bool = False,
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.folds = tuple(model.folds if folds is None else folds)
        unknown = [fold for fold in self.folds if fold not in model.folds]
        if unknown or len(set(self.folds)) != len(self.folds):
            raise ModelError(
                f"{model.path} has the folds {list(model.folds)}, not {list(self.folds)}; choose among them."
            )
        if len(self.folds) < 2 and not (allow_single and self.folds):
            raise ModelError(
                f"{model.path} gives {len(self.folds)} fold(s), but uncertainty needs two or more; use more folds, "
                "or allow a single one."
            )
        self._networks: list[nn.Module] = [
            load_network(model.plan, model.weights_file(fold), device) for fold in self.folds
        ]
        if device.type == "cuda":
            # windows all have one shape, so the fastest kernel is worth looking for
            torch.backends.cudnn.benchmark = True
        log.info("%s: %d folds on %s in %s", model.name, len(self.folds), device, precision)

    def __len__(self) -> int:
        return len(self.folds)

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits of every fold.

        Args:
            batch: Normalised windows, float32 (B, 3, h, w) on the ensemble's device.

        Returns:
            float32 (K, B, C, h, w), K folds and C classes, on the same device.
        """
        out: torch.Tensor | None = None
        with self._autocast():
            for k, network in enumerate(self._networks):
                fold_logits = network(batch)
                if out is None:
                    out = torch.empty((len(self), *fold_logits.shape), dtype=torch.float32, device=batch.device)
                out[k] = fold_logits
        assert out is not None  # noqa: S101 - there is at least one fold
        return out

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])


def resolve_device(choice: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to run on; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: ``cuda`` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise UserError("No CUDA device is available; start the container with a GPU or use --device cpu.")
    return torch.device("cuda" if available and choice != "cpu" else "cpu")


def resolve_precision(choice: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Precision:
    """The precision to run in; ``auto`` is fp32 on a CPU, bf16 on a GPU that has it and fp16 on an older one.

    Raises:
        UserError: ``bf16`` on a GPU without it, or ``fp16`` on a CPU.
    """
    if device.type != "cuda":
        if choice == "fp16":
            raise UserError("fp16 needs a CUDA device; use --precision fp32 or bf16 on a CPU.")
        return "fp32" if choice == "auto" else choice
    has_bf16 = torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    if choice == "bf16" and not has_bf16:
        raise UserError("This GPU has no bf16; use --precision fp16 or fp32.")
    if choice == "auto":
        return "bf16" if has_bf16 else "fp16"
    return choice
