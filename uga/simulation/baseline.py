"""The ensemble that an experiment starts from: a folder, or one that is trained first."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.model.folder import load_model
from uga.output.files import write_atomic
from uga.simulation.cells import case_facts
from uga.simulation.config import SHIPPED_MODEL
from uga.training.cases import write_cohort
from uga.training.presets import CONFIGURATION, Preset, load_preset
from uga.training.run import ComputeOptions, TrainingRequest, train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uga.model.folder import Model
    from uga.simulation.config import BaselineTraining, LoadedConfig
    from uga.simulation.sources import Cohorts
    from uga.simulation.workers import Compute

log = logging.getLogger(__name__)

_SHIPPED = Path(__file__).parents[2] / "weights"
_REQUEST_FILE = "request.json"


def baseline_model(
    loaded: LoadedConfig, cohorts: Cohorts, folder: Path, compute: Compute, *, given: Path | None = None
) -> Model:
    """The baseline, trained into ``folder`` if the configuration says so; a trained one is kept.

    Args:
        loaded: The configuration.
        cohorts: Slides to train on, and the meaning of references.
        folder: For a model that is trained.
        compute: Where to train.
        given: A model folder of the user that takes the place of the configuration's.

    Raises:
        UserError: the model cannot be had, or has other labels than the references.
    """
    asked = loaded.config.baseline
    if given is not None:
        model = load_model(given)
    elif asked.training is not None:
        model = _trained(asked.training, cohorts, folder, compute)
    elif asked.model == SHIPPED_MODEL:
        model = load_model(_SHIPPED / SHIPPED_MODEL)
    else:
        model = load_model(loaded.folder / str(asked.model))
    labels = cohorts.mapping.dataset_labels(with_ignore=False)
    labels.pop("ignore", None)
    if model.labels != labels:
        raise UserError(
            f"The baseline {model.path} has the labels {model.labels}, the references give {labels}; make them agree."
        )
    return model


def preset_of(training: BaselineTraining) -> Preset:
    """The preset with what the configuration changes.

    Raises:
        UserError: no such preset, or a patch smaller than the window.
    """
    preset = load_preset(training.preset)
    plans = json.loads(json.dumps(preset.plans))
    configuration = plans["configurations"][CONFIGURATION]
    if training.window_px is not None:
        configuration["patch_size"] = [training.window_px, training.window_px]
    if training.batch_size is not None:
        configuration["batch_size"] = training.batch_size
    sampling = {"patch_px": training.patch_px, "seed": training.seed}
    sampling |= dict.fromkeys(("max_tumour_per_slide", "max_benign_per_slide"), training.max_per_slide)
    settings = {
        "epochs": training.epochs,
        "iterations_per_epoch": training.iterations,
        "seed": training.seed,
    }
    notes = preset.notes.model_copy(
        update={
            "sampling": preset.notes.sampling.model_copy(update=_given(sampling)),
            "training": preset.notes.training.model_copy(update=_given(settings)),
            **_given({"spacing_um": training.spacing_um}),
        }
    )
    made = Preset(plans=plans, notes=notes)
    if notes.sampling.patch_px < max(made.window_px):
        raise UserError(
            f"The baseline is trained on patches of {notes.sampling.patch_px} px with windows of {max(made.window_px)} "
            "px; set baseline.training.patch_px to at least as much."
        )
    return made


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _trained(training: BaselineTraining, cohorts: Cohorts, folder: Path, compute: Compute) -> Model:
    if not cohorts.training:
        raise UserError("The baseline is to be trained, but there are no slides for it; give data.train.")
    target, request_file = folder / "model", folder / _REQUEST_FILE
    preset = preset_of(training)
    request = _request(training, preset, cohorts)
    if target.exists() and request_file.is_file() and request_file.read_text("utf-8") == request:
        return load_model(target)
    for old in (target, request_file):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    cohort, work = folder / "training.csv", folder / "work"
    write_cohort(cohorts.training, cohort)
    log.info("Training the baseline on %d slides.", len(cohorts.training))
    model = train(
        TrainingRequest(
            cohort=cohort,
            output=folder,
            work=work,
            preset=preset,
            mapping=cohorts.mapping,
            unannotated=cohorts.unannotated,
            folds=training.folds,
            replay_patches=training.replay_patches,
            name="baseline",
        ),
        _compute_options(compute),
    )
    write_atomic(request_file, request.encode())
    shutil.rmtree(work, ignore_errors=True)
    return model


def _compute_options(compute: Compute) -> ComputeOptions:
    """On a CPU without loader processes, so that a repetition gives the same weights."""
    if compute.devices != ("cpu",):
        return ComputeOptions(devices=compute.devices, parallel=compute.parallel)
    return ComputeOptions(parallel=compute.parallel, threads=compute.slots[0].threads, augmentation_processes=0)


def _request(training: BaselineTraining, preset: Preset, cohorts: Cohorts) -> str:
    """A hash of what decides a trained baseline: options, preset, slides and references by their content."""
    slides = [
        [*case_facts(case, cohorts), case.centre, case.patient, case.lesion, case.subset] for case in cohorts.training
    ]
    content = {
        "training": training.model_dump(mode="json"),
        "mapping": cohorts.mapping.model_dump(mode="json"),
        "preset": preset.model_dump(mode="json"),
        "slides": slides,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
