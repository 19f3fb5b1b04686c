"""Processes of their own for parts of a long work: none outlives the one that started it, failures reach the user."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from uga.cli.console import configure_logging
from uga.errors import UgaError, UserError, is_out_of_memory, machine_sentence
from uga.stopping import Stopped, leave

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


@dataclass(frozen=True, slots=True)
class _Started:
    job: Job
    process: SpawnProcess
    receiver: Connection


def run_together(jobs: Sequence[Job], *, keep_going: bool = False) -> list[Exception | None]:
    """Run jobs at the same time until all have ended.

    Args:
        jobs: What to run.
        keep_going: Whether the others go on after one has failed; else the first that fails stops them.

    Returns:
        For each job how it failed, or None; failures are there only with ``keep_going``.

    Raises:
        UserError: what a job raised on behalf of the user, or how it died.
        RuntimeError: a job stopped by a defect; its process has logged it.
    """
    context = multiprocessing.get_context("spawn")
    started: list[_Started] = []
    failures: list[Exception | None] = [None] * len(jobs)
    try:
        for job in jobs:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(job, sender))
            process.start()
            sender.close()
            started.append(_Started(job, process, receiver))
        running = set(range(len(started)))
        while running:
            ended = wait([started[number].process.sentinel for number in running])
            for number in sorted(number for number in running if started[number].process.sentinel in ended):
                running.remove(number)
                failures[number] = failure = _failure(started[number])
                if failure is not None and not keep_going:
                    raise failure
    finally:
        _end([each.process for each in started])
        for each in started:
            each.receiver.close()
    return failures


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End processes, which may clear up first, and all that they started: each leads a group of its own."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S  # one for all: who stops a run may not wait for long
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.is_alive():
            process.kill()
        process.join()


def _failure(ended: _Started) -> Exception | None:
    """How a job failed whose process has ended."""
    job, process, receiver = ended.job, ended.process, ended.receiver
    process.join()
    exit_code = process.exitcode
    if exit_code == 0:
        return None
    if receiver.poll():
        with suppress(EOFError):
            is_users, sentence = receiver.recv()
            return UserError(sentence) if is_users else RuntimeError(f"{job.name}: {sentence}")
    how = f"was killed (signal {-exit_code})" if exit_code and exit_code < 0 else f"ended with code {exit_code}"
    why = "often a fault of the GPU" if exit_code == -signal.SIGABRT else "often for lack of memory"
    return UserError(f"{job.name} {how}, {why}; {job.remedy}.")


def _run(job: Job, sender: Connection) -> None:
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging()
    leave(_exit_code(job, sender))


def _exit_code(job: Job, sender: Connection) -> int:
    try:
        job.function(*job.arguments)
    except UgaError as error:
        sender.send((True, str(error)))
    except Stopped as stopped:
        return stopped.exit_code
    except Exception as error:
        if is_out_of_memory(error):
            sender.send((True, f"{job.name} ran out of memory; {job.remedy}."))
        elif sentence := machine_sentence(error):
            sender.send((True, f"{job.name}: {sentence}"))
        else:
            log.exception("%s failed", job.name)
            sender.send((False, f"{type(error).__name__}: {error}"))
    else:
        return 0
    return 1


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and end with everything this process has started."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
