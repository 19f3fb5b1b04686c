"""The learning rate of a fine-tuning: a linear rise, then nnU-Net's polynomial decay, iteration by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_EXPONENT = 0.9


class WarmUpPoly:
    """Sets the learning rate of an optimiser.

    Args:
        optimizer: Of the training.
        peak: Learning rate at the end of the warm-up.
        warm_up: Iterations of the linear rise.
        per_epoch: Iterations of an epoch.
        epochs: Epochs of the training.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, peak: float, warm_up: int, per_epoch: int, epochs: int
    ) -> None:
        self._optimizer = optimizer
        self._peak = peak
        self._warm_up = warm_up
        self._per_epoch = per_epoch
        self._total = per_epoch * epochs

    def step(self, epoch: int) -> None:
        """What nnU-Net calls before each epoch."""
        self.at(epoch * self._per_epoch)

    def at(self, iteration: int) -> float:
        """Set and return the rate of an iteration, 0 for the first one of the training."""
        rate = self.rate(iteration)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def rate(self, iteration: int) -> float:
        """The rate of an iteration; never zero before the end."""
        if iteration < self._warm_up:
            return self._peak * ((iteration + 1) / self._warm_up)
        left = 1 - (iteration - self._warm_up) / (self._total - self._warm_up)
        return float(self._peak * left**_EXPONENT)
