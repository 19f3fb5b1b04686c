"""A finished slide against its reference, band by band, so that no map is ever whole in memory."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import SlideError, UserError
from uga.evaluation.agreement import Agreement
from uga.evaluation.confusion import CellConfusion
from uga.evaluation.outlines import Outline, SurfaceDistances, surface_distances
from uga.evaluation.tissue import patch_cell, tissue_of
from uga.evaluation.uncertainty import GREY_LEVELS, count_errors
from uga.geometry import GridRegion
from uga.output.finished import finished_slides
from uga.output.maps import MapReader
from uga.progress import ProgressLog
from uga.ranking import Exclusion
from uga.scores import read_scores
from uga.training.dataset import open_reference
from uga.training.faults import Faults
from uga.training.labels import TUMOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.errors import UgaError
    from uga.evaluation.tissue import TissueSource
    from uga.geometry import Grid
    from uga.output.finished import FinishedSlide
    from uga.output.schema import ModelRecord, UncertaintyRecord
    from uga.ranking import Candidate
    from uga.tissue import TissueMask
    from uga.training.cases import Case, Unannotated
    from uga.training.labels import LabelMapping
    from uga.training.reference import Reference

log = logging.getLogger(__name__)

DEFAULT_TOLERANCE_UM = 20.0
_BAND_ROWS = 512
_PART_COLUMNS = 4096


@dataclass(frozen=True, slots=True)
class PatchEvaluation:
    """What came out for one patch of the ranking's grid.

    Attributes:
        candidate: The patch and its score.
        labels: Agreement for each label but the background.
        judged_px: Pixels that the reference judges.
        wrong_px: Those of them whose predicted label is another.
    """

    candidate: Candidate
    labels: dict[str, Agreement]
    judged_px: int
    wrong_px: int

    @property
    def ranked(self) -> bool:
        """Whether the paper's rule keeps it (at most 70 % black, at most 70 % white)."""
        return not Exclusion.PAPER.excludes(self.candidate)

    @property
    def error_rate(self) -> float | None:
        """Share of judged pixels that are wrong; None if none is judged."""
        return self.wrong_px / self.judged_px if self.judged_px else None


@dataclass(frozen=True, slots=True, eq=False)
class SlideEvaluation:
    """What came out for one slide; counts are pixels of the maps.

    Attributes:
        case: The slide and its reference.
        model: What segmented it.
        measure: What the uncertainty map and the scores hold.
        spacing_um: Side of a pixel.
        patch_size_px: Side of a patch in pixels.
        labels: Agreement for each label but the background.
        judged_px: Pixels that the reference judges.
        patches: All patches with tissue, row by row.
        errors: Judged pixels of tissue by grey value of the uncertainty map: right, wrong; int64 (2, 256).
        missed_outside_tissue: For each label the false negatives where no tissue was found, which no network saw.
        surfaces: For each label how far the outlines lie apart; empty if that was not asked for.
    """

    case: Case
    model: ModelRecord
    measure: UncertaintyRecord
    spacing_um: float
    patch_size_px: int
    labels: dict[str, Agreement]
    judged_px: int
    patches: tuple[PatchEvaluation, ...]
    errors: NDArray[np.int64]
    missed_outside_tissue: dict[str, int]
    surfaces: dict[str, SurfaceDistances]

    @property
    def ranked_patches(self) -> tuple[PatchEvaluation, ...]:
        """The patches that the paper's rule does not drop."""
        return tuple(patch for patch in self.patches if patch.ranked)

    @property
    def patch_scores(self) -> tuple[float, ...]:
        """Their scores, in the unit of the measure."""
        return tuple(patch.candidate.score_mean for patch in self.ranked_patches)

    @property
    def tissue_px(self) -> int:
        """Judged pixels of tissue."""
        return int(self.errors.sum())

    def mm2(self, pixels: float) -> float:
        """Area of pixels of the maps."""
        return pixels * (self.spacing_um / 1000) ** 2


@dataclass(frozen=True, slots=True)
class SlideFailure:
    """A slide that could not be evaluated, and the error that says why and what to do."""

    slide: str
    error: UgaError


def evaluate_slides(
    folders: Sequence[Path],
    cases: Sequence[Case],
    mapping: LabelMapping,
    *,
    unannotated: Unannotated = "ignore",
    tissue: TissueSource = "slide",
    tolerance_um: float | None = DEFAULT_TOLERANCE_UM,
) -> list[SlideEvaluation]:
    """Compare every finished slide below the folders with its reference; the first that cannot be stops it.

    Args:
        folders: Output folders of `uga infer`.
        cases: The references, found by the slide's file name; those without a finished slide are left out.
        mapping: What values and classes of the references mean; its labels must be the model's.
        unannotated: What area outside all shapes is, where a case does not say.
        tissue: Where tissue is: found in the slide as the run did, or all pixels of patches with tissue.
        tolerance_um: Distance at which outlines still agree; None measures no outlines, which is faster.

    Raises:
        UserError: a finished slide has no reference or several, a reference does not fit, the labels differ, or slides
            are of different models.
        SlideError: a map or a slide cannot be read.
    """
    evaluations = []
    for result in evaluate_each(
        folders, cases, mapping, unannotated=unannotated, tissue=tissue, tolerance_um=tolerance_um
    ):
        if isinstance(result, SlideFailure):
            raise result.error
        evaluations.append(result)
    return evaluations


