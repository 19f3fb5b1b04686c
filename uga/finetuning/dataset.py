"""The work dataset of a fine-tuning: corrections and replay in nnU-Net's folders, with the parent's plans."""

from __future__ import annotations

import json
import logging
import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from uga.finetuning.colours import densities, gains
from uga.finetuning.options import PULL, WARM_UP_SHARE, Points, Recolouring, TrainerSettings
from uga.finetuning.splits import make_splits
from uga.model.card import DATASET_FILE, PLANS_FILE
from uga.model.normalisation import StatisticsAccumulator
from uga.model.plan import read_json
from uga.output.schema import NOT_JUDGED
from uga.progress import ProgressLog
from uga.training.labels import IGNORE
from uga.training.presets import CONFIGURATION, Preset, PresetNotes, TrainingSettings
from uga.training.sampling import CELL_PX, SamplingOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.finetuning.options import TrainingOptions
    from uga.finetuning.patches import LearningPatch
    from uga.model.folder import Model
    from uga.training.dataset import Dataset

    UInt8 = NDArray[np.uint8]

log = logging.getLogger(__name__)

DATASET_NAME = "Dataset600_Finetuning"
SETTINGS_KEY = "uga_finetuning"
_FINGERPRINT_FILE = "dataset_fingerprint.json"


def work_plans(
    dataset: Dataset,
    model: Model,
    corrections: Sequence[LearningPatch],
    replay: Sequence[LearningPatch],
    options: TrainingOptions,
) -> Preset:
    """The parent's plans with the settings of the fine-tuning; its configuration under the name `uga.training` uses.

    Architecture, normalisation and window are the parent's.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    plans = read_json(model.path / PLANS_FILE)
    configuration = PlansManager(plans).get_configuration(model.card.configuration).configuration
    known = plans.pop("uga", None)
    settings = TrainerSettings(
        corrections={patch.name: _points(patch.read_image(), model) for patch in corrections},
        recolouring=_recolouring(corrections, replay, model, options.recolour),
        share=options.mix if replay else 1.0,
        variants=options.variants,
        warm_up=round(WARM_UP_SHARE * options.epochs * options.iterations),
        pull=0.0 if replay else PULL,
        bf16=options.precision == "bf16",
    )
    training = TrainingSettings(
        epochs=options.epochs,
        iterations_per_epoch=options.iterations,
        validation_iterations=1,
        initial_lr=options.lr,
        checkpoint_every_epochs=1,
        hed_jitter=PresetNotes.model_validate(known).training.hed_jitter if known else 0.0,
        seed=options.seed,
    )
    mean_px = math.sqrt(np.mean([patch.pixels for patch in (*corrections, *replay)]))
    return Preset(
        plans={
            **plans,
            "dataset_name": dataset.name,
            "image_reader_writer": "NaturalImage2DIO",
            # The patches have the model's spacing already; nnU-Net reads PNG as 1 x 1 and must not resample.
            "configurations": {CONFIGURATION: {**configuration, "spacing": [1.0, 1.0]}},
            SETTINGS_KEY: settings.model_dump(mode="json"),
        },
        notes=PresetNotes(
            description=f"Fine-tuning of {model.name}.",
            spacing_um=model.spacing_um,
            sampling=SamplingOptions(patch_px=max(CELL_PX, round(mean_px))),
            training=training,
        ),
    )


def prepare(
    dataset: Dataset,
    model: Model,
    preset: Preset,
    corrections: Sequence[LearningPatch],
    replay: Sequence[LearningPatch],
    held_out: Mapping[str, int | None],
) -> None:
    """Write the patches, the plans and the splits, and let nnU-Net preprocess; patches that are there are kept.

    Pixels that were not judged get nnU-Net's ignore label, which the network does not predict.

    Args:
        dataset: Where to write.
        model: The parent.
        preset: From `work_plans`.
        corrections: Corrected patches.
        replay: Old patches.
        held_out: The fold of each patch (`uga.finetuning.splits.deal`).
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: PLC0415
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    for folder in (dataset.raw / "imagesTr", dataset.raw / "labelsTr", dataset.preprocessed):
        folder.mkdir(parents=True, exist_ok=True)
    patches = (*corrections, *replay)
    dataset_json = _dataset_json(model, len(patches))
    plans = {**preset.plans, "uga": preset.notes.model_dump(mode="json")}
    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    target = dataset.preprocessed / configuration.data_identifier
    target.mkdir(exist_ok=True)
    partial = dataset.preprocessed / "partial"
    preprocessor, progress = DefaultPreprocessor(verbose=False), ProgressLog("preprocessing", unit="patches")
    for done, patch in enumerate(patches, start=1):
        if not (target / f"{patch.name}.pkl").exists():  # moved last
            image, labels = _write_raw(dataset.raw, patch, ignore=dataset_json["labels"][IGNORE])
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            preprocessor.run_case_save(
                str(partial / patch.name), [str(image)], str(labels), manager, configuration, dataset_json
            )
            for file in partial.iterdir():
                if file.suffix != ".pkl":
                    file.replace(target / file.name)
            (partial / f"{patch.name}.pkl").replace(target / f"{patch.name}.pkl")
        progress(done, len(patches))
    shutil.rmtree(partial, ignore_errors=True)
    for folder in (dataset.raw, dataset.preprocessed):
        _write_json(folder / DATASET_FILE, dataset_json)
    _write_json(dataset.preprocessed / "splits_final.json", make_splits(held_out, folds=len(model.folds)))
    _write_json(dataset.preprocessed / PLANS_FILE, plans)
    fingerprint = model.path / _FINGERPRINT_FILE
    if fingerprint.exists():
        shutil.copyfile(fingerprint, dataset.preprocessed / _FINGERPRINT_FILE)
    else:  # nnU-Net copies the file and does not read it
        _write_json(dataset.preprocessed / _FINGERPRINT_FILE, {})


