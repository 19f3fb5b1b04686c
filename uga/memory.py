"""Memory of this process: how much it took, a heap that holds little that nobody uses, and giving that back."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The numbers of mallopt in glibc's malloc.h, and the same options for processes to come.
_HEAP_OPTIONS = (
    (-8, "MALLOC_ARENA_MAX", 1),
    (-3, "MALLOC_MMAP_THRESHOLD_", 4 << 20),
)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    # Not the figure of getrusage, which starts with that of the process this one was started from.
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def configure_heap() -> None:
    """Let all threads share the main heap, and keep large arrays out of it; call it before any thread starts.

    glibc gives every thread a heap of its own and keeps what is freed there; with the threads of each slide that adds
    up, from slide to slide. And once it has seen arrays of some size come and go it puts the next ones into the heap,
    up to 32 MiB, where they leave holes between what lives longer. Processes that this one starts do likewise.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such heaps
    if set_option is not None:
        for option, variable, value in _HEAP_OPTIONS:
            set_option(option, value)
            os.environ.setdefault(variable, str(value))


@contextmanager
def lasting() -> Iterator[None]:
    """For what is made to last, as imports are: Python's collector does not look through it, neither now nor later.

    Imports of torch and the rest make objects by the hundred thousand; to look for garbage among them over and over
    takes a sixth of their time. Only the first use in a process is for ever: later ones could keep garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if gc.get_freeze_count() == 0:
            gc.freeze()
    finally:
        if enabled:
            gc.enable()


def return_free_memory() -> None:
    """Give the system back what the heap holds and nothing uses; what is resident then is what something keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