def evaluate_each(
    folders: Sequence[Path],
    cases: Sequence[Case],
    mapping: LabelMapping,
    *,
    unannotated: Unannotated = "ignore",
    tissue: TissueSource = "slide",
    tolerance_um: float | None = DEFAULT_TOLERANCE_UM,
) -> Iterator[SlideEvaluation | SlideFailure]:
    """Like `evaluate_slides`, slide by slide; one that cannot be evaluated does not stop the others.

    Raises:
        UserError: before the first slide, all that is wrong with the request: no or several references, two models,
            other labels than the model's.
    """
    pairs = _pairs(folders, [replace(case, unannotated=case.unannotated or unannotated) for case in cases], mapping)
    for number, (one, case) in enumerate(pairs, start=1):
        title = f"{one.id} ({number} of {len(pairs)})"
        try:
            evaluation = _SlideComparison(one, case, mapping, tissue, tolerance_um).run(title)
        except (UserError, SlideError) as error:
            log.warning("%s: %s", title, error)
            yield SlideFailure(one.record.file, error)
            continue
        log.info("%s: %s", title, ", ".join(_told(*item) for item in evaluation.labels.items()))
        yield evaluation


def _pairs(folders: Sequence[Path], cases: Sequence[Case], mapping: LabelMapping) -> list[tuple[FinishedSlide, Case]]:
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        by_name.setdefault(case.slide.name, []).append(case)
    faults, pairs = Faults("The evaluation"), []
    for one in finished_slides(folders):
        known = by_name.get(one.record.file, [])
        if len(known) == 1:
            pairs.append((one, known[0]))
        else:
            count = "no" if not known else f"{len(known)} possible"
            faults.add(f"The slide {one.record.file} in {one.folder} has {count} reference; name each slide once.")
    faults.raise_if_any()
    slides = [one for one, _ in pairs]
    _check_one_run(slides)
    _check_labels(slides, mapping)
    return pairs


def _check_one_run(slides: Sequence[FinishedSlide]) -> None:
    """Pooled figures mean nothing over different models, measures or grids."""
    first, *others = slides
    known = first.ranked()
    for one in others:
        ranked = one.ranked()
        for what, here, there in (
            ("model", ranked.model, known.model),
            ("uncertainty measure", ranked.uncertainty, known.uncertainty),
            ("spacing", ranked.spacing_um, known.spacing_um),
            ("patch size", ranked.patch_size_px, known.patch_size_px),
        ):
            if here != there:
                raise UserError(f"{one.folder} and {first.folder} differ in their {what}; evaluate them apart.")


def _check_labels(slides: Sequence[FinishedSlide], mapping: LabelMapping) -> None:
    """That the mapping has as many labels as the model, tumour in its place; names of others may be one's own."""
    for one in slides:
        try:
            with MapReader(one.segmentation) as segmentation:
                labels = segmentation.labels
        except (UserError, SlideError):
            continue  # told when it is that slide's turn
        if not labels:
            continue
        own = list(mapping.labels)
        if len(own) != len(labels) or labels.get(TUMOUR, own.index(TUMOUR)) != own.index(TUMOUR):
            raise UserError(
                f"{one.segmentation} holds the labels {', '.join(labels)}, the mapping {', '.join(own)}; name the "
                "model's labels in their order with --labels."
            )
        return  # all are of one model


@dataclass(frozen=True, slots=True)
class _SlideComparison:
    one: FinishedSlide
    case: Case
    mapping: LabelMapping
    tissue: TissueSource
    tolerance_um: float | None

    def run(self, title: str) -> SlideEvaluation:
        ranked = self.one.ranked()
        grid = self.one.grid(ranked.spacing_um)
        candidates = read_scores(self.one.folder)
        tissue = tissue_of(self.one, self.case, grid, candidates, self.tissue)
        cell_px = patch_cell(candidates) or ranked.patch_size_px
        gathered = _Gathered(list(self.mapping.labels), grid, cell_px, tissue, outlines=self.tolerance_um is not None)
        progress = ProgressLog(title, unit="rows")
        with ExitStack() as stack:
            predicted = stack.enter_context(MapReader(self.one.segmentation))
            uncertainty = stack.enter_context(MapReader(self.one.uncertainty))
            reference = stack.enter_context(open_reference(self.case, grid, self.mapping))
            for band, (found, grey, truth) in _read_ahead((predicted, uncertainty, reference), grid.region):
                if found.max() >= len(self.mapping.labels):
                    raise UserError(
                        f"{self.one.segmentation} holds the label {found.max()}, the mapping ends with "
                        f"{list(self.mapping.labels)[-1]}; name the model's labels in their order with --labels."
                    )
                gathered.add(band, found, grey, truth)
                if band.y_end < grid.height:
                    progress(band.y_end, grid.height)
        confusion = gathered.confusion.total()
        labels = gathered.agreements(confusion)
        tumour = labels[TUMOUR]
        if self.case.lesion == "negative" and tumour.reference_px:
            raise UserError(
                f"{self.case.annotation} marks tumour on a slide of class negative; correct one of the two."
            )
        return SlideEvaluation(
            case=self.case,
            model=ranked.model,
            measure=ranked.uncertainty,
            spacing_um=grid.spacing_um,
            patch_size_px=ranked.patch_size_px,
            labels=labels,
            judged_px=int(confusion.sum()),
            patches=tuple(gathered.patch(candidate) for candidate in candidates),
            errors=gathered.errors,
            missed_outside_tissue=gathered.missed_outside_tissue,
            surfaces=gathered.surfaces(grid.spacing_um, self.tolerance_um),
        )


