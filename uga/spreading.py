"""A run over several devices: a process for each, which takes the next slide whenever it has finished one."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from uga.cohort import Outcome, close_run, open_run, process
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.output.files import write_json
from uga.pipeline import Pipeline
from uga.processes import Job, run_together
from uga.stopping import stopping_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uga.cohort import Task
    from uga.errors import ExitCode
    from uga.inputs import SlideInput
    from uga.model.arithmetic import Arithmetic
    from uga.options import RunOptions
    from uga.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """What one of the processes computes with.

    Attributes:
        device: Such as ``cuda:1``, or ``cpu``.
        choices: See `Ensemble`.
        threads: CPU threads; None for torch's own number.
    """

    device: str
    choices: tuple[Arithmetic, ...]
    threads: int | None = None


def workers_on(devices: Sequence[str], choices: tuple[Arithmetic, ...], *, parallel: int) -> list[Worker]:
    """``parallel`` workers on each device; on a CPU they share its threads."""
    on_cpu = devices == ("cpu",)
    threads = max(1, torch.get_num_threads() // parallel) if on_cpu and parallel > 1 else None
    return [Worker(device, choices, threads) for device in devices for _ in range(parallel)]


def run_spread(slides: Sequence[SlideInput], output: Path, recipe: Recipe, workers: Sequence[Worker]) -> ExitCode:
    """`run_cohort`, with slides spread over workers.

    Raises:
        UserError: a process died, for lack of memory for instance; what is complete stays.
    """
    started = datetime.now(UTC)
    tasks = open_run(slides, output)
    workers = workers[: len(tasks)]
    log.info("%d slides at the same time, on %s.", len(workers), ", ".join(worker.device for worker in workers))
    with tempfile.TemporaryDirectory(prefix="uga-") as folder:
        shared = Path(folder)
        run_together(
            [
                Job(
                    f"The process on {worker.device}",
                    _work,
                    (worker, number, tasks, recipe.model.path, recipe.options, shared),
                    "start again to go on with the slides that are left, with a smaller --parallel",
                )
                for number, worker in enumerate(workers)
            ]
        )
        outcomes = [Outcome.model_validate_json(file.read_bytes()) for file in sorted(shared.glob("*.json"))]
    outcome = Outcome(
        finished=tuple(slide for each in outcomes for slide in each.finished),
        failures=tuple(sorted((f for each in outcomes for f in each.failures), key=lambda failure: failure.slide)),
        code=max(each.code for each in outcomes),
    )
    close_run(tasks, output, outcome, recipe, ", ".join(sorted({worker.device for worker in workers})), started)
    return outcome.code


def _work(worker: Worker, number: int, tasks: Sequence[Task], model: Path, options: RunOptions, shared: Path) -> None:
    """One process: takes tasks that nobody has taken yet until none is left."""
    if worker.threads is not None:
        torch.set_num_threads(worker.threads)
    device = torch.device(worker.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with stopping_on_signals():
        ensemble = Ensemble(load_model(model), device=device, choices=worker.choices, mirroring=options.mirroring)
        outcome = process(_not_taken(tasks, shared), Pipeline(ensemble, options), lambda _: None)
    write_json(shared / f"{number}.json", outcome)


def _not_taken(tasks: Sequence[Task], shared: Path) -> Iterator[Task]:
    for number, task in enumerate(tasks):
        try:
            (shared / f"{number}.taken").touch(exist_ok=False)  # only one process can make it
        except FileExistsError:
            continue
        yield task
