"""The GPUs that are visible, and which of them this torch can compute on."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from uga.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_BINARY = re.compile(r"sm_(\d+)(\d)[af]?")


@dataclass(frozen=True, slots=True)
class Gpus:
    """All GPUs that are visible, by names such as ``cuda:0``.

    Attributes:
        usable: Those that can be computed on.
        faults: Of each other one a sentence that says why not, and what to do.
    """

    usable: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    def usable_with_warnings(self) -> tuple[str, ...]:
        """Those that can be computed on, for a user who leaves the choice to us; the others are told of."""
        for fault in self.faults.values():
            log.warning("%s", fault)
        if self.faults and not self.usable:
            log.warning("No GPU is left, so the CPU computes; that takes many times as long.")
        return self.usable


def find_gpus() -> Gpus:
    """Looks at all GPUs; one that torch names no kernels for counts only if it computes all the same."""
    if not torch.cuda.is_available():
        return Gpus()
    torch.cuda.init()  # type: ignore[no-untyped-call] # else whole GPUs are counted where they are split (MIG)
    usable, faults = [], {}
    for index in range(torch.cuda.device_count()):
        fault = _fault(index)
        if fault is None:
            usable.append(f"cuda:{index}")
        else:
            faults[f"cuda:{index}"] = fault
    return Gpus(tuple(usable), faults)


def _fault(index: int) -> str | None:
    # Others are not tried: that takes a GPU's memory until this process ends, though other processes may be the ones to
    # compute, and keeps them from a GPU that lets in one process at a time.
    if _has_kernels(index):
        return None
    try:
        _compute(torch.device("cuda", index))
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(index)
        return (
            f"cuda:{index} ({torch.cuda.get_device_name(index)}) does not compute ({first_line(error)}), since this "
            f"torch, built for CUDA {torch.version.cuda}, has no kernels for compute capability {major}.{minor}; build "
            "the image with a base that has them (build.sh --base-image, docs/deploy.md) or leave that GPU out with "
            "CUDA_VISIBLE_DEVICES."
        )
    return None


def _has_kernels(index: int) -> bool:
    """Whether torch names machine code for the GPU: of its major compute capability, and of no later minor one."""
    major, minor = torch.cuda.get_device_capability(index)
    binaries = [match.groups() for name in torch.cuda.get_arch_list() if (match := _BINARY.fullmatch(name))]
    return any(int(of) == major and int(least) <= minor for of, least in binaries)


def _compute(device: torch.device) -> None:
    """One small kernel.

    Raises:
        RuntimeError: it does not run.
    """
    torch.ones(1, device=device).add_(1).item()