class _Gathered:
    """Counts of one slide, gathered band by band."""

    def __init__(self, names: Sequence[str], grid: Grid, cell_px: int, tissue: TissueMask, *, outlines: bool) -> None:
        self._names = names
        self._tissue = tissue
        self.confusion = CellConfusion(grid, cell_px, len(names))
        self.errors = np.zeros((2, GREY_LEVELS), np.int64)
        self.missed_outside_tissue = dict.fromkeys(names[1:], 0)
        self._outlines = {name: (Outline(), Outline()) for name in names[1:] if outlines}

    def add(
        self,
        band: GridRegion,
        predicted: NDArray[np.uint8],
        uncertainty: NDArray[np.uint8],
        reference: NDArray[np.uint8],
    ) -> None:
        self.confusion.add(band.y, reference, predicted)
        judged = reference < len(self._names)
        for start in range(0, band.width, _PART_COLUMNS):
            part = np.s_[:, start : start + _PART_COLUMNS]
            width = min(_PART_COLUMNS, band.width - start)
            tissue = self._tissue.expand(GridRegion(band.x + start, band.y, width, band.height))
            self.errors += count_errors(uncertainty[part], predicted[part], reference[part], tissue & judged[part])
            unseen = ~tissue & (predicted[part] != reference[part])
            missed = np.bincount(reference[part][unseen], minlength=len(self._names))
            for value, name in enumerate(self._names[1:], start=1):
                self.missed_outside_tissue[name] += int(missed[value])
        for value, name in enumerate(self._names[1:], start=1):
            for outline, labels in zip(self._outlines.get(name, ()), (predicted, reference), strict=False):
                inside = labels == value
                outline.add(inside & judged, judged & ~inside)

    def agreements(self, confusion: NDArray[np.int64]) -> dict[str, Agreement]:
        return {name: Agreement.from_confusion(confusion, value) for value, name in enumerate(self._names) if value}

    def patch(self, candidate: Candidate) -> PatchEvaluation:
        confusion = self.confusion.of(candidate.region)
        judged = int(confusion.sum())
        return PatchEvaluation(candidate, self.agreements(confusion), judged, judged - int(np.trace(confusion)))

    def surfaces(self, spacing_um: float, tolerance_um: float | None) -> dict[str, SurfaceDistances]:
        return {
            name: surface_distances(*pair, spacing_um=spacing_um, tolerance_um=tolerance_um)
            for name, pair in self._outlines.items()
            if tolerance_um is not None
        }


def _read_ahead(
    readers: Sequence[MapReader | Reference], region: GridRegion
) -> Iterator[tuple[GridRegion, list[NDArray[np.uint8]]]]:
    """The bands of a region with what each reader has there; the next band is read meanwhile, a thread per reader."""
    bands = [
        GridRegion(0, y, region.width, min(_BAND_ROWS, region.height - y)) for y in range(0, region.height, _BAND_ROWS)
    ]
    with ThreadPoolExecutor(len(readers)) as pool:
        coming = [pool.submit(_read, reader, bands[0]) for reader in readers]
        for band, following in zip_longest(bands, bands[1:]):
            values = [future.result() for future in coming]
            coming = [pool.submit(_read, reader, following) for reader in readers if following is not None]
            yield band, values


def _read(reader: MapReader | Reference, band: GridRegion) -> NDArray[np.uint8]:
    """A band, read in parts: OpenSlide takes four times the memory while it reads."""
    values = np.empty((band.height, band.width), np.uint8)
    for part in band.tiles(_PART_COLUMNS):
        values[part.y - band.y : part.y_end - band.y, part.x : part.x_end] = reader.read(part)
    return values


def _told(label: str, agreement: Agreement) -> str:
    if agreement.dice is None:
        return f"{label} neither there nor found"
    return f"{label} Dice {agreement.dice:.3f}"
