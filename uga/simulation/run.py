"""A whole experiment, from the configuration to the report: what `uga simulate` does."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from uga.cohort import FAILURES_FILE
from uga.errors import ExitCode, UgaError, UserError, is_out_of_memory, machine_sentence
from uga.model.arithmetic import resolve_arithmetic, resolve_training_precision
from uga.output.files import write_atomic, write_json
from uga.output.schema import SCHEMA_VERSION, Record
from uga.processes import Job, run_together
from uga.progress import duration
from uga.simulation.baseline import baseline_model
from uga.simulation.cells import (
    BASELINE,
    CELLS_FOLDER,
    MANIFEST_FILE,
    MODEL_FOLDER,
    Identifier,
    Plan,
    cell_keys,
    read_cell,
)
from uga.simulation.pool import PATCHES_FILE, open_runs, read_patches, write_patches
from uga.simulation.report import write_report
from uga.simulation.segmenting import segment_pool
from uga.simulation.selection import Selector
from uga.simulation.sources import prepare
from uga.simulation.work import POOL_FOLDER, Experiment, carry_out, share
from uga.stopping import stopping_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uga.exporting import FinishedRuns
    from uga.model.choices import Precision
    from uga.model.folder import Model
    from uga.simulation.cells import CellManifest
    from uga.simulation.config import LoadedConfig, SimulationConfig
    from uga.simulation.sources import Cohorts
    from uga.simulation.workers import Compute, Slot

log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """What is simulated, from what, where.

    Attributes:
        loaded: The configuration.
        output: Folder of the experiment; a second run with it goes on.
        data: Folder with the user's slides or tiles, if the configuration reads one.
        model: Baseline in place of the configuration's.
        compute: Where to compute.
        only_report: Work on no cell, report those that are finished.
    """

    loaded: LoadedConfig
    output: Path
    compute: Compute
    data: Path | None = None
    model: Path | None = None
    only_report: bool = False

    @property
    def command(self) -> str:
        """The command that makes the same experiment; folders are named by what they hold."""
        compute = self.compute
        said = ["python -m uga simulate", Path(self.loaded.called).name, "--output OUT"]
        said += self.loaded.changes
        said += ["--data DATA"] if self.data is not None else []
        said += ["--model MODEL"] if self.model is not None else []
        said += [f"--devices {','.join(compute.devices)}", f"--parallel {compute.parallel}"]
        said += [f"--threads {compute.threads}"] if compute.threads is not None else []
        return " ".join(said)


class CellFailure(Record):
    """A cell that could not be carried out; ``code`` is the exit code it stands for."""

    cell: str
    error: str
    code: int


class Failures(Record):
    """``failures.json``: there only if a cell of the latest run failed."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    failures: tuple[CellFailure, ...]


def simulate(request: SimulationRequest) -> ExitCode:
    """Carry out an experiment; a second call goes on where a killed one stopped, and redoes what has changed.

    Returns:
        OK; SLIDE_FAILED if a cell failed; DEFECT if UGA itself is at fault. The report is over the finished cells.

    Raises:
        UgaError: the experiment cannot be carried out.
    """
    output, config = request.output, request.loaded.config
    with _own(output):
        write_atomic(output / CONFIG_FILE, (config.model_dump_json(indent=2, exclude_none=True) + "\n").encode())
        cohorts = prepare(request.loaded, output / "data", request.data)
        cohorts.check()
        _check_centres(config, cohorts)
        log.info("%d query slides, %d test slides.", len(cohorts.query), len(cohorts.test))
        slots = request.compute.slots
        model = baseline_model(request.loaded, cohorts, output / "baseline", request.compute, given=request.model)
        _check_baseline(request.loaded, model)
        pool = output / POOL_FOLDER
        segment_pool(cohorts.query, model, pool, config, slots)
        runs = open_runs(pool, cohorts, model)
        config = _settled(config, runs)
        if not request.only_report:
            _check_devices(config, request.compute.devices, pool)
        precision = _trained_in(output) if request.only_report else None
        if precision is None:
            precision = resolve_training_precision(config.finetuning.precision, request.compute.devices)
        experiment = Experiment(output, config, cohorts, model.path, precision)
        patches = read_patches(runs, cohorts, config.evaluation.label)
        write_patches(pool / PATCHES_FILE, patches)
        exclusion = config.query.exclusion
        if blind := sum(patch.judged == 0 and not exclusion.excludes(patch.candidate) for patch in patches):
            log.warning("%d patches are not queried: no reference judges them.", blind)
        selector = Selector(patches, runs, config.query, slots[0].enter())
        identifier = Identifier(config, cohorts, runs, precision)
        plans = []
        for key in [BASELINE] if request.loaded.only_baseline else cell_keys(config):
            selected = selector.select(key)
            plans.append(Plan(key, selected, selector.ranks(selected), identifier.identify(key, selected)))
        failures: list[CellFailure] = []
        if not request.only_report:
            failures = _work_on(_waiting(plans, experiment), experiment, slots)
            _write_failures(output / FAILURES_FILE, failures)
        page = write_report(experiment, plans, selector, request)
    log.info("Open %s", page)
    return ExitCode(max((each.code for each in failures), default=ExitCode.OK))


