"""A run over several devices: a process for each, which takes the next slide whenever it has finished one."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from uga.cohort import Outcome, close_run, open_run, process
from uga.errors import ExitCode, UgaError
from uga.model.arithmetic import resolve_arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.output.files import write_json
from uga.pipeline import Pipeline
from uga.processes import Job, run_together
from uga.stopping import stopping_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.cohort import Task
    from uga.inputs import SlideInput
    from uga.model.arithmetic import Arithmetic
    from uga.options import RunOptions
    from uga.recipe import Recipe

log = logging.getLogger(__name__)

_NOT_BEGUN = "not begun, since every process had stopped before; see the log, then start again to go on."


@dataclass(frozen=True, slots=True)
class Worker:
    """What one of the processes computes with.

    Attributes:
        device: Such as ``cuda:1``, or ``cpu``.
        choices: See `Ensemble`.
        threads: CPU threads; None for torch's own number, which workers on a CPU share.
    """

    device: str
    choices: tuple[Arithmetic, ...]
    threads: int | None = None


def workers_on(devices: Sequence[str], options: RunOptions, *, parallel: int) -> list[Worker]:
    """``parallel`` workers on each device, in turn, so that the first few are on as many devices as there are.

    Raises:
        UserError: a device has not what was asked for.
    """
    return [Worker(device, choices_on(device, options)) for _ in range(parallel) for device in devices]


def choices_on(device: str, options: RunOptions) -> tuple[Arithmetic, ...]:
    """What a device may compute with, by what the user asked for; one GPU may have bf16 and another not.

    Raises:
        UserError: the device has not what was asked for.
    """
    return resolve_arithmetic(options.engine, options.precision, torch.device(device))


@dataclass(frozen=True, slots=True)
class _Shared:
    """What workers tell each other, and the run, by files: which slides are taken, what became of them."""

    folder: Path

    def take(self, task: int, worker: int) -> bool:
        """Whether a worker was the first to take a task."""
        try:
            (self.folder / f"{task}.taken").symlink_to(str(worker))  # only one process can make it
        except FileExistsError:
            return False
        return True

    def taker(self, task: int) -> int | None:
        """The worker that took a task."""
        try:
            return int((self.folder / f"{task}.taken").readlink().name)
        except FileNotFoundError:
            return None

    def report(self, worker: int, outcome: Outcome) -> None:
        """Note what became of all slides of a worker so far."""
        write_json(self.folder / f"{worker}.json", outcome)

    def outcomes(self) -> list[Outcome]:
        """What the workers noted last."""
        return [Outcome.model_validate_json(file.read_bytes()) for file in sorted(self.folder.glob("*.json"))]


def run_spread(slides: Sequence[SlideInput], output: Path, recipe: Recipe, workers: Sequence[Worker]) -> ExitCode:
    """`run_cohort`, with slides spread over workers; a worker that dies costs the slide that it had taken.

    Raises:
        UserError: no worker came as far as a slide, for lack of memory for instance.
        RuntimeError: the same, by a defect.
    """
    started = datetime.now(UTC)
    tasks = open_run(slides, output)
    workers = _sharing_threads(workers[: len(tasks)])
    log.info("%d slides at the same time, on %s.", len(workers), ", ".join(worker.device for worker in workers))
    with tempfile.TemporaryDirectory(prefix="uga-") as folder:
        shared = _Shared(Path(folder))
        deaths = run_together(
            [
                Job(
                    f"The process on {worker.device}",
                    _work,
                    (worker, number, tasks, recipe.model.path, recipe.options, shared),
                    "start again to go on with the slides that are left, with a smaller --parallel",
                )
                for number, worker in enumerate(workers)
            ],
            keep_going=True,
        )
        outcome = _gather(tasks, shared, deaths)
    close_run(tasks, output, outcome, recipe, ", ".join(sorted({worker.device for worker in workers})), started)
    return outcome.code


def _sharing_threads(workers: Sequence[Worker]) -> list[Worker]:
    """The same; of those on a CPU, the ones without a number of threads get an equal share."""
    share = max(1, torch.get_num_threads() // max(1, sum(worker.device == "cpu" for worker in workers)))
    return [
        replace(worker, threads=share) if worker.device == "cpu" and worker.threads is None else worker
        for worker in workers
    ]


def _gather(tasks: Sequence[Task], shared: _Shared, deaths: Sequence[Exception | None]) -> Outcome:
    """What became of all slides; ``deaths`` says of each worker how it died, if it did."""
    takers = [shared.taker(number) for number in range(len(tasks))]
    dead = [death for death in deaths if death is not None]
    if dead and not any(taker is not None for taker in takers):
        raise dead[0]
    for each in dead:
        log.warning("%s", each)
    parts = shared.outcomes()
    outcome = Outcome(
        finished=tuple(slide for part in parts for slide in part.finished),
        failures=tuple(failure for part in parts for failure in part.failures),
        code=max((part.code for part in parts), default=ExitCode.OK),
    )
    for task in outcome.missing(tasks):
        taker = takers[tasks.index(task)]
        death = None if taker is None else deaths[taker]
        code = ExitCode.SLIDE_FAILED if death is None or isinstance(death, UgaError) else ExitCode.DEFECT
        outcome = outcome.with_failure(task, f"{task.source.path.name}: {death or _NOT_BEGUN}", code)
    return outcome.model_copy(update={"failures": tuple(sorted(outcome.failures, key=lambda failure: failure.slide))})


def _work(
    worker: Worker, number: int, tasks: Sequence[Task], model: Path, options: RunOptions, shared: _Shared
) -> None:
    """One process: takes tasks that nobody has taken yet until none is left."""
    if worker.threads is not None:
        torch.set_num_threads(worker.threads)
    device = torch.device(worker.device)
    with stopping_on_signals():
        ensemble = Ensemble(load_model(model), device=device, choices=worker.choices, mirroring=options.mirroring)
        mine = (task for position, task in enumerate(tasks) if shared.take(position, number))
        process(mine, Pipeline(ensemble, options), lambda so_far: shared.report(number, so_far), beside_others=True)
