"""Which patches of a cohort are trained on: tumour, plain benign and benign at the tissue's edge, in stated numbers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from uga.geometry import GridRegion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from uga.geometry import Grid
    from uga.tissue import TissueMask
    from uga.training.reference import Reference

log = logging.getLogger(__name__)

CELL_PX = 32
_PLAIN_GLASS = 0.2
PatchKind = Literal["tumour", "benign", "edge"]


class SamplingOptions(BaseModel):
    """How patches are drawn.

    Attributes:
        patch_px: Side of a patch on the grid; larger than the network's window, which is cropped from it.
        benign_per_tumour: Benign patches for each tumour patch over the whole cohort (4 is the paper's "1:4").
        max_tumour_per_slide: No slide gives more tumour patches than this.
        max_benign_per_slide: No slide gives more benign patches than this, edge patches included.
        edge_share: Share of the benign patches that lies at the tissue's edge, where benign looks least typical.
        max_glass_fraction: A benign patch holds at most this much glass.
        seed: Same seed, same cohort: same patches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch_px: int = Field(default=512, ge=CELL_PX)
    benign_per_tumour: float = Field(default=1.0, gt=0)
    max_tumour_per_slide: int = Field(default=20, ge=1)
    max_benign_per_slide: int = Field(default=20, ge=1)
    edge_share: float = Field(default=0.25, ge=0, le=1)
    max_glass_fraction: float = Field(default=0.7, ge=0, le=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """A slide in cells of `CELL_PX` grid pixels: how much of each cell is tissue, tumour and unannotated, 0..1."""

    case_id: str
    grid: Grid
    tissue: npt.NDArray[np.float32]
    tumour: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch to train on."""

    case_id: str
    kind: PatchKind
    region: GridRegion


def survey_slide(
    case_id: str, grid: Grid, tissue: TissueMask, reference: Reference, *, tumour_label: int, ignore_label: int
) -> Survey:
    """Read the whole reference once, in bands, and keep fractions per cell."""
    rows, columns = -(-grid.height // CELL_PX), -(-grid.width // CELL_PX)
    tissue_cells = np.zeros((rows, columns), np.float32)
    tumour_cells = np.zeros((rows, columns), np.float32)
    ignored_cells = np.zeros((rows, columns), np.float32)
    for row in range(rows):
        # The band overhangs the slide to whole cells; there the reference is background and there is no tissue.
        band = GridRegion(0, row * CELL_PX, columns * CELL_PX, CELL_PX)
        labels = reference.read(band).reshape(CELL_PX, columns, CELL_PX)
        tumour_cells[row] = (labels == tumour_label).mean(axis=(0, 2))
        ignored_cells[row] = (labels == ignore_label).mean(axis=(0, 2))
        tissue_cells[row] = tissue.expand(band).reshape(CELL_PX, columns, CELL_PX).mean(axis=(0, 2))
    return Survey(case_id, grid, tissue_cells, tumour_cells, ignored_cells)


def plan_patches(surveys: Sequence[Survey], options: SamplingOptions) -> tuple[Patch, ...]:
    """Choose the patches of a cohort.

    Tumour patches are centred on tumour, at least a quarter of a patch apart, so that a small lesion gives few and a
    large one at most the cap. Benign patches hold no tumour and lie at least half a patch apart; the slides give one
    after the other in turn until ``benign_per_tumour`` is reached, or the caps.

    Returns:
        Patches ordered by slide, then kind; the same for the same surveys in any order.
    """
    ordered = sorted(surveys, key=lambda survey: survey.case_id)
    candidates = [_Candidates.of(survey, options, index) for index, survey in enumerate(ordered)]
    tumour = [patch for each in candidates for patch in each.tumour]
    wanted = round(options.benign_per_tumour * len(tumour))
    benign = _in_turn([each.benign_in_order(options) for each in candidates], wanted)
    if len(benign) < wanted:
        log.warning(
            "Only %d benign patches fit for %d tumour patches; %d were asked for.", len(benign), len(tumour), wanted
        )
    kinds = ("tumour", "benign", "edge")
    return tuple(sorted((*tumour, *benign), key=lambda p: (p.case_id, kinds.index(p.kind), p.region.y, p.region.x)))


def _in_turn(queues: list[Iterator[Patch]], wanted: int) -> list[Patch]:
    taken: list[Patch] = []
    while queues and len(taken) < wanted:
        remaining = []
        for queue in queues:
            patch = next(queue, None)
            if patch is None or len(taken) >= wanted:
                continue
            taken.append(patch)
            remaining.append(queue)
        queues = remaining
    return taken


@dataclass(frozen=True, slots=True)
class _Candidates:
    tumour: tuple[Patch, ...]
    benign: tuple[Patch, ...]
    edge: tuple[Patch, ...]
    slide_index: int

    @classmethod
    def of(cls, survey: Survey, options: SamplingOptions, slide_index: int) -> _Candidates:
        rng = np.random.default_rng([options.seed, slide_index])
        tissue, tumour, ignored = _Sums(survey.tissue), _Sums(survey.tumour), _Sums(survey.ignored)
        plain_glass = min(_PLAIN_GLASS, options.max_glass_fraction)

        def kind_of(region: GridRegion) -> PatchKind | None:
            # A tumour patch counts however little around the tumour is annotated: small lesions have no other.
            if tumour.mean(region) > 0:
                return "tumour"
            if ignored.mean(region) > 0.5:
                return None
            glass = 1.0 - tissue.mean(region)
            if glass > options.max_glass_fraction:
                return None
            return "edge" if glass > plain_glass else "benign"

        patch, most = options.patch_px, options.max_benign_per_slide
        benign = np.where(survey.tumour > 0, False, survey.tissue > 0)
        return cls(
            tumour=_spread(survey, survey.tumour > 0, "tumour", kind_of, rng, patch, options.max_tumour_per_slide),
            benign=_spread(survey, benign, "benign", kind_of, rng, patch, most),
            edge=_spread(survey, benign, "edge", kind_of, rng, patch, most),
            slide_index=slide_index,
        )

    def benign_in_order(self, options: SamplingOptions) -> Iterator[Patch]:
        """Benign and edge patches, mixed by `edge_share`, up to the slide's cap; either fills in for the other."""
        rng = np.random.default_rng([options.seed, self.slide_index, 1])
        benign, edge = list(self.benign), list(self.edge)
        for _ in range(min(options.max_benign_per_slide, len(benign) + len(edge))):
            from_edge = bool(edge) and (not benign or rng.random() < options.edge_share)
            yield (edge if from_edge else benign).pop(0)


class _Sums:
    """Mean of a cell map over all cells that a region touches, from its summed-area table."""

    def __init__(self, cells: npt.NDArray[np.float32]) -> None:
        # Cells hold multiples of 2**-10, whose sums are exact in float64: "no tumour" is exactly zero.
        self._table = np.pad(cells.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)

    def mean(self, region: GridRegion) -> float:
        """Mean over the touched cells; a cell outside the slide counts as zero."""
        rows, columns = self._table.shape[0] - 1, self._table.shape[1] - 1
        y0, x0 = region.y // CELL_PX, region.x // CELL_PX
        y1, x1 = -(-region.y_end // CELL_PX), -(-region.x_end // CELL_PX)
        bottom, right = min(y1, rows), min(x1, columns)
        table = self._table
        total = table[bottom, right] - table[y0, right] - table[bottom, x0] + table[y0, x0]
        return float(total) / ((y1 - y0) * (x1 - x0))


def _spread(
    survey: Survey,
    centres: npt.NDArray[np.bool_],
    kind: PatchKind,
    kind_of: Callable[[GridRegion], PatchKind | None],
    rng: np.random.Generator,
    patch_px: int,
    most: int,
) -> tuple[Patch, ...]:
    """At most ``most`` patches of a kind around random cells; tumour a quarter, benign half a patch apart."""
    distance_px = patch_px // 4 if kind == "tumour" else patch_px // 2
    rows, columns = np.nonzero(centres)
    patches: list[Patch] = []
    taken = np.empty((0, 2), np.int64)
    for index in rng.permutation(len(rows)):
        if len(patches) == most:
            break
        dx, dy = rng.integers(0, CELL_PX, 2)
        x = _moved_inside(int(columns[index]) * CELL_PX + int(dx) - patch_px // 2, survey.grid.width, patch_px)
        y = _moved_inside(int(rows[index]) * CELL_PX + int(dy) - patch_px // 2, survey.grid.height, patch_px)
        corner = np.array([x, y])
        # Chebyshev distance between corners.
        if len(taken) and np.abs(taken - corner).max(axis=1).min() < distance_px:
            continue
        region = GridRegion(x, y, patch_px, patch_px)
        if kind_of(region) != kind:
            continue
        taken = np.vstack([taken, corner])
        patches.append(Patch(survey.case_id, kind, region))
    return tuple(patches)


def _moved_inside(start: int, size: int, patch_px: int) -> int:
    """Moved into the slide where it fits; a slide smaller than a patch is overhung on the right and below."""
    return max(0, min(start, size - patch_px))
