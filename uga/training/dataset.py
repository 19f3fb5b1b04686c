"""Patches as an nnU-Net dataset: raw images and labels, then nnU-Net's own preprocessing, in this process."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from uga.errors import UserError
from uga.slide import open_slide
from uga.tissue import detect_tissue
from uga.training.cases import LESION_CLASSES, Case, LesionClass
from uga.training.labels import TUMOUR, LabelMapping
from uga.training.presets import CONFIGURATION, Preset
from uga.training.reference import BenignReference, MaskReference
from uga.training.sampling import Patch, PatchKind, Survey, plan_patches, survey_slide
from uga.training.splits import Origin, Split, make_splits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from uga.geometry import Grid, GridRegion
    from uga.slide import Slide
    from uga.training.environment import NnunetFolders
    from uga.training.reference import Reference

log = logging.getLogger(__name__)

_INTENSITY_SAMPLES_PER_PATCH = 5000
_PATCHES_FILE = "patches.json"
_FINGERPRINT_FILE = "dataset_fingerprint.json"


class PatchRecord(BaseModel):
    """Where a training patch comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    case: str
    kind: PatchKind
    x: int
    y: int
    centre: str
    patient: str
    lesion: LesionClass


class PatchIndex(BaseModel):
    """All patches of a dataset and the request they answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: dict[str, Any]
    patches: tuple[PatchRecord, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in nnU-Net's folders."""

    name: str
    folders: NnunetFolders

    @property
    def raw(self) -> Path:
        """`imagesTr`, `labelsTr`, `dataset.json` and our index of patches."""
        return self.folders.raw / self.name

    @property
    def preprocessed(self) -> Path:
        """Plans, fingerprint, splits and preprocessed patches."""
        return self.folders.preprocessed / self.name

    def index(self) -> PatchIndex:
        """The patches of this dataset.

        Raises:
            UserError: the dataset was not written to its end.
        """
        path = self.raw / _PATCHES_FILE
        try:
            return PatchIndex.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or damaged ({error}); remove {self.raw} and start again.") from error

    def dataset_json(self) -> dict[str, Any]:
        """nnU-Net's dataset.json."""
        content: dict[str, Any] = _read_json(self.raw / "dataset.json")
        return content

    def plans(self) -> dict[str, Any]:
        """The plans this dataset was preprocessed with."""
        content: dict[str, Any] = _read_json(self.preprocessed / "plans.json")
        return content


def write_dataset(dataset: Dataset, cases: Sequence[Case], mapping: LabelMapping, preset: Preset) -> PatchIndex:
    """Sample the cohort and write its patches as PNG; a finished dataset of the same request is kept.

    Args:
        dataset: Where to write.
        cases: The cohort.
        mapping: Reference values to labels.
        preset: Spacing and sampling.

    Raises:
        UserError: a mask does not fit, or the cohort holds no tumour.
    """
    request = {
        "cases": [[case.id, case.centre, case.patient, case.lesion] for case in cases],
        "mapping": mapping.model_dump(mode="json"),
        "spacing_um": preset.notes.spacing_um,
        "sampling": preset.notes.sampling.model_dump(mode="json"),
        "channels": preset.channel_names,
    }
    if (dataset.raw / _PATCHES_FILE).exists():
        index = dataset.index()
        if index.request == request:
            log.info("%d patches are there already.", len(index.patches))
            return index
    for folder in (dataset.raw, dataset.preprocessed):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("imagesTr", "labelsTr"):
        (dataset.raw / name).mkdir(parents=True)
    case_of = {case.id: case for case in cases}
    patches = plan_patches([_survey(case, mapping, preset) for case in cases], preset.notes.sampling)
    kinds = Counter(patch.kind for patch in patches)
    if not kinds["tumour"]:
        raise UserError("The cohort holds no annotated tumour; add slides with tumour or correct the label mapping.")
    log.info("Sampling %s from %d slides.", ", ".join(f"{n} {kind}" for kind, n in kinds.items()), len(cases))
    records = [
        record
        for case_id in sorted({patch.case_id for patch in patches})
        for record in _write_patches(
            dataset.raw, case_of[case_id], [patch for patch in patches if patch.case_id == case_id], mapping, preset
        )
    ]
    _write_json(
        dataset.raw / "dataset.json",
        {
            "channel_names": preset.channel_names,
            "labels": mapping.dataset_labels,
            "numTraining": len(records),
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        },
    )
    index = PatchIndex(request=request, patches=tuple(records))
    (dataset.raw / _PATCHES_FILE).write_text(index.model_dump_json(indent=1), "utf-8")
    return index


def open_reference(case: Case, grid: Grid, mapping: LabelMapping) -> Reference:
    """The reference of a case on a grid."""
    return MaskReference(case.mask, grid, mapping) if case.mask else BenignReference()


def _survey(case: Case, mapping: LabelMapping, preset: Preset) -> Survey:
    with open_slide(case.slide) as slide:
        grid = slide.grid(preset.notes.spacing_um)
        with open_reference(case, grid, mapping) as reference:
            return survey_slide(
                case.id,
                grid,
                detect_tissue(slide, grid),
                reference,
                tumour_label=mapping.value_of(TUMOUR),
                ignore_label=mapping.ignore_label,
            )


