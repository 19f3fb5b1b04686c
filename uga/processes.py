"""Processes of their own for parts of a long work: none outlives the one that started it, failures reach the user."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from uga.cli.console import configure_logging
from uga.errors import UgaError, UserError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

log = logging.getLogger(__name__)

_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Job:
    """A function of a module, to run in a process of its own.

    Attributes:
        name: What it does, for messages, such as "Training folds 0 and 2 on cuda:1".
        function: Importable by its name.
        arguments: Picklable.
        remedy: What a user can do if it dies, usually for lack of memory.
    """

    name: str
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    remedy: str = "start again to go on where it stopped, with less at the same time"


def run_together(jobs: Sequence[Job]) -> None:
    """Run jobs at the same time until all have ended; the first that fails stops the others.

    Raises:
        UserError: what a job raised on behalf of the user, or how it died.
        RuntimeError: a job stopped by a defect; its process has logged it.
    """
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Job, SpawnProcess, Connection]] = []
    try:
        for job in jobs:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(job, sender))
            process.start()
            sender.close()
            started.append((job, process, receiver))
        running = list(started)
        while running:
            ended = wait([process.sentinel for _, process, _ in running])
            for job, process, receiver in [each for each in running if each[1].sentinel in ended]:
                process.join()
                if process.exitcode != 0:
                    raise _failure(job, process.exitcode, receiver)
            running = [each for each in running if each[1].sentinel not in ended]
    finally:
        for _, process, receiver in started:
            _end(process)
            process.join()
            receiver.close()


def _end(process: SpawnProcess) -> None:
    """End a process, which may clear up first, and all that it started: it leads a group of its own."""
    process.terminate()
    process.join(_GRACE_S)
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.is_alive():
            process.kill()


def _failure(job: Job, exit_code: int | None, receiver: Connection) -> Exception:
    if receiver.poll():
        with suppress(EOFError):
            is_users, sentence = receiver.recv()
            return UserError(sentence) if is_users else RuntimeError(f"{job.name}: {sentence}")
    how = f"was killed (signal {-exit_code})" if exit_code and exit_code < 0 else f"ended with code {exit_code}"
    return UserError(f"{job.name} {how}, often for lack of memory; {job.remedy}.")


def _run(job: Job, sender: Connection) -> None:
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging()
    try:
        job.function(*job.arguments)
    except UgaError as error:
        sender.send((True, str(error)))
        raise SystemExit(1) from error
    except Exception as error:
        if is_out_of_memory(error):
            sender.send((True, f"{job.name} ran out of memory; {job.remedy}."))
        else:
            log.exception("%s failed", job.name)
            sender.send((False, f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from error


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and end with everything this process has started."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
