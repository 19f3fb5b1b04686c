"""Ranks the patches of slides by how much a correction would teach.

Scores are gathered while the maps stream by, in cells of the stride's size, so that no map is held or read again. A
patch is a square block of cells on the working grid; its score is the mean of U over all its pixels (the paper), from
the float map.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.geometry import Grid, GridRegion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from uga.inference import Band
    from uga.tissue import TissueMask

WHITE_MAX_SATURATION = 30
WHITE_MIN_VALUE = 230
BLACK_MAX_VALUE = 30
# The authors score patches on their 8-bit map, on which 255 is 4 nats (code/uncertainty_csv.py).
_GREY_LEVELS = 256
_REFERENCE_FRACTION = 0.8
_FOREGROUND_SHARE = 0.66


class Strategy(StrEnum):
    """How candidates are ordered."""

    MEAN = "mean"
    SUM = "sum"
    REFERENCE = "reference"
    RANDOM = "random"
    FOREGROUND_RANDOM = "foreground-random"


class Exclusion(StrEnum):
    """Which patches are not worth a clinician's time.

    ``paper``: black or white pixels exceed 70 % of the patch. ``reference``: the authors' code, which keeps a patch of
    at most 40 % black that is at most 30 % white or holds predicted tumour.
    """

    PAPER = "paper"
    REFERENCE = "reference"
    NONE = "none"

    def excludes(self, candidate: Candidate) -> bool:
        """Whether the candidate is dropped."""
        if self is Exclusion.PAPER:
            return candidate.black_fraction > 0.7 or candidate.white_fraction > 0.7
        if self is Exclusion.REFERENCE:
            return candidate.black_fraction > 0.4 or (candidate.white_fraction > 0.3 and candidate.tumour_fraction == 0)
        return False


class Scope(StrEnum):
    """Over what the list of a run with several slides is ranked; ``top`` patches are taken from each part."""

    SLIDE = "slide"
    CENTRE = "centre"
    COHORT = "cohort"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One patch that could be ranked.

    ``x``, ``y`` are its top-left corner on the working grid and ``size`` its side, in grid pixels. Fractions are of all
    pixels of the patch; what overhangs the slide counts as white.
    """

    slide_id: str
    centre: str
    x: int
    y: int
    size: int
    score_mean: float
    score_sum: float
    tissue_fraction: float
    tumour_fraction: float
    black_fraction: float
    white_fraction: float
    reference_key: float

    @property
    def region(self) -> GridRegion:
        """The patch on the working grid of its slide."""
        return GridRegion(self.x, self.y, self.size, self.size)


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Patch corners at multiples of ``stride`` grid pixels; ``stride`` divides ``patch``."""

    grid: Grid
    patch: int = 1024
    stride: int = 1024

    def __post_init__(self) -> None:
        check_stride(self.patch, self.stride)

    @property
    def xs(self) -> range:
        """Columns of patch corners; the last patch may overhang the slide by less than a stride."""
        return range(0, max(1, self.grid.width - self.patch + self.stride), self.stride)

    @property
    def ys(self) -> range:
        """Rows of patch corners."""
        return range(0, max(1, self.grid.height - self.patch + self.stride), self.stride)

    def with_tissue(self, tissue: TissueMask) -> Iterator[GridRegion]:
        """The patches that hold any tissue, row by row."""
        for y in self.ys:
            for x in self.xs:
                region = GridRegion(x, y, self.patch, self.patch)
                if tissue.covers(region):
                    yield region


class PatchScores:
    """Gathers the scores of one slide's patches from the bands of its maps.

    Args:
        patches: where patches may lie.
        tumour_label: the label whose share is reported.
        full_scale: the value of U that the 8-bit map shows as 255, for the authors' key.
    """

    def __init__(self, patches: PatchGrid, *, tumour_label: int, full_scale: float) -> None:
        self._patches = patches
        self._tumour_label = tumour_label
        self._full_scale = full_scale
        self._rows = -(-(patches.ys[-1] + patches.patch) // patches.stride)
        self._columns = -(-max(patches.xs[-1] + patches.patch, patches.grid.width) // patches.stride)
        shape = (self._rows, self._columns)
        self._uncertainty = np.zeros(shape)
        self._tissue, self._tumour, self._black, self._white = (np.zeros(shape, dtype=np.int64) for _ in range(4))
        self._outside = np.full(shape, patches.stride**2, dtype=np.int64)
        self._grey = np.zeros((*shape, _GREY_LEVELS), dtype=np.int32)

    def add(self, band: Band) -> None:
        """Adds the next band; bands may have any height."""
        height = len(band.labels)
        start = 0
        while start < height:
            row = (band.y + start) // self._patches.stride
            stop = min(height, (row + 1) * self._patches.stride - band.y)
            if row < self._rows:
                self._add_rows(row, band, slice(start, stop))
            start = stop

    def candidates(self, slide_id: str, centre: str = "") -> list[Candidate]:
        """All patches with tissue, row by row."""
        side = self._patches.patch // self._patches.stride
        pixels = self._patches.patch**2
        found = []
        for y in self._patches.ys:
            for x in self._patches.xs:
                row, column = y // self._patches.stride, x // self._patches.stride
                cells = np.s_[row : row + side, column : column + side]
                tissue = int(self._tissue[cells].sum())
                if tissue == 0:
                    continue
                score_sum = float(self._uncertainty[cells].sum())
                found.append(
                    Candidate(
                        slide_id=slide_id,
                        centre=centre,
                        x=x,
                        y=y,
                        size=self._patches.patch,
                        score_mean=float(np.float32(score_sum / pixels)),
                        score_sum=float(np.float32(score_sum)),
                        tissue_fraction=tissue / pixels,
                        tumour_fraction=int(self._tumour[cells].sum()) / pixels,
                        black_fraction=int(self._black[cells].sum()) / pixels,
                        white_fraction=int((self._white[cells] + self._outside[cells]).sum()) / pixels,
                        reference_key=_reference_key(self._grey[cells].sum(axis=(0, 1))),
                    )
                )
        return found

    def _add_rows(self, row: int, band: Band, rows: slice) -> None:
        tissue = band.tissue[rows]
        inside = np.ones_like(tissue)
        self._outside[row] -= self._per_cell(inside).astype(np.int64)
        black, white = black_and_white(band.rgb[rows])
        self._black[row] += self._per_cell(black).astype(np.int64)
        self._white[row] += self._per_cell(white).astype(np.int64)
        if not tissue.any():
            return
        uncertainty = band.uncertainty[rows]
        self._uncertainty[row] += self._per_cell(uncertainty)
        self._tissue[row] += self._per_cell(tissue).astype(np.int64)
        self._tumour[row] += self._per_cell(band.labels[rows] == self._tumour_label).astype(np.int64)
        grey = to_uint8(uncertainty, self._full_scale)
        cell = np.arange(grey.shape[1]) // self._patches.stride * _GREY_LEVELS
        counts = np.bincount((grey + cell).ravel(), minlength=self._columns * _GREY_LEVELS)
        self._grey[row] += counts.reshape(self._columns, _GREY_LEVELS).astype(np.int32)

    def _per_cell(self, values: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums (rows, width) values over rows and over the columns of each cell."""
        columns = values.sum(axis=0, dtype=np.float64)
        starts = np.arange(0, len(columns), self._patches.stride)
        sums = np.zeros(self._columns)
        sums[: len(starts)] = np.add.reduceat(columns, starts)
        return sums


