"""Memory of this process: how much it took, one heap for all threads, and nothing held that nobody uses."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_M_ARENA_MAX = -8  # of glibc's malloc.h


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    # Not the figure of getrusage, which starts with that of the process this one was started from.
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def keep_one_heap() -> None:
    """Let all threads of this process, and of those it starts, share the main heap; call it before any thread starts.

    glibc gives every thread a heap of its own and keeps what is freed there; with the threads of each slide that adds
    up, from slide to slide.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such heaps
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")


def return_free_memory() -> None:
    """Give the system back what the heap holds and nothing uses; what is resident then is what something keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
