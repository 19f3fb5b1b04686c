"""What computes here: processors, memory, GPUs, and a folder that maps can be written to."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide
import tifffile
import torch

from uga.doctor.finding import failed, fine, guarded, note
from uga.errors import UserError
from uga.geometry import SpacingUm
from uga.model.arithmetic import cpu_has_bf16, find_devices
from uga.output.tiff import PyramidWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.doctor.finding import Finding
    from uga.model.choices import DeviceChoice

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_LITTLE_MEMORY = 4 << 30
_LITTLE_DISK = 2 << 30
_MAP_PX = (700, 1100)  # more than one tile and one level


def check_processor() -> Iterator[Finding]:
    """Processors, threads, and whether a container may use less than it sees."""
    processors, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    bf16 = "with bf16" if cpu_has_bf16() else "without bf16, so in fp32"
    yield fine(f"{processors} processor(s), {threads} thread(s) compute, {bf16}")
    quota = _processor_quota()
    if quota is not None and quota < threads:
        yield note(
            f"The container may use {quota:g} processor(s) but computes with {threads} threads, which then wait for "
            f"each other; give it whole ones (--cpuset-cpus) or set OMP_NUM_THREADS={max(1, int(quota))}."
        )


def check_memory() -> Iterator[Finding]:
    """Memory of the machine, or as much of it as a container may take."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = min(pages, _memory_limit() or pages)
    yield fine(f"{limit / 2**30:.1f} GiB of memory")
    if limit < _LITTLE_MEMORY:
        yield note(
            "Enough for the demo ensemble; five networks as nnU-Net plans them take 4 GiB (docs/performance.md)."
        )


def check_devices(choice: DeviceChoice) -> Iterator[Finding]:
    """The devices that a run would use; a GPU must compute what the CPU does.

    Raises:
        UserError: a GPU was asked for and there is none, or one that does not compute.
    """
    for name in find_devices(choice):
        if name == "cpu":
            yield fine(f"The CPU computes{_why_no_gpu(choice)}.")
        else:
            yield from guarded(name, _check_gpu(name))


def check_files(folder: Path | None) -> Iterator[Finding]:
    """Writes a map to the folder, else that for temporary files, reads it back with OpenSlide and tifffile, removes it.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(tempfile.gettempdir()) if folder is None else folder
    labels = np.random.default_rng(0).integers(0, 2, _MAP_PX, np.uint8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".uga-doctor-", dir=folder) as scratch:
            path = Path(scratch) / "map.tif"
            height, width = labels.shape
            with PyramidWriter(path, width=width, height=height, spacing_um=SpacingUm(1, 1), kind="labels") as writer:
                writer.append(labels)
            with openslide.OpenSlide(path) as slide:
                by_openslide = np.asarray(slide.read_region((0, 0), 0, (width, height)))[..., 0]
            same = np.array_equal(by_openslide, labels) and np.array_equal(tifffile.imread(path, key=0), labels)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be written ({error.strerror}); name another.") from error
    if not same:
        yield failed(f"A map written to {folder} was read back with other pixels; check the disk.")
        return
    free = shutil.disk_usage(folder).free
    yield fine(f"Maps can be written to {folder}, {free / 2**30:.1f} GiB free; OpenSlide and tifffile read them back")
    if free < _LITTLE_DISK:
        yield note(f"{folder} has little room; a large slide with its patches takes up to a GiB.")


def _check_gpu(name: str) -> Iterator[Finding]:
    device = torch.device(name)
    window, weight = torch.rand(1, 3, 64, 64), torch.rand(8, 3, 3, 3)
    there = torch.nn.functional.conv2d(window.to(device), weight.to(device)).cpu()
    if not torch.allclose(there, torch.nn.functional.conv2d(window, weight), rtol=1e-2):
        yield failed(f"{name} computes wrong numbers; leave it out with CUDA_VISIBLE_DEVICES, and have it checked.")
        return
    free, total = torch.cuda.mem_get_info(device)
    yield fine(
        f"{name} computes: {torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )


def _why_no_gpu(choice: DeviceChoice) -> str:
    if choice == "cpu":
        return ", as asked for"
    if torch.cuda.is_available():
        return "; no GPU here does"
    if torch.version.cuda is None:
        return "; this torch is built without CUDA"
    return "; no GPU is visible (in a container: docker run --gpus all)"


def _processor_quota() -> float | None:
    """Processors that this process may use at a time; None: all."""
    quotas = []
    for folder in _control_groups():
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:  # version 1
            quota, period = _read(folder / "cpu/cpu.cfs_quota_us"), _read(folder / "cpu/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _memory_limit() -> int | None:
    limits = [
        _read(folder / "memory.max") or _read(folder / "memory/memory.limit_in_bytes") for folder in _control_groups()
    ]
    return min((int(limit) for limit in limits if limit.isdigit()), default=None)


def _control_groups() -> list[Path]:
    """The control group of this process (version 2) and those above it; in a container the root is its own."""
    own = next((line[3:] for line in _read(_OWN_GROUP).splitlines() if line.startswith("0::")), "/")
    group = _CGROUP / own.strip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(_CGROUP)]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
