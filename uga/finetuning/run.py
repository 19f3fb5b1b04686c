"""A fine-tuning from corrected packages to a released model: what ``uga finetune`` and ``finetune.py`` do."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from uga import __version__
from uga.corrections import read_corrections
from uga.corrections.refusals import printable
from uga.errors import ExitCode, UgaError, UserError, gpu_sentence, is_out_of_memory
from uga.finetuning.balance import balance_warnings, balances, centre_warnings
from uga.finetuning.comparison import Rivals, judge, subset
from uga.finetuning.dataset import DATASET_NAME, prepare, work_plans
from uga.finetuning.findings import OldPatches, gather
from uga.finetuning.options import RECIPE
from uga.finetuning.patches import correction_patches, pack_patches
from uga.finetuning.release import assemble, note_guard, provenance, write_archive
from uga.finetuning.report import REPORT_HTML, REPORT_JSON, write_reports
from uga.finetuning.schema import FinetuningReport, RefusedFile
from uga.finetuning.splits import deal, slide_digest
from uga.finetuning.training import threads_of_a_fold, train_folds
from uga.model.card import file_sha256
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model, verify_model
from uga.output.files import check_writable, partial_path, sync, write_atomic
from uga.output.manifest import installed_versions
from uga.output.schema import ModelRecord
from uga.pipeline import Stopwatch
from uga.training.dataset import Dataset
from uga.training.environment import NnunetFolders
from uga.training.needs import check_needs, estimate
from uga.training.packs import model_pack, read_pack
from uga.training.workers import deal as deal_devices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from uga.corrections import CorrectionSet
    from uga.finetuning.options import TrainingOptions
    from uga.finetuning.patches import LearningPatch
    from uga.model.folder import Model
    from uga.training.needs import Needs
    from uga.training.packs import Pack
    from uga.training.presets import Preset

log = logging.getLogger(__name__)

MODEL_FOLDER, ARCHIVE_FILE, WORK_FOLDER = "model", "model.tar.gz", "work"
REPLAY_FOLDER = "replay"
_REQUEST_FILE = "request.json"


class NotReleasedError(UgaError):
    """The guard has refused the fine-tuned model; the report says why."""

    exit_code = ExitCode.SLIDE_FAILED


@dataclass(frozen=True, slots=True)
class FinetuningRequest:
    """What is fine-tuned, on what, and how.

    Attributes:
        input: Folder with corrected packages, and perhaps a pack of old patches in ``replay/``.
        output: Gets ``model/``, ``model.tar.gz`` and the reports.
        model: Model folder of the parent; never written to.
        replay: Pack of old patches; None for the one in ``input``, else the parent's own.
        training: Options that decide the weights.
        tolerance: Dice a label may lose on old patches.
        force: Release whatever the guard says.
        guard_patches: Old patches to compare on, at most; 0 for all.
        compare_corrections: Whether both ensembles also predict the corrections, for the reports.
        devices: Such as ``cpu``, or ``cuda:0`` and ``cuda:1``.
        parallel: Folds at the same time on each device.
    """

    input: Path
    output: Path
    model: Path
    training: TrainingOptions
    replay: Path | None = None
    tolerance: float = 0.02
    force: bool = False
    guard_patches: int = 64
    compare_corrections: bool = True
    devices: tuple[str, ...] = ("cpu",)
    parallel: int = 1


def finetune(request: FinetuningRequest) -> Model:
    """Fine-tune a model; a second call with the same request goes on where a killed one stopped.

    Returns:
        The released model, ``output/model``.

    Raises:
        UserError: the request cannot be carried out, for instance because no correction can be used, memory ran out or
            a GPU failed.
        NotReleasedError: the fine-tuned model lost too much on old patches; the reports are written.
    """
    parent = load_model(request.model)
    corrections = _read_corrections(request.input, parent)
    run = _Run(request, parent, corrections, _find_replay(request, parent), model_pack(parent, "holdout"))
    _check_output(request.output, request.input, parent)
    released = run.already_released()
    if released is not None:
        log.info("%s holds the model of these corrections and options already.", released.path)
        return released
    try:
        return run.carry_out()
    except Exception as error:
        # Neither with exit code 1, which says that the guard has refused.
        if is_out_of_memory(error):
            raise UserError(
                "The fine-tuning ran out of memory; start again to go on where it stopped, with more memory or a "
                "smaller --parallel."
            ) from error
        if sentence := gpu_sentence(error):
            raise UserError(sentence) from error
        raise


def _read_corrections(folder: Path, parent: Model) -> CorrectionSet:
    corrections = read_corrections(folder, parent)
    for refusal in corrections.refused:
        log.warning("Refused: %s", refusal.reason)
    log.info("Corrections: %s.", corrections.summary())
    if not corrections.used:
        raise UserError(
            f"{folder} holds no correction that can be used ({corrections.summary()}); save correction.png or change "
            "annotation.geojson in the packages of this model and start again."
        )
    return corrections


def _find_replay(request: FinetuningRequest, parent: Model) -> Pack | None:
    """The user's pack, else the one in the input, else the parent's."""
    beside = request.input / REPLAY_FOLDER
    if request.replay is not None:
        return read_pack(request.replay)
    return read_pack(beside) if beside.exists() else model_pack(parent, "replay")


def _check_output(folder: Path, corrections: Path, parent: Model) -> None:
    place = folder.resolve()
    if place == corrections.resolve() or place.is_relative_to(parent.path.resolve()):
        raise UserError(f"{folder} holds the corrections or the model; name another folder with --output.")
    check_writable(folder, "name another with --output")


@dataclass
class _Run:
    """One fine-tuning: its inputs, and the steps in order."""

    request: FinetuningRequest
    parent: Model
    corrections: CorrectionSet
    replay_pack: Pack | None
    holdout_pack: Pack | None
    watch: Stopwatch = field(default_factory=Stopwatch)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def already_released(self) -> Model | None:
        """The model in the output, if it answers this very request.

        Raises:
            UserError: the output holds another model.
        """
        if not self._target.exists():
            return None
        report = _read_report(self.request.output)
        if report is None or not report.released or (report.request, report.options) != (self._id, self._options):
            raise UserError(
                f"{self._target} exists already and is not the model of these corrections and options; remove it or "
                "name another folder with --output."
            )
        shutil.rmtree(self._work, ignore_errors=True)
        return verify_model(self._target)

    def carry_out(self) -> Model:
        """Train, compare, judge, report, release."""
        request, parent = self.request, self.parent
        replay = () if self.replay_pack is None else pack_patches(self.replay_pack, parent)
        corrected = correction_patches(self.corrections.used)
        held_out = deal(
            corrected,
            replay,
            earlier=parent.card.training.corrected,
            folds=len(parent.folds),
            seed=request.training.seed,
        )
        _tell(corrected, replay, held_out)
        balance = balances(self.corrections.used, parent.labels)
        for warning in (
            *balance_warnings(balance),
            *centre_warnings(self.corrections.used, parent.labels, parent.tumour_label),
        ):
            log.warning("%s", warning)
        self._open_work_folder()
        dataset = Dataset(DATASET_NAME, NnunetFolders(self._work))
        dataset.folders.activate()
        with self.watch.stage("preparation"):
            preset = work_plans(dataset, parent, corrected, replay, request.training)
            check_needs(self._needs(preset, len(corrected) + len(replay)), work=self._work, output=request.output)
            prepare(dataset, parent, preset, corrected, replay, held_out)
        for name in (ARCHIVE_FILE, REPORT_JSON, REPORT_HTML):  # of another fine-tuning, perhaps a released one
            (request.output / name).unlink(missing_ok=True)
        threads = threads_of_a_fold(request.devices, request.parallel, len(parent.folds))
        with self.watch.stage("training"):
            results = train_folds(dataset, parent, request.devices, parallel=request.parallel, threads=threads)
        with self.watch.stage("comparison"):
            origin = provenance(
                parent,
                self.corrections.used,
                [held_out[patch.name] for patch in corrected],
                request.training,
                replayed=len(replay),
                threads=threads,
            )
            tuned = assemble(parent, results, self._work, origin)
            device = torch.device(request.devices[0])
            rivals = Rivals(Ensemble(parent, device=device), Ensemble(tuned, device=device))
            old = self._old_patches(replay, held_out)
            found = gather(
                rivals, self.corrections.used, corrected, held_out, old, compare=self.request.compare_corrections
            )
        verdict = judge(found.comparisons.old, request.tolerance)
        released, forced = verdict.passed is not False or request.force, verdict.passed is False and request.force
        tuned = note_guard(tuned, verdict, found.comparisons.held_out_corrections, forced=forced)
        if released:
            with self.watch.stage("release"):
                write_archive(tuned.path, request.output / ARCHIVE_FILE)
        report = FinetuningReport(
            uga_version=__version__,
            request=self._id,
            parent=_record(parent),
            model=_record(tuned),
            released=released,
            forced=forced,
            guard=verdict,
            corrections=found.corrections,
            balance=balance,
            unchanged=tuple(self._shown(path) for path in self.corrections.unchanged),
            refused=tuple(
                RefusedFile(file=self._shown(each.source), reason=each.reason) for each in self.corrections.refused
            ),
            replay_patches=len(replay),
            comparisons=found.comparisons,
            options=self._options,
            versions=installed_versions(),
            device=str(device),
            started=self.started,
            finished=datetime.now(UTC),
            timings_s=self.watch.seconds,
        )
        write_reports(request.output, report, found.album, parent)
        page = request.output / REPORT_HTML
        if not released:
            raise NotReleasedError(
                f"The fine-tuned model is not released: {verdict.sentence} {page} shows the corrections to look at "
                "again; a lower --lr or --epochs forgets less, and --force releases it all the same."
            )
        log.info("%s", verdict.sentence)
        tuned.path.rename(self._target)  # last: a folder of this name is complete
        sync(request.output)
        shutil.rmtree(self._work)
        log.info("The new model is %s; open %s", self._target, page)
        return load_model(self._target)

    @cached_property
    def _id(self) -> str:
        """What decides the weights, as a hash."""
        pack = () if self.replay_pack is None else self.replay_pack.files()
        content = {
            "uga": __version__,
            "recipe": RECIPE,
            "parent": self.parent.sha256,
            "corrections": [correction.sha256 for correction in self.corrections.used],
            "replay": [file_sha256(file) for file in pack],
            "training": self.request.training.model_dump(mode="json"),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def _options(self) -> dict[str, JsonValue]:
        request = self.request
        own: dict[str, JsonValue] = {
            "tolerance": request.tolerance,
            "force": request.force,
            "guard_patches": request.guard_patches,
        }
        return {**request.training.model_dump(mode="json"), **own}

    @property
    def _target(self) -> Path:
        return self.request.output / MODEL_FOLDER

    @property
    def _work(self) -> Path:
        return partial_path(self.request.output / WORK_FOLDER)

    def _open_work_folder(self) -> None:
        """The work folder of this request; one of another request is emptied."""
        file = self._work / _REQUEST_FILE
        if self._work.exists():
            if file.is_file() and file.read_text("utf-8") == self._id:
                log.info("Going on in %s.", self._work)
                return
            log.warning("%s is of other corrections or options; starting anew.", self._work)
            shutil.rmtree(self._work)
        write_atomic(file, self._id.encode())

    def _needs(self, preset: Preset, patches: int) -> Needs:
        slots = deal_devices(self.parent.folds, self.request.devices, parallel=self.request.parallel)
        return estimate(preset, slots, patches=patches, folds=len(self.parent.folds), augmentation_processes=0)

    def _old_patches(self, replay: Sequence[LearningPatch], held_out: Mapping[str, int | None]) -> OldPatches:
        """The hold-out pack, or replayed patches where there is none, as many as the guard shall look at."""
        count, seed = self.request.guard_patches, self.request.training.seed
        kept = self._held_out_patches()
        if kept:
            return OldPatches("holdout", subset(kept, count, seed=seed), {})
        return OldPatches("replay" if replay else None, subset(replay, count, seed=seed), held_out)

    def _held_out_patches(self) -> list[LearningPatch]:
        """Those of the hold-out pack, without slides that are or were corrected: the new model has learnt from them."""
        if self.holdout_pack is None:
            return []
        patches = pack_patches(self.holdout_pack, self.parent)
        corrected = {slide_digest(correction.slide_id) for correction in self.corrections.used}
        corrected |= self.parent.card.training.corrected.keys()
        kept = [patch for patch in patches if slide_digest(patch.slide) not in corrected]
        if len(kept) < len(patches):
            log.warning(
                "The guard leaves out %d of the %d patches of the hold-out pack, since their slides were corrected.",
                len(patches) - len(kept),
                len(patches),
            )
        return kept

    def _shown(self, path: Path) -> str:
        inside = path.is_relative_to(self.request.input)
        return printable(path.relative_to(self.request.input).as_posix() if inside else path.name)


def _tell(
    corrected: Sequence[LearningPatch], replay: Sequence[LearningPatch], held_out: Mapping[str, int | None]
) -> None:
    slides = {patch.slide for patch in corrected}
    unseen = sum(held_out[patch.name] is not None for patch in corrected)
    log.info(
        "%d corrections of %d slide(s), %d of them held out of one fold each; %s.",
        len(corrected),
        len(slides),
        unseen,
        f"{len(replay)} old patches are replayed"
        if replay
        else "no old patches to replay, so the weights are held near the parent's",
    )


def _record(model: Model) -> ModelRecord:
    return ModelRecord(name=model.name, sha256=model.sha256, folds=model.folds)


def _read_report(folder: Path) -> FinetuningReport | None:
    try:
        return FinetuningReport.model_validate_json((folder / REPORT_JSON).read_bytes())
    except (OSError, ValidationError):
        return None