def _check_centres(config: SimulationConfig, cohorts: Cohorts) -> None:
    known = {case.centre for case in cohorts.test}
    if unknown := [centre for centre in config.evaluation.centres if centre not in known]:
        raise UserError(
            f"evaluation.centres names {', '.join(unknown)}, where no test slide is from; name some of "
            f"{', '.join(sorted(known))}."
        )


def _check_baseline(loaded: LoadedConfig, model: Model) -> None:
    """Refuse to repeat a cell from another model than it started from."""
    if loaded.baseline_sha256 not in (None, model.sha256):
        raise UserError(
            f"The cell of {loaded.called} started from the baseline with SHA-256 {loaded.baseline_sha256}, and "
            f"{model.path} has {model.sha256}; name its folder with --model."
        )


def _settled(config: SimulationConfig, runs: FinishedRuns) -> SimulationConfig:
    """The configuration with what computed the query pool in place of ``auto``: all cells are computed alike."""
    computation = runs.finished[min(runs.finished)].manifest.computation
    taken = {"engine": computation.engine, "precision": computation.precision}
    chosen = {name: value for name, value in taken.items() if getattr(config.inference, name) == "auto"}
    return config.model_copy(update={"inference": config.inference.model_copy(update=chosen)})


def _trained_in(output: Path) -> Precision | None:
    """What the latest finished cell was trained in: a report is over cells that were computed, wherever it is made."""
    folders = (file.parent for file in (output / CELLS_FOLDER).glob(f"*/{MANIFEST_FILE}"))
    manifests = (manifest for folder in folders if (manifest := read_cell(folder)) is not None)
    trained = [(each.finished, each.training.precision) for each in manifests if each.training is not None]
    return max(trained)[1] if trained else None


def _check_devices(config: SimulationConfig, devices: Sequence[str], pool: Path) -> None:
    """Refuse devices that cannot compute as the query pool was, before anything is trained on them."""
    for device in devices:
        try:
            resolve_arithmetic(config.inference.engine, config.inference.precision, torch.device(device))
        except UserError as error:
            raise UserError(
                f"{pool} was computed in {config.inference.engine} {config.inference.precision}, and all cells are "
                f"computed alike, which {device} cannot ({error}) Name other --devices or another --output."
            ) from error


