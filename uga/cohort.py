"""A run over all slides of an input folder: each slide by itself, failures apart, one list over all at the end."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from uga.errors import ExitCode, UgaError, UserError, is_out_of_memory, machine_sentence
from uga.memory import return_free_memory
from uga.model.card import RESEARCH_USE
from uga.output.files import write_json
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.manifest import clear_outputs, read_manifest
from uga.output.report import REPORT_FILE, Failure, SlideResult, write_cohort_report
from uga.output.schema import RankedPatches, Record
from uga.progress import ProgressLog
from uga.ranking import Exclusion, rank
from uga.scores import read_scores
from uga.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from uga.inputs import SlideInput
    from uga.output.report import Provenance
    from uga.pipeline import Pipeline
    from uga.ranking import Candidate
    from uga.recipe import Recipe
    from uga.slide.reader import Rgb

log = logging.getLogger(__name__)

FAILURES_FILE = "failures.json"
_THUMBNAIL_PX = 512
_FAULTS_IN_A_ROW = 2
_NOT_BEGUN = (
    "not begun, since two slides in a row failed through no fault of theirs; see the log, then start again to go on."
)


class FailureRecord(Record):
    """A slide that could not be processed."""

    slide: str
    error: str


class Failures(Record):
    """``failures.json``: there only if a slide of the run failed."""

    schema_version: Literal["1.0"] = "1.0"
    notice: str = RESEARCH_USE
    failures: tuple[FailureRecord, ...]


@dataclass(frozen=True)
class FinishedSlide:
    """A slide's output folder and where the slide came from."""

    source: SlideInput
    folder: Path

    def ranked(self) -> RankedPatches:
        """Its own list."""
        return RankedPatches.model_validate_json((self.folder / self.source.layout.ranked_patches).read_bytes())


@dataclass(frozen=True)
class Task:
    """One slide of a run, the folder it is written to, and its name in progress lines."""

    source: SlideInput
    folder: Path
    title: str


