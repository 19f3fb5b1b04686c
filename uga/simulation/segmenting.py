"""Runs an ensemble over the slides of an experiment, as `uga infer` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.cohort import Task, process
from uga.errors import ExitCode, SlideError
from uga.inputs import SlideInput
from uga.model.ensemble import Ensemble
from uga.options import RunOptions
from uga.pipeline import Pipeline
from uga.recipe import Recipe
from uga.spreading import Worker, choices_on, run_spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.model.folder import Model
    from uga.output.schema import ComputationRecord
    from uga.simulation.config import SimulationConfig
    from uga.simulation.workers import Slot
    from uga.training.cases import Case


def run_options(config: SimulationConfig, *, extra_scores: bool = False) -> RunOptions:
    """Options of `uga infer` that the configuration means; no patch is exported."""
    return RunOptions(
        top=0,
        patch_px=config.query.patch_px,
        stride_px=config.query.stride_px,
        overlap=config.inference.overlap,
        engine=config.inference.engine,
        precision=config.inference.precision,
        extra_scores=extra_scores,
    )


def segment_pool(
    cases: Sequence[Case], model: Model, folder: Path, config: SimulationConfig, slots: Sequence[Slot]
) -> None:
    """Segment the query slides into a folder each, keeping what every strategy orders by; finished ones are kept.

    Raises:
        SlideError: a slide cannot be processed.
    """
    options = run_options(config, extra_scores=True)
    if len(slots) == 1 or len(cases) == 1:
        _segment(cases, model, folder, options, slots[0])
        return
    workers = [Worker(slot.device, choices_on(slot.device, options), slot.threads) for slot in slots]
    code = run_spread(_inputs(cases), folder, Recipe(model, model.folds, options), workers)
    if code is not ExitCode.OK:
        raise SlideError(f"A slide of the query pool failed; {folder / 'failures.json'} says why.")


def segment_test(
    cases: Sequence[Case], model: Model, folder: Path, config: SimulationConfig, slot: Slot
) -> ComputationRecord:
    """Segment the test slides into a folder each, in this process.

    Raises:
        SlideError: a slide cannot be processed.
    """
    return _segment(cases, model, folder, run_options(config), slot)


def _segment(cases: Sequence[Case], model: Model, folder: Path, options: RunOptions, slot: Slot) -> ComputationRecord:
    device = slot.enter()
    pipeline = Pipeline(Ensemble(model, device=device, choices=choices_on(slot.device, options)), options)
    tasks = [
        Task(source, folder / source.slide_id, f"{source.slide_id} ({number} of {len(cases)})")
        for number, source in enumerate(_inputs(cases), start=1)
    ]
    outcome = process(tasks, pipeline, lambda _: None)
    if outcome.failures:
        raise SlideError(outcome.failures[0].error)
    return pipeline.computation


def _inputs(cases: Sequence[Case]) -> list[SlideInput]:
    """The folders are the experiment's own: a slide that was made anew replaces its results."""
    return [SlideInput(case.slide, case.id, case.id, case.centre, case.tissue, owns_output=True) for case in cases]