@contextmanager
def _own(output: Path) -> Iterator[None]:
    """Holds the folder for this process; the system lets go of it however the process ends."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = os.open(output / _LOCK_FILE, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(f"The folder {output} cannot be written ({error.strerror}); name another one.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another run works in {output}; wait for it or name another folder.") from error
        yield
    finally:
        os.close(lock)


def _waiting(plans: Sequence[Plan], experiment: Experiment) -> list[list[Plan]]:
    """The cells that are left to do, those of one identity together; results that are there already are shared."""
    left, known, lacking = [], {}, set()
    for plan in plans:
        folder = experiment.cell(plan.key)
        manifest = read_cell(folder)
        if manifest is None or manifest.identity != plan.identity:
            left.append(plan)
        elif _lacks_model(folder, manifest, experiment):
            left.append(plan)
            lacking.add(plan.identity)
        else:
            known[plan.identity] = (folder, manifest)
    groups: dict[str, list[Plan]] = {}
    for plan in left:
        if plan.identity in known and plan.identity not in lacking:
            share(plan, *known[plan.identity], experiment)
        else:
            groups.setdefault(plan.identity, []).append(plan)
    trained = sum(group[0].key.strategy is not None for group in groups.values())
    log.info(
        "%d cells, %d finished already; %d ensembles to fine-tune for the others.",
        len(plans),
        len(plans) - sum(map(len, groups.values())),
        trained,
    )
    return list(groups.values())


def _lacks_model(folder: Path, manifest: CellManifest, experiment: Experiment) -> bool:
    """Whether a model that is to be kept was not."""
    is_own = manifest.cell.strategy is not None and manifest.shared_with is None
    return experiment.config.keep_models and is_own and not (folder / MODEL_FOLDER).is_dir()


def _work_on(groups: Sequence[Sequence[Plan]], experiment: Experiment, slots: Sequence[Slot]) -> list[CellFailure]:
    """Work on all cells, several at the same time if there are slots; a failed cell costs the others nothing."""
    if not groups:
        return []
    slots = slots[: len(groups)]
    with tempfile.TemporaryDirectory(prefix="uga-") as folder:
        queue = _Queue(Path(folder), len(groups), time.time())
        if len(slots) == 1:
            _work(slots[0], groups, experiment, queue)
        else:
            run_together(
                [
                    Job(
                        f"The cells on {slot.device}",
                        _work_as_process,
                        (slot, groups, experiment, queue),
                        "start again to go on with the cells that are left, with a smaller --parallel",
                    )
                    for slot in slots
                ]
            )
        return queue.failures()


@dataclass(frozen=True)
class _Queue:
    """Which cells are taken and done, told among processes by files that only one of them can make."""

    folder: Path
    total: int
    started: float

    def take(self, number: int) -> bool:
        try:
            (self.folder / f"{number}.taken").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def done(self, number: int, plans: Sequence[Plan], failure: CellFailure | None) -> None:
        """Note that a cell is done, and tell how much is left."""
        if failure is not None:
            write_json(self.folder / f"{number}.failed", failure)
        (self.folder / f"{number}.done").touch()
        count = len(list(self.folder.glob("*.done")))
        spent = time.time() - self.started
        left = f"{duration(spent / count * (self.total - count))} left" if count < self.total else "all done"
        names = str(plans[0].key) + (f" (and {len(plans) - 1} like it)" if len(plans) > 1 else "")
        log.info("%d of %d: %s %s; %s.", count, self.total, names, "done" if failure is None else "failed", left)

    def failures(self) -> list[CellFailure]:
        return [CellFailure.model_validate_json(file.read_bytes()) for file in sorted(self.folder.glob("*.failed"))]


def _work_as_process(slot: Slot, groups: Sequence[Sequence[Plan]], experiment: Experiment, queue: _Queue) -> None:
    with stopping_on_signals():
        _work(slot, groups, experiment, queue)


def _work(slot: Slot, groups: Sequence[Sequence[Plan]], experiment: Experiment, queue: _Queue) -> None:
    for number, plans in enumerate(groups):
        if queue.take(number):
            log.info("Working on %s.", plans[0].key)
            queue.done(number, plans, _attempt(plans, experiment, slot))


def _attempt(plans: Sequence[Plan], experiment: Experiment, slot: Slot) -> CellFailure | None:
    """Carry out a cell; whatever goes wrong is this cell's failure, and the others go on."""
    name = plans[0].key.name
    try:
        carry_out(plans, experiment, slot)
    except UgaError as error:
        return _failed(name, str(error))
    except Exception as error:
        if is_out_of_memory(error):
            return _failed(name, "memory ran out; use a smaller --parallel or a device with more.")
        if sentence := machine_sentence(error):
            return _failed(name, sentence)
        log.exception("%s: unexpected error", name)
        return _failed(name, f"a defect of UGA ({type(error).__name__}); report it with the log.", ExitCode.DEFECT)
    return None


def _write_failures(path: Path, failures: Sequence[CellFailure]) -> None:
    if failures:
        write_json(path, Failures(failures=tuple(failures)))
    else:
        path.unlink(missing_ok=True)


def _failed(name: str, sentence: str, code: ExitCode = ExitCode.SLIDE_FAILED) -> CellFailure:
    log.error("%s: %s", name, sentence)
    return CellFailure(cell=name, error=sentence, code=int(code))
