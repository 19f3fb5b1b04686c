"""What every engine can do: the logits of all folds for a batch of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from uga.model.arithmetic import Arithmetic
    from uga.model.folder import Model


class Engine(Protocol):
    """The networks of several folds on one device, in one arithmetic."""

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits of every fold.

        Args:
            batch: Normalised windows, float32 (B, 3, h, w) on the engine's device.

        Returns:
            float32 (K, B, C, h, w), K folds and C classes, on the same device. The caller may change it, and must be
            done with it before the next call.
        """
        ...

    def release(self) -> None:
        """Let go of the memory that is kept for batches as they have come so far; they may be smaller from now on."""
        ...


def make_engine(arithmetic: Arithmetic, model: Model, folds: Sequence[int], device: torch.device) -> Engine:
    """Load the folds of a model into an engine.

    Raises:
        ModelError: weights or window do not fit the plan.
    """
    if arithmetic.engine == "openvino":
        from uga.model.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an optional package

        return OpenVinoEngine(model, folds, arithmetic.precision)
    from uga.model.torch_engine import TorchEngine  # noqa: PLC0415 - of the two, the one that is used

    return TorchEngine(model, folds, device, arithmetic.precision)
