"""Patches as an nnU-Net dataset: raw images and labels, then nnU-Net's own preprocessing, in this process."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import BaseModel, ConfigDict

from uga.errors import UserError
from uga.output.files import partial_path, write_atomic
from uga.processes import Job, run_together
from uga.progress import ProgressLog
from uga.slide import open_slide
from uga.tissue_file import read_tissue_mask, tissue_of
from uga.training.cases import LESION_CLASSES, Case, LesionClass
from uga.training.faults import Faults
from uga.training.labels import TUMOUR, LabelMapping
from uga.training.presets import CONFIGURATION, Preset
from uga.training.reference import BenignReference, MaskReference, shape_reference
from uga.training.sampling import Patch, PatchKind, Survey, plan_patches, survey_slide
from uga.training.splits import Origin, Split, check_splits, make_splits, patch_splits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from uga.geometry import Grid, GridRegion
    from uga.slide import Slide
    from uga.training.environment import NnunetFolders
    from uga.training.reference import Reference

log = logging.getLogger(__name__)

_PATCHES_FILE = "patches.json"
_REQUEST_FILE = "request.json"
_SPLITS_FILE = "splits_final.json"
_PATCHES_PER_PROCESS = 100
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

    def splits(self) -> list[Split]:
        """nnU-Net's splits, by patch."""
        content: list[Split] = _read_json(self.preprocessed / _SPLITS_FILE)
        return content


def write_dataset(
    dataset: Dataset,
    cases: Sequence[Case],
    mapping: LabelMapping,
    preset: Preset,
    *,
    announce: Callable[[int], None] = lambda _patches: None,
) -> PatchIndex:
    """Sample the cohort and write its patches as PNG; what an earlier call with the same request left is kept.

    Args:
        dataset: Where to write.
        cases: The cohort.
        mapping: Reference values and classes to labels.
        preset: Spacing and sampling.
        announce: Told the number of patches before the first is written.

    Raises:
        UserError: an annotation does not fit, or the cohort holds no tumour; all faults are named.
    """
    request = _request(cases, mapping, preset)
    request_file = dataset.raw / _REQUEST_FILE
    if request_file.exists() and _read_json(request_file) == request:
        if (dataset.raw / _PATCHES_FILE).exists():
            index = dataset.index()
            log.info("%d patches are there already.", len(index.patches))
            announce(len(index.patches))
            return index
    else:
        for folder in (dataset.raw, dataset.preprocessed):
            shutil.rmtree(folder, ignore_errors=True)
    case_of = {case.id: case for case in cases}
    patches = plan_patches(_surveys(cases, mapping, preset), preset.notes.sampling)
    kinds = Counter(patch.kind for patch in patches)
    if not kinds["tumour"]:
        named = ", ".join(case.id for case in cases[:3]) + (", ..." if len(cases) > 3 else "")
        raise UserError(f"The slides {named} hold no annotated tumour; add slides with tumour, or correct --labels.")
    announce(len(patches))
    for name in ("imagesTr", "labelsTr"):
        (dataset.raw / name).mkdir(parents=True, exist_ok=True)
    _write_json(request_file, request)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    log.info("Sampling %s patches from %d slides.", counts, len(cases))
    records: list[PatchRecord] = []
    progress = ProgressLog("sampling", unit="patches")
    for case_id in sorted({patch.case_id for patch in patches}):
        own = [patch for patch in patches if patch.case_id == case_id]
        records += _write_patches(dataset.raw, case_of[case_id], own, mapping, preset)
        progress(len(records), len(patches))
    leaves_unannotated = any(_unannotated_label(case, mapping) == mapping.ignore_label for case in cases)
    _write_json(
        dataset.raw / "dataset.json",
        {
            "channel_names": preset.channel_names,
            "labels": mapping.dataset_labels(with_ignore=leaves_unannotated),
            "numTraining": len(records),
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        },
    )
    index = PatchIndex(request=request, patches=tuple(records))
    write_atomic(dataset.raw / _PATCHES_FILE, index.model_dump_json(indent=1).encode())
    return index


