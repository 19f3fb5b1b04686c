"""Whole processes, timed: seconds and peak memory, in alternating turns, since a machine's speed drifts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch

from uga.model.arithmetic import cpu_has_bf16

ROOT = Path(__file__).parents[1]
_PACKAGES = ("torch", "openvino", "nnunetv2", "openslide-python", "openslide-bin", "tifffile", "numpy")


@dataclass(frozen=True)
class Run:
    """One finished process: wall seconds, and the JSON object it printed last."""

    wall_s: float
    said: dict[str, Any]

    @property
    def peak_mib(self) -> float:
        """Largest resident memory, as the process itself found it: what its parent is told counts the parent's too."""
        return float(self.said["peak_mib"])


def run(command: list[str | Path], **environment: str) -> Run:
    """Run a process to its end.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own commands
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    text = process.stdout.read()
    status = process.wait()
    wall = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{command} failed:\n{text[-3000:]}")
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return Run(wall, json.loads(lines[-1]))


def worker(name: str, *arguments: str | Path | float, **environment: str) -> Run:
    """Run a function of `benchmarks.workers` in a process of its own."""
    return run([sys.executable, "-m", "benchmarks.workers", name, *map(str, arguments)], **environment)


def in_turns(repeat: int, **contestants: Any) -> dict[str, list[Run]]:
    """Call each contestant, A B C A B C ..., and gather what they return."""
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(repeat):
        for name, call in contestants.items():
            found = call()
            runs[name].append(found)
            print(f"  {name} ({number + 1} of {repeat}): {found.wall_s:.1f} s, {found.peak_mib:.0f} MiB", flush=True)
    return runs


def ratio(over: list[float], under: list[float]) -> float:
    """Median of the ratios, turn by turn."""
    return median(a / b for a, b in zip(over, under, strict=True))


def kind() -> str:
    """The kind of machine, for figures that say nothing about another kind: ``gpu``, ``cpu-bf16`` or ``cpu``."""
    if torch.cuda.is_available():
        return "gpu"
    return "cpu-bf16" if cpu_has_bf16() else "cpu"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "bf16": cpu_has_bf16(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