def _dataset_json(model: Model, patches: int) -> dict[str, Any]:
    """The parent's dataset.json with an ignore label, for PNG patches; only the work dataset has it."""
    return {
        **read_json(model.path / DATASET_FILE),
        "labels": {**model.labels, IGNORE: model.num_classes},
        "numTraining": patches,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }


def _recolouring(
    corrections: Sequence[LearningPatch], replay: Sequence[LearningPatch], model: Model, share: float
) -> Recolouring | None:
    """None where nothing is to be recoloured, or where a normalisation by each image's own statistics undoes it."""
    if not replay or not share:
        return None
    if model.normalisation.needs_statistics:
        log.warning("%s is normalised by each image's own statistics, so old patches are not recoloured.", model.name)
        return None
    tumour = model.labels[model.tumour_label]
    there, here = densities(corrections, tumour), densities(replay, tumour)
    return Recolouring(
        share=share,
        points=_points(replay[0].read_image(), model),
        gains={patch.name: gains(here[patch.centre], there.values()) for patch in replay if patch.centre in here},
    )


def _points(image: UInt8, model: Model) -> Points:
    """Black and white under the model's normalisation of this image (h, w, 3)."""
    accumulator = StatisticsAccumulator()
    accumulator.add(image)
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    black, white = model.normalisation.apply(ends, accumulator.result())[:, 0].T.tolist()
    return Points(black=tuple(black), white=tuple(white))


def _write_raw(raw: Path, patch: LearningPatch, *, ignore: int) -> tuple[Path, Path]:
    image, labels = patch.read_image(), patch.read_labels()
    if not image.any():
        image = image.copy()
        image[0, 0] = 1  # nnU-Net crops black borders and fails on an image that is nothing else
    image_file, labels_file = raw / "imagesTr" / f"{patch.name}_0000.png", raw / "labelsTr" / f"{patch.name}.png"
    Image.fromarray(image).save(image_file, compress_level=1)
    Image.fromarray(np.where(labels == NOT_JUDGED, np.uint8(ignore), labels)).save(labels_file, compress_level=1)
    return image_file, labels_file


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), "utf-8")
