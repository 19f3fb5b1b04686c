"""Where an experiment is computed: devices, and how many cells at the same time on each."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Compute:
    """What the user asked for.

    Attributes:
        devices: Such as ``cpu``, or ``cuda:0`` and ``cuda:1``.
        parallel: Cells at the same time on each device.
        threads: CPU threads of a cell; None for torch's, shared out.
    """

    devices: tuple[str, ...] = ("cpu",)
    parallel: int = 1
    threads: int | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The processes that work at the same time."""
        count = len(self.devices) * self.parallel
        threads = self.threads or max(1, torch.get_num_threads() // count)
        return tuple(Slot(device, threads) for _ in range(self.parallel) for device in self.devices)


@dataclass(frozen=True, slots=True)
class Slot:
    """One process: a device and its CPU threads, whose number changes the last digits of weights."""

    device: str
    threads: int

    def enter(self) -> torch.device:
        """Set this process up for it."""
        torch.set_num_threads(self.threads)
        device = torch.device(self.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device