class Outcome(Record):
    """What became of some slides of a run: the ids of those that are complete, the others, and the exit code."""

    finished: tuple[str, ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    code: ExitCode = ExitCode.OK

    def with_failure(self, task: Task, sentence: str, code: ExitCode = ExitCode.SLIDE_FAILED) -> Outcome:
        """The same, and a slide that could not be processed; its sentence is logged."""
        log.error("%s", sentence)
        failure = FailureRecord(slide=task.source.slide_id, error=sentence)
        return Outcome(finished=self.finished, failures=(*self.failures, failure), code=max(self.code, code))

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Those of which nothing is known."""
        known = {*self.finished, *(failure.slide for failure in self.failures)}
        return [task for task in tasks if task.source.slide_id not in known]


def run_cohort(slides: Sequence[SlideInput], output: Path, pipeline: Pipeline) -> ExitCode:
    """Processes every slide, one after the other; one slide's failure costs the others nothing.

    A single slide is written straight below ``output``, several into a folder each.

    Returns:
        OK; SLIDE_FAILED if a slide could not be processed; DEFECT if UGA itself is at fault.
    """
    started = datetime.now(UTC)
    tasks = open_run(slides, output)
    outcome = process(tasks, pipeline, lambda so_far: write_failures(output, so_far.failures))
    for task in outcome.missing(tasks):
        outcome = outcome.with_failure(task, f"{task.source.path.name}: {_NOT_BEGUN}")
    close_run(tasks, output, outcome, pipeline.recipe, str(pipeline.computation), started)
    return outcome.code


def open_run(slides: Sequence[SlideInput], output: Path) -> list[Task]:
    """Makes the output folder ready, and tasks of the slides.

    Raises:
        UserError: results of a single slide lie there that is none of these, or hold a correction.
    """
    if len(slides) > 1:
        # An earlier run may have written a single slide straight here.
        if (manifest := read_manifest(output)) and manifest.input.file not in {slide.path.name for slide in slides}:
            raise UserError(
                f"{output} holds the results of {manifest.input.file}, which is none of these slides; name another "
                "folder with --output, or remove what lies in that one."
            )
        clear_outputs(output)
    output.mkdir(parents=True, exist_ok=True)
    return [
        Task(
            source,
            output if len(slides) == 1 else output / source.slide_id,
            f"{source.slide_id} ({number} of {len(slides)})",
        )
        for number, source in enumerate(slides, start=1)
    ]


def clear_run(slides: Sequence[SlideInput], output: Path) -> None:
    """Removes what a run over these slides wrote, and folders that are empty then; whatever else lies there stays.

    Raises:
        UserError: a package holds a correction.
    """
    clear_outputs(output)
    if len(slides) > 1:
        for folder in (output / slide.slide_id for slide in slides):
            clear_outputs(folder)
            for path, _, _ in os.walk(folder, topdown=False):
                if not any(os.scandir(path)):
                    Path(path).rmdir()
        for name in (DEFAULT_LAYOUT.ranked_patches, REPORT_FILE):
            (output / name).unlink(missing_ok=True)
    write_failures(output, ())


def process(
    tasks: Iterable[Task], pipeline: Pipeline, report: Callable[[Outcome], None], *, beside_others: bool = False
) -> Outcome:
    """Processes slides one after the other; ``report`` is told after each what became of all so far.

    Takes no more after two in a row that failed through no fault of theirs: a GPU that has failed fails them all, and
    another may be well. ``beside_others`` says that other processes take tasks too; then a GPU whose memory runs out
    has failed as well: a full one fails faster than the others work, and would take nearly all tasks.
    """
    memory_is_gpus = beside_others and pipeline.ensemble.device.type == "cuda"
    outcome = Outcome()
    faults = 0
    for task in tasks:
        try:
            made = pipeline.run(task.source, task.folder, ProgressLog(task.title))
        except Exception as error:  # noqa: BLE001 - a slide may fail in any way, and the others must go on
            outcome = outcome.with_failure(task, *_explain(error, task.source))
            faults = 0 if _may_be_the_slides(error, memory_is_gpus=memory_is_gpus) else faults + 1
        else:
            log.info("%s: %s", task.title, "done" if made else "already complete, skipped")
            outcome = outcome.model_copy(update={"finished": (*outcome.finished, task.source.slide_id)})
            faults = 0 if made else faults
        return_free_memory()
        report(outcome)
        if faults == _FAULTS_IN_A_ROW:
            break
    return outcome


def close_run(
    tasks: Sequence[Task], output: Path, outcome: Outcome, recipe: Recipe, device: str, started: datetime
) -> None:
    """Writes what is over all slides: failures, and the list and the page if there are several."""
    write_failures(output, outcome.failures)
    if len(tasks) > 1:
        finished = [
            FinishedSlide(each.source, each.folder) for each in tasks if each.source.slide_id in outcome.finished
        ]
        _write_cohort(output, finished, outcome.failures, recipe, recipe.provenance(started, device=device))


def _may_be_the_slides(error: Exception, *, memory_is_gpus: bool) -> bool:
    """Whether another slide may well do better; one that needs less memory, for instance."""
    if isinstance(error, UgaError | OSError | MemoryError):  # the last is of the host's memory
        return True
    return is_out_of_memory(error) and not memory_is_gpus


def _explain(error: Exception, source: SlideInput) -> tuple[str, ExitCode]:
    if isinstance(error, UgaError):
        return str(error), ExitCode.SLIDE_FAILED
    name = source.path.name
    if is_out_of_memory(error):
        return f"{name}: memory ran out; give the run more memory or use a GPU with more.", ExitCode.SLIDE_FAILED
    if sentence := machine_sentence(error):
        return f"{name}: {sentence}", ExitCode.SLIDE_FAILED
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "the output folder"
        return f"{name}: {error.strerror} at {place}; check disk space and permissions.", ExitCode.SLIDE_FAILED
    log.error("%s: unexpected error", name, exc_info=error)
    reason = type(error).__name__
    return f"{name}: a defect of UGA stopped this slide ({reason}); report it with the log above.", ExitCode.DEFECT


def write_failures(output: Path, failures: Sequence[FailureRecord]) -> None:
    """Writes ``failures.json``, or removes it if nothing has failed."""
    path = output / FAILURES_FILE
    if failures:
        write_json(path, Failures(failures=tuple(failures)))
    else:
        path.unlink(missing_ok=True)


def _write_cohort(
    output: Path,
    finished: Sequence[FinishedSlide],
    failures: Sequence[FailureRecord],
    recipe: Recipe,
    provenance: Provenance,
) -> None:
    """The list and the page over all slides, from what the slides' folders hold."""
    lists = {slide.source.slide_id: slide.ranked() for slide in finished}
    options, spacing_um = recipe.options, recipe.spacing_um
    listed: dict[Candidate, tuple[str, int]] = {}
    for slide in finished:
        name = slide.source.slide_id
        places = {(p.x_um, p.y_um): index for index, p in enumerate(lists[name].patches)}
        for candidate in read_scores(slide.folder):
            place = (round(candidate.x * spacing_um, 4), round(candidate.y * spacing_um, 4))
            if place in places:
                listed[candidate] = (name, places[place])
    # Each slide's list is the start of its order, so the best of the lists are the best of the cohort.
    chosen = rank(
        listed,
        top=options.top,
        strategy=options.strategy,
        exclusion=Exclusion.NONE,
        scope=options.scope,
        seed=options.seed,
        per_slide_cap=options.per_slide_cap,
    )
    patches = []
    for number, candidate in enumerate(chosen, start=1):
        name, index = listed[candidate]
        own = lists[name].patches[index]
        patches.append(own.model_copy(update={"rank": number, "slide_id": name, "folder": f"{name}/{own.folder}"}))
    ranked = RankedPatches(
        slides=tuple(record for own in lists.values() for record in own.all_slides),
        model=recipe.model_record,
        uncertainty=recipe.uncertainty_record,
        patch_size_px=options.patch_px,
        spacing_um=spacing_um,
        patches=tuple(patches),
    )
    write_json(output / DEFAULT_LAYOUT.ranked_patches, ranked)
    write_cohort_report(
        output / REPORT_FILE,
        [_result(slide, lists[slide.source.slide_id], options.mpp) for slide in finished],
        provenance,
        packages=[output / str(patch.folder) for patch in patches],
        failures=[Failure(record.slide, record.error) for record in failures],
    )


def _result(slide: FinishedSlide, own: RankedPatches, mpp: float | None) -> SlideResult:
    layout, stem = slide.source.layout, slide.source.stem
    return SlideResult(
        slide=own.all_slides[0],
        segmentation=layout.segmentation_file(slide.folder, stem),
        uncertainty=layout.uncertainty_file(slide.folder, stem),
        packages=[slide.folder / str(patch.folder) for patch in own.patches],
        thumbnail=_thumbnail(slide, mpp),
        facts={"Highest patch score": f"{own.patches[0].score_mean:.4f} {own.uncertainty.unit}"} if own.patches else {},
        scores=[candidate.score_mean for candidate in read_scores(slide.folder)],
        report=slide.folder / REPORT_FILE,
    )


def _thumbnail(slide: FinishedSlide, mpp: float | None) -> Rgb | None:
    """The slide as a small picture; None if it has become unreadable since, which must not cost the page."""
    try:
        with open_slide(slide.source.path, mpp=mpp) as opened:
            return opened.thumbnail(_THUMBNAIL_PX)
    except (UgaError, OSError) as error:
        log.warning("%s: no picture on the page over all slides, since it can no longer be read: %s",
                    slide.source.slide_id, error)  # fmt: skip
        return None
