"""Which device, engine and precision compute the networks: what the user asked for, else what the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from uga.errors import UserError
from uga.model.gpus import find_gpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.model.choices import (
        DeviceChoice,
        EngineChoice,
        EngineName,
        Precision,
        PrecisionChoice,
        TrainingPrecisionChoice,
    )

_BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """An engine and the precision it computes in."""

    engine: EngineName
    precision: Precision

    @property
    def required_agreement(self) -> float:
        """Share of pixels whose label must be that of the reference, for ``auto`` to choose this."""
        return 0.999 if self.precision == "fp32" else 0.995

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


REFERENCE = Arithmetic("torch", "fp32")
"""Computes what nnU-Net's own predictor computes on a CPU; all others are held against it."""


def find_devices(choice: DeviceChoice) -> tuple[str, ...]:
    """Names of the devices to run on: all GPUs that are visible, or the CPU; ``auto`` leaves out what does not compute.

    Raises:
        UserError: ``cuda`` was asked for and there is none, or one that does not compute.
    """
    if choice == "cpu":
        return ("cpu",)
    gpus = find_gpus()
    if choice == "auto":
        return gpus.usable_with_warnings() or ("cpu",)
    if gpus.faults:
        raise UserError(next(iter(gpus.faults.values())))
    if not gpus.usable:
        raise UserError("No CUDA device is available; start the container with a GPU or use --device cpu.")
    return gpus.usable


def resolve_arithmetic(
    engine: EngineChoice, precision: PrecisionChoice, device: torch.device
) -> tuple[Arithmetic, ...]:
    """What to compute with, the most wanted first; `Ensemble.settle` takes the first that proves itself.

    ``auto`` prefers a low precision that the processor has instructions for, and on a CPU OpenVINO if it is installed.

    Raises:
        UserError: the device has not what was asked for.
    """
    engines: tuple[EngineName, ...]
    if engine != "auto":
        engines = (engine,)
    elif device.type == "cpu" and has_openvino():
        engines = ("openvino", "torch")
    else:
        engines = ("torch",)
    if "openvino" in engines and device.type != "cpu":
        raise UserError("OpenVINO runs on the CPU only; use --engine torch on a GPU.")
    if "openvino" in engines and not has_openvino():
        raise UserError("OpenVINO is not installed; install the package openvino or use --engine torch.")
    return tuple(Arithmetic(each, level) for level in _precisions(precision, device) for each in engines)


def resolve_training_precision(choice: TrainingPrecisionChoice, devices: Sequence[str]) -> Precision:
    """What networks are trained in; ``auto`` is bf16 on a CPU that has instructions for it, nnU-Net's own on a GPU.

    Raises:
        UserError: a precision was named for a GPU.
    """
    if devices != ("cpu",):
        if choice != "auto":
            raise UserError("On a GPU nnU-Net's own mixed precision is used; leave out --precision.")
        return "fp16"
    if choice == "auto":
        return "bf16" if cpu_has_bf16() else "fp32"
    return choice


def has_openvino() -> bool:
    """Whether the package openvino is installed."""
    return find_spec("openvino") is not None


def _precisions(choice: PrecisionChoice, device: torch.device) -> tuple[Precision, ...]:
    if device.type != "cuda":
        if choice == "fp16":
            raise UserError("fp16 needs a CUDA device; use --precision fp32 or bf16 on a CPU.")
        if choice == "auto":
            return ("bf16", "fp32") if cpu_has_bf16() else ("fp32",)
        return (choice,)
    has_bf16 = torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    if choice == "bf16" and not has_bf16:
        raise UserError(f"{device} has no bf16; use --precision fp16 or fp32.")
    if choice == "auto":
        return ("bf16" if has_bf16 else "fp16", "fp32")
    return (choice,)


def cpu_has_bf16() -> bool:
    """Whether there are instructions for it; without them bf16 is emulated, which is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
