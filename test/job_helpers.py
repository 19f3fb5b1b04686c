"""Jobs for processes of their own; a module of its own, so that they do not import torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.stopping import stopping_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def succeed(path: Path) -> None:
    """Leave a file."""
    path.touch()


def fail(_path: Path) -> None:
    """Fail by the user's request."""
    raise UserError("The batch is too large; make it smaller.")


def succeed_and_fall_apart(path: Path) -> None:
    """Leave a file, and a library that does not survive being taken apart."""
    path.touch()
    sys.modules["late"] = _Late()  # type: ignore[assignment]


class _Late:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGSEGV)


def die(_path: Path) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def abort(_path: Path) -> None:
    """End as a library does that finds itself broken."""
    os.abort()


def lose_the_gpu(_path: Path) -> None:
    """Fail as torch does on a GPU that has failed; torch is not imported for it."""
    raise type("AcceleratorError", (RuntimeError,), {})("CUDA error: unspecified launch failure\nSearch for it.")


def lack_memory(_path: Path) -> None:
    """Need more memory than there is."""
    raise MemoryError


def fill_the_disk(_path: Path) -> None:
    """Write where there is no room."""
    Path("/dev/full").write_text("x")


def wait(path: Path) -> None:
    """Tell who waits, and wait; it may be stopped at any moment, so the file is there whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(str(os.getpid()))
    partial.rename(path)
    time.sleep(120)


def wait_with_child(pids: Path) -> None:
    """Tell who waits, and wait together with a child."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    pids.write_text(f"{os.getpid()} {child.pid}")
    time.sleep(120)


def wait_in_order(ready: Path) -> None:
    """Wait, and end in order when asked to."""
    with stopping_on_signals():
        ready.touch()
        time.sleep(120)


def ignore_the_end(ready: Path) -> None:
    """Note when one was asked to end, and go on."""
    stopped = ready.with_suffix(".stopped")
    signal.signal(signal.SIGTERM, lambda *_: stopped.write_text(str(time.monotonic())))
    ready.touch()
    time.sleep(120)


def fail_once(ready: Sequence[Path]) -> None:
    """Fail by the user's request as soon as all others are ready."""
    _wait_for(lambda: all(path.exists() for path in ready))
    raise UserError("The batch is too large; make it smaller.")


def work_beside_a_killed_one(worker, number, tasks, model, options, shared) -> None:
    """A worker of a spread run; number 0 is killed within its first slide, the others begin after that."""

    def be_killed(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    _work(be_killed, lambda: shared.taker(0) == 0, worker, number, tasks, model, options, shared)


def work_beside_a_sick_one(worker, number, tasks, model, options, shared) -> None:
    """A worker of a spread run; number 0 fails on every slide, the others begin when it has given up."""

    def be_sick(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    def has_given_up() -> bool:
        return any(len(outcome.failures) == 2 for outcome in shared.outcomes())

    _work(be_sick, has_given_up, worker, number, tasks, model, options, shared)


def _work(run: Callable[..., bool], may_begin: Callable[[], bool], worker, number, *rest) -> None:
    from uga import spreading  # noqa: PLC0415 - imports torch
    from uga.pipeline import Pipeline  # noqa: PLC0415

    if number == 0:
        Pipeline.run = run
    else:
        _wait_for(may_begin)
    spreading._work(worker, number, *rest)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
