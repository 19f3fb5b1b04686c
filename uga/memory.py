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

# The numbers of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_APART = ((_MMAP_THRESHOLD, 4 << 20), (_TRIM_THRESHOLD, 128 << 10))
_TOGETHER = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))  # what glibc comes to by itself


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    # Not the figure of getrusage, which starts with that of the process this one was started from.
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def configure_heap() -> None:
    """Let all threads share the main heap; call it before any thread starts.

    glibc gives every thread a heap of its own and keeps what is freed there; with the threads of each slide that adds
    up, from slide to slide. Processes that this one starts do likewise.
    """
    _set(((_ARENA_MAX, 1),))
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")


def keep_large_arrays_apart(apart: bool) -> None:
    """Whether arrays of 4 MiB and more, those of all threads, lie outside the heap from now on.

    In the heap, where glibc puts arrays of up to 32 MiB once it has seen some come and go, they leave holes between
    what lives longer. Outside it the system has to find every page anew, which halves the speed of a network in torch:
    each of its layers makes such arrays. OpenVINO makes its own once, a GPU elsewhere. Holes that are there already are
    filled again.
    """
    _set(_APART if apart else _TOGETHER)
    if apart:
        return_free_memory()  # above all the end of the heap, which would be filled first


def _set(options: tuple[tuple[int, int], ...]) -> None:
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such heaps
    if set_option is not None:
        for option, value in options:
            set_option(option, value)


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