def _write_patches(
    raw: Path, case: Case, patches: Sequence[Patch], mapping: LabelMapping, preset: Preset
) -> Iterator[PatchRecord]:
    with ExitStack() as stack:
        slide = stack.enter_context(open_slide(case.slide))
        grid = slide.grid(preset.notes.spacing_um)
        reference = stack.enter_context(open_reference(case, grid, mapping))
        for number, patch in enumerate(patches):
            name = f"{case.id}_{number:03d}"
            image, label = read_patch(slide, grid, reference, patch.region)
            # NaturalImage2DIO wants the colours of one image in one file, named as its first channel.
            Image.fromarray(image).save(raw / "imagesTr" / f"{name}_0000.png", compress_level=1)
            Image.fromarray(label).save(raw / "labelsTr" / f"{name}.png", compress_level=1)
            yield PatchRecord(
                name=name,
                case=case.id,
                kind=patch.kind,
                x=patch.region.x,
                y=patch.region.y,
                centre=case.centre,
                patient=case.patient,
                lesion=case.lesion,
            )


def read_patch(
    slide: Slide, grid: Grid, reference: Reference, region: GridRegion
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """RGB (height, width, 3) and model labels (height, width) of one region, both uint8."""
    image = slide.read(grid, region)
    if not image.any():
        image = image.copy()
        image[0, 0] = 1  # nnU-Net crops black borders and fails on an image that is nothing else
    return image, reference.read(region)


def preprocess(dataset: Dataset, preset: Preset, *, folds: int, seed: int) -> list[Split]:
    """Fingerprint, plans, splits and nnU-Net's preprocessed patches; what is there of the same plans is kept.

    nnU-Net's own entry points start worker processes, which takes longer than the work itself for a few hundred
    patches; the same functions are called here one patch after the other.
    """
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO  # noqa: PLC0415 - needs the environment
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: PLC0415
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    index = dataset.index()
    dataset.preprocessed.mkdir(parents=True, exist_ok=True)
    fingerprint_file = dataset.preprocessed / _FINGERPRINT_FILE
    if not fingerprint_file.exists():
        _write_json(fingerprint_file, _fingerprint(dataset, index, NaturalImage2DIO))
    intensities = _read_json(fingerprint_file)["foreground_intensity_properties_per_channel"]
    plans = preset.plans_for(dataset.name, intensities)
    _write_json(dataset.preprocessed / "plans.json", plans)
    dataset_json = dataset.dataset_json()
    _write_json(dataset.preprocessed / "dataset.json", dataset_json)
    splits = make_splits(
        {p.name: Origin(patient=p.patient, stratum=_stratum(p)) for p in index.patches}, folds=folds, seed=seed
    )
    _write_json(dataset.preprocessed / "splits_final.json", splits)

    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    target = dataset.preprocessed / configuration.data_identifier
    target.mkdir(exist_ok=True)
    preprocessor = DefaultPreprocessor(verbose=False)
    for record in index.patches:
        if (target / f"{record.name}.pkl").exists():  # written last
            continue
        preprocessor.run_case_save(
            str(target / record.name),
            [str(dataset.raw / "imagesTr" / f"{record.name}_0000.png")],
            str(dataset.raw / "labelsTr" / f"{record.name}.png"),
            manager,
            configuration,
            dataset_json,
        )
    log.info("%d patches are preprocessed for %d folds.", len(index.patches), folds)
    return splits


def _stratum(record: PatchRecord) -> tuple[str, ...]:
    """Sorts by severity, so that a patient counts as its worst slide."""
    return f"{LESION_CLASSES.index(record.lesion)} {record.lesion}", record.centre


def _fingerprint(dataset: Dataset, index: PatchIndex, reader: type[Any]) -> dict[str, Any]:
    """nnU-Net's dataset fingerprint, from its own analysis of each case."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (  # noqa: PLC0415
        DatasetFingerprintExtractor,
    )

    shapes, spacings, intensities, relative_sizes = [], [], [], []
    for record in index.patches:
        shape, spacing, values, _, relative = DatasetFingerprintExtractor.analyze_case(
            [str(dataset.raw / "imagesTr" / f"{record.name}_0000.png")],
            str(dataset.raw / "labelsTr" / f"{record.name}.png"),
            reader,
            _INTENSITY_SAMPLES_PER_PATCH,
        )
        shapes.append([int(size) for size in shape])
        spacings.append([float(size) for size in spacing])
        intensities.append(values)
        relative_sizes.append(float(relative))
    per_channel = {}
    for channel in range(3):
        values = np.concatenate([np.asarray(case[channel], np.float32) for case in intensities])
        low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
        per_channel[str(channel)] = {
            "mean": float(values.mean()),
            "median": float(median),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile_99_5": float(high),
            "percentile_00_5": float(low),
        }
    return {
        "spacings": spacings,
        "shapes_after_crop": shapes,
        "foreground_intensity_properties_per_channel": per_channel,
        "median_relative_size_after_cropping": float(np.median(relative_sizes)),
    }


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), "utf-8")