def check_cases(cases: Sequence[Case], mapping: LabelMapping, preset: Preset, faults: Faults) -> None:
    """Open every slide with its annotation, quickly, and note what cannot be used."""
    for case in cases:
        with faults.collect(), open_slide(case.slide) as slide:
            grid = slide.grid(preset.notes.spacing_um)
            with open_reference(case, grid, mapping):
                if case.tissue:
                    read_tissue_mask(case.tissue, slide, grid)


def open_reference(case: Case, grid: Grid, mapping: LabelMapping) -> Reference:
    """The reference of a case on a grid.

    Raises:
        UserError: the annotation cannot be read or does not fit slide or mapping.
    """
    if case.annotation is None:
        return BenignReference()
    if not case.has_shapes:
        return MaskReference(case.annotation, grid, mapping)
    return shape_reference(case.annotation, grid, mapping, unannotated=_unannotated_label(case, mapping))


def _unannotated_label(case: Case, mapping: LabelMapping) -> int:
    """What area outside all shapes is; on a slide known to be benign it is background whatever was asked."""
    ignored = case.has_shapes and case.unannotated != "background" and case.lesion != "negative"
    return mapping.ignore_label if ignored else 0


def _request(cases: Sequence[Case], mapping: LabelMapping, preset: Preset) -> dict[str, Any]:
    """What decides the patches; files by name, size and time, so that an annotation that was mended is read anew."""
    return {
        "cases": [
            {
                **{name: getattr(case, name) for name in ("id", "centre", "patient", "lesion")},
                "unannotated": _unannotated_label(case, mapping),
                "files": [_stamp(path) for path in (case.slide, case.annotation, case.tissue)],
            }
            for case in cases
        ],
        "mapping": mapping.model_dump(mode="json"),
        "spacing_um": preset.notes.spacing_um,
        "sampling": preset.notes.sampling.model_dump(mode="json"),
        "channels": preset.channel_names,
    }


def _stamp(path: Path | None) -> list[str | int] | None:
    if path is None:
        return None
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _surveys(cases: Sequence[Case], mapping: LabelMapping, preset: Preset) -> list[Survey]:
    faults, surveys = Faults("The cohort"), []
    progress = ProgressLog("looking for tissue and tumour", unit="slides")
    for number, case in enumerate(cases, start=1):
        with faults.collect():
            survey = _survey(case, mapping, preset)
            if case.lesion == "negative" and survey.tumour.any():
                raise UserError(f"{case.annotation} marks tumour on a slide of class negative; correct one of the two.")
            surveys.append(survey)
        progress(number, len(cases))
    faults.raise_if_any()
    return surveys


