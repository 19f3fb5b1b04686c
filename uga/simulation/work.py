"""One cell from selected patches to figures: correct, fine-tune, segment the test slides, evaluate."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from uga import __version__
from uga.evaluation.slides import evaluate_slides
from uga.finetuning.report import REPORT_JSON
from uga.finetuning.run import FinetuningRequest, finetune
from uga.finetuning.schema import FinetuningReport
from uga.model.folder import load_model
from uga.output.manifest import installed_versions
from uga.output.schema import ModelRecord
from uga.pipeline import Stopwatch
from uga.simulation.cells import (
    CELLS_FOLDER,
    MODEL_FOLDER,
    REPORT_FILE,
    SELECTED_FILE,
    SLIDES_FILE,
    CellManifest,
    Guard,
    config_record,
    output_records,
    write_manifest,
)
from uga.simulation.pathologist import correct
from uga.simulation.pool import open_runs, write_patches
from uga.simulation.results import slide_results, write_slides
from uga.simulation.segmenting import segment_test

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.finetuning.options import TrainingOptions
    from uga.model.choices import Precision
    from uga.model.folder import Model
    from uga.simulation.cells import CellKey, Plan
    from uga.simulation.config import SimulationConfig
    from uga.simulation.sources import Cohorts
    from uga.simulation.workers import Slot

log = logging.getLogger(__name__)

POOL_FOLDER = "pool"
_WORK_FOLDER = "work"


@dataclass(frozen=True)
class Experiment:
    """All that a process needs to work on cells.

    Attributes:
        output: Folder of the whole experiment.
        config: What is done.
        cohorts: The slides.
        model: Folder of the baseline.
        precision: What is trained in.
    """

    output: Path
    config: SimulationConfig
    cohorts: Cohorts
    model: Path
    precision: Precision

    @property
    def pool(self) -> Path:
        """Where the query slides are segmented."""
        return self.output / POOL_FOLDER

    def cell(self, key: CellKey) -> Path:
        """The folder of a cell."""
        return self.output / CELLS_FOLDER / key.name


def carry_out(plans: Sequence[Plan], experiment: Experiment, slot: Slot) -> None:
    """Work on one cell, and write its result for all cells of the same identity.

    A killed cell goes on in its work folder; that goes when the cell is complete.

    Args:
        plans: Cells of one identity.
        experiment: The experiment.
        slot: Where to compute.

    Raises:
        UgaError: the cell cannot be carried out.
    """
    slot.enter()
    first, config = plans[0], experiment.config
    started, watch = datetime.now(UTC), Stopwatch()
    work = experiment.output / _WORK_FOLDER / first.identity[:16]
    baseline = load_model(experiment.model)
    learnt, corrected = _Learnt(baseline), 0
    if first.key.strategy is not None:
        runs = open_runs(experiment.pool, experiment.cohorts, baseline)
        with watch.stage("corrections"):
            unsure_um = config.query.unsure_um
            corrected = correct(first.patches, runs, experiment.cohorts, work / "corrected", unsure_um=unsure_um)
        with watch.stage("fine-tuning"):
            learnt = _learn(
                work, baseline, config, config.finetuning.options(first.key.seed, experiment.precision), slot
            )
    slot.enter()  # a training has set its own number of threads
    with watch.stage("inference"):
        computation = segment_test(experiment.cohorts.test, learnt.model, work / "test", config, slot)
    with watch.stage("evaluation"):
        folders = [work / "test" / case.id for case in experiment.cohorts.test]
        evaluations = evaluate_slides(
            folders,
            experiment.cohorts.test,
            experiment.cohorts.mapping,
            unannotated=experiment.cohorts.unannotated,
            tissue="patches",  # the slides need not be searched for it again: no figure here tells tissue from the rest
            tolerance_um=None,
        )
    manifest = CellManifest(
        uga_version=__version__,
        cell=first.key,
        identity=first.identity,
        baseline=_record(baseline),
        model=_record(learnt.model),
        corrected=corrected,
        replayed=0 if learnt.report is None else learnt.report.replay_patches,
        guard=learnt.guard,
        training=learnt.training,
        config=config_record(config),
        threads=slot.threads,
        computation=computation,
        versions=installed_versions(),
        started=started,
        finished=datetime.now(UTC),
        timings_s=watch.seconds,
        outputs=(),
    )
    results = slide_results(evaluations)
    for plan in plans:
        folder = experiment.cell(plan.key)
        shutil.rmtree(folder, ignore_errors=True)
        write_slides(folder / SLIDES_FILE, results)
        if learnt.report is not None:
            (folder / REPORT_FILE).write_text(learnt.report.model_dump_json(indent=1), "utf-8")
        if config.keep_models and plan is first and learnt.report is not None:
            learnt.model.path.rename(folder / MODEL_FOLDER)
        finish(plan, folder, manifest, shared_with=None if plan is first else first.key.name)
    shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # others are at work in it
        work.parent.rmdir()


def share(plan: Plan, source: Path, manifest: CellManifest, experiment: Experiment) -> None:
    """Give a cell the result of a finished one of the same identity."""
    folder = experiment.cell(plan.key)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (SLIDES_FILE, REPORT_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    manifest = manifest.model_copy(update={"config": config_record(experiment.config)})
    owner = manifest.shared_with or manifest.cell.name
    finish(plan, folder, manifest, shared_with=None if owner == plan.key.name else owner)


def finish(plan: Plan, folder: Path, manifest: CellManifest, *, shared_with: str | None) -> None:
    """Write what is a cell's own: the patches in its order, and the manifest."""
    names = [SLIDES_FILE, REPORT_FILE]
    if plan.patches:
        write_patches(folder / SELECTED_FILE, plan.patches, ranks=plan.ranks)
        names.append(SELECTED_FILE)
    present = [name for name in names if (folder / name).is_file()]
    write_manifest(
        folder,
        manifest.model_copy(
            update={"cell": plan.key, "shared_with": shared_with, "outputs": output_records(folder, present)}
        ),
    )


@dataclass(frozen=True)
class _Learnt:
    """A fine-tuned model with its report; the baseline has none."""

    model: Model
    report: FinetuningReport | None = None
    training: TrainingOptions | None = None

    @property
    def guard(self) -> Guard | None:
        return None if self.report is None else Guard(**self.report.guard.model_dump(include={"passed", "sentence"}))


def _learn(work: Path, baseline: Model, config: SimulationConfig, training: TrainingOptions, slot: Slot) -> _Learnt:
    tuned = work / "tuned"
    model = finetune(
        FinetuningRequest(
            input=work / "corrected",
            output=tuned,
            model=baseline.path,
            training=training,
            force=True,  # a model that forgets is a result too
            guard_patches=config.finetuning.guard_patches,
            compare_corrections=False,
            devices=(slot.device,),
        )
    )
    report = FinetuningReport.model_validate_json((tuned / REPORT_JSON).read_bytes())
    return _Learnt(model, report, training)


def _record(model: Model) -> ModelRecord:
    return ModelRecord(name=model.name, sha256=model.sha256, folds=model.folds)