def check_stride(patch: int, stride: int) -> None:
    """Refuses a stride that does not divide the patch, whose scores could not be sums over cells.

    Raises:
        UserError: the stride does not fit.
    """
    if stride < 1 or patch % stride:
        msg = f"The stride of {stride} px does not divide the patch of {patch} px; choose one that does."
        raise UserError(msg)


def black_and_white(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Black (V <= 30) and white (S <= 30 and V >= 230) pixels of uint8 RGB (h, w, 3), in 8-bit HSV.

    Source: the paper's 70 % rule with the thresholds of the authors' code/uncertainty_csv.py.
    """
    value = rgb.max(axis=-1)
    black = value <= BLACK_MAX_VALUE
    bright = value >= WHITE_MIN_VALUE
    if not bright.any():
        return black, bright
    spread = (value - rgb.min(axis=-1)).astype(np.int32)
    # S = 255 * spread / V, rounded: S <= 30 exactly where 255 * spread < 30.5 * V.
    pale = 510 * spread < (2 * WHITE_MAX_SATURATION + 1) * value.astype(np.int32)
    return black, bright & pale


def to_uint8(uncertainty: NDArray[np.float32], full_scale: float) -> NDArray[np.uint8]:
    """The 8-bit map: 0..full_scale to 0..255, truncated, larger values saturated (the authors' scale for 4 nats)."""
    return (np.clip(uncertainty, 0, full_scale) * np.float32(255 / full_scale)).astype(np.uint8)


def order(candidates: Iterable[Candidate], strategy: Strategy, *, seed: int = 0) -> list[Candidate]:
    """The candidates, best first. Ties go to the slide's name, then top to bottom, left to right."""
    ordered = sorted(candidates, key=lambda c: (c.slide_id, c.y, c.x))
    keys: dict[Strategy, Callable[[Candidate], float]] = {
        Strategy.MEAN: lambda c: c.score_mean,
        Strategy.SUM: lambda c: c.score_sum,
        Strategy.REFERENCE: lambda c: c.reference_key,
    }
    if strategy in keys:
        return sorted(ordered, key=keys[strategy], reverse=True)
    shuffled = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    return shuffled if strategy is Strategy.RANDOM else _foreground_first(shuffled)


def select(ordered: Sequence[Candidate], *, top: int, exclusion: Exclusion = Exclusion.PAPER) -> list[Candidate]:
    """The first ``top`` candidates that are not excluded and do not overlap one already taken (greedy)."""
    taken: list[Candidate] = []
    by_slide: dict[str, list[GridRegion]] = {}
    for candidate in ordered:
        if len(taken) >= top:
            break
        regions = by_slide.setdefault(candidate.slide_id, [])
        if exclusion.excludes(candidate) or any(candidate.region.intersection(r) is not None for r in regions):
            continue
        regions.append(candidate.region)
        taken.append(candidate)
    return taken


def rank(
    candidates: Iterable[Candidate],
    *,
    top: int,
    strategy: Strategy = Strategy.MEAN,
    exclusion: Exclusion = Exclusion.PAPER,
    scope: Scope = Scope.COHORT,
    seed: int = 0,
) -> list[Candidate]:
    """Ranks candidates of one or more slides: the ``top`` of each part of the scope, merged in the strategy's order."""
    ordered = order(candidates, strategy, seed=seed)
    part: Callable[[Candidate], str] = {
        Scope.SLIDE: lambda c: c.slide_id,
        Scope.CENTRE: lambda c: c.centre,
        Scope.COHORT: lambda _: "",
    }[scope]
    chosen: set[Candidate] = set()
    for name in sorted({part(c) for c in ordered}):
        chosen.update(select([c for c in ordered if part(c) == name], top=top, exclusion=exclusion))
    return [c for c in ordered if c in chosen]


def _foreground_first(shuffled: list[Candidate]) -> list[Candidate]:
    """About two picks in three from the patches with predicted tumour while there are any, the others from all.

    Source: the foreground-aware random baseline of nnActive, which spends 66 % of the budget on foreground.
    """
    anywhere = deque(shuffled)
    foreground = deque(c for c in shuffled if c.tumour_fraction > 0)
    ordered: dict[Candidate, None] = {}
    from_foreground = 0
    while len(ordered) < len(shuffled):
        due = bool(foreground) and from_foreground < _FOREGROUND_SHARE * (len(ordered) + 1)
        candidate = (foreground if due else anywhere).popleft()
        if candidate not in ordered:
            ordered[candidate] = None
            from_foreground += due
    return list(ordered)


def _reference_key(histogram: NDArray[np.int32]) -> float:
    """100 * (pixels above 0.8 of the patch's maximum) + sum, on the 8-bit map (authors' creat_uncertain_data.py)."""
    levels = np.arange(_GREY_LEVELS)
    present = np.flatnonzero(histogram)
    maximum = int(present[-1]) if len(present) else 0
    above = int(histogram[levels > _REFERENCE_FRACTION * maximum].sum())
    return float(100 * above + int((histogram.astype(np.int64) * levels).sum()))