def _survey(case: Case, mapping: LabelMapping, preset: Preset) -> Survey:
    with open_slide(case.slide) as slide:
        grid = slide.grid(preset.notes.spacing_um)
        with open_reference(case, grid, mapping) as reference:
            return survey_slide(
                case.id,
                grid,
                tissue_of(slide, grid, case.tissue),
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
            # NaturalImage2DIO wants the colours of one image in one file, named as its first channel.
            image_file, label_file = raw / "imagesTr" / f"{name}_0000.png", raw / "labelsTr" / f"{name}.png"
            if not label_file.exists():  # written last
                image, label = read_patch(slide, grid, reference, patch.region)
                _write_png(image_file, image)
                _write_png(label_file, label)
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


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    partial = partial_path(path)
    Image.fromarray(pixels).save(partial, "PNG", compress_level=1)
    partial.replace(path)


def read_patch(
    slide: Slide, grid: Grid, reference: Reference, region: GridRegion
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """RGB (height, width, 3) and model labels (height, width) of one region, both uint8."""
    image = slide.read(grid, region)
    if not image.any():
        image = image.copy()
        image[0, 0] = 1  # nnU-Net crops black borders and fails on an image that is nothing else
    return image, reference.read(region)


def preprocess(
    dataset: Dataset,
    preset: Preset,
    *,
    folds: int,
    seed: int,
    own_splits: Sequence[Split] | None = None,
    processes: int = 1,
) -> list[Split]:
    """Fingerprint, plans, splits and nnU-Net's preprocessed patches; what is there of the same plans is kept.

    nnU-Net's own entry points always start worker processes, which takes longer than the work itself for a few
    hundred patches; the same functions are called here.

    Args:
        dataset: Written by `write_dataset`.
        preset: Plans and training settings.
        folds: Number of folds to deal the patients to.
        seed: Of the deal.
        own_splits: The user's splits by slide, instead of a deal.
        processes: At most this many work at the same time; few patches are not worth more than one.

    Raises:
        UserError: too few patients, or splits that leak.
    """
    from uga.training.fingerprint import fingerprint  # noqa: PLC0415 - nnU-Net reads its environment on import

    index = dataset.index()
    dataset.preprocessed.mkdir(parents=True, exist_ok=True)
    fingerprint_file = dataset.preprocessed / _FINGERPRINT_FILE
    if not fingerprint_file.exists():
        _write_json(fingerprint_file, fingerprint(dataset.raw, [record.name for record in index.patches]))
    intensities = _read_json(fingerprint_file)["foreground_intensity_properties_per_channel"]
    plans = preset.plans_for(dataset.name, intensities)
    _write_json(dataset.preprocessed / "plans.json", plans)
    dataset_json = dataset.dataset_json()
    _write_json(dataset.preprocessed / "dataset.json", dataset_json)
    if own_splits is None:
        origins = {p.name: Origin(patient=p.patient, stratum=_stratum(p)) for p in index.patches}
        splits = make_splits(origins, folds=folds, seed=seed)
    else:
        splits = patch_splits(own_splits, {p.name: p.case for p in index.patches})
        check_splits(splits, {p.name: p.patient for p in index.patches})
    _write_json(dataset.preprocessed / _SPLITS_FILE, splits)

    processes = max(1, min(processes, len(index.patches) // _PATCHES_PER_PROCESS))
    parts = [(dataset, number, processes) for number in range(processes)]
    if processes == 1:
        _preprocess_part(*parts[0])
    else:
        run_together([Job("Preprocessing", _preprocess_part, part) for part in parts])
    log.info("%d patches are preprocessed for %d folds.", len(index.patches), len(splits))
    return splits


def _preprocess_part(dataset: Dataset, number: int, parts: int) -> None:
    """Every ``parts``-th patch, by nnU-Net's own preprocessor; patches that are there are kept."""
    dataset.folders.activate()
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: PLC0415
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    manager = PlansManager(dataset.plans())
    configuration = manager.get_configuration(CONFIGURATION)
    target = dataset.preprocessed / configuration.data_identifier
    target.mkdir(exist_ok=True)
    preprocessor = DefaultPreprocessor(verbose=False)
    dataset_json = dataset.dataset_json()
    own = dataset.index().patches[number::parts]
    progress = ProgressLog("preprocessing" if parts == 1 else f"preprocessing, part {number + 1}", unit="patches")
    for done, record in enumerate(own, start=1):
        if not (target / f"{record.name}.pkl").exists():  # written last
            preprocessor.run_case_save(
                str(target / record.name),
                [str(dataset.raw / "imagesTr" / f"{record.name}_0000.png")],
                str(dataset.raw / "labelsTr" / f"{record.name}.png"),
                manager,
                configuration,
                dataset_json,
            )
        progress(done, len(own))


def _stratum(record: PatchRecord) -> tuple[str, ...]:
    """Sorts by severity, so that a patient counts as its worst slide."""
    return f"{LESION_CLASSES.index(record.lesion)} {record.lesion}", record.centre


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), "utf-8")
