"""Distances between the outlines of predicted and reference areas, over a whole slide.

Outlines are gathered band by band, so no map is ever whole in memory; what is kept grows with their length, not with
the slide. Distances are exact: from every outline pixel to the nearest of the other outline, wherever that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_OUTLINE_PX = 10_000_000
"""Outline pixels of a map beyond which distances are not computed: ten metres at 1 um, about 1 GB of memory."""
_PERCENTILE = 0.95
_QUERY_PX = 1_000_000


class Outline:
    """Gathers the outline of one area from bands of full width, top to bottom.

    An outline pixel belongs to the area and has one of its four neighbours outside it. Beyond the slide is outside;
    pixels that are not judged are neither inside nor outside, so they make no outline.
    """

    def __init__(self) -> None:
        self.length_px = 0
        self._y = 0
        self._points: list[NDArray[np.int32]] = []
        # The last row of the band before, whose lower neighbours are not known yet; what is outside there and above it.
        self._inside: NDArray[np.bool_] | None = None
        self._outside: NDArray[np.bool_] | None = None

    def add(self, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> None:
        """Add a band: what belongs to the area, and what is judged and does not; two arrays (rows, width)."""
        if self._inside is None or self._outside is None:
            self._outside = np.ones((1, inside.shape[1]), np.bool_)
        else:
            inside = np.concatenate([self._inside, inside])
        outside = np.concatenate([self._outside, outside])
        self._trace(inside[:-1], outside)
        self._inside, self._outside = inside[-1:].copy(), outside[-2:].copy()

    def points(self) -> NDArray[np.int32]:
        """All outline pixels as (row, column), int32 (n, 2), once the last band was added."""
        if self._inside is not None and self._outside is not None:
            beyond = np.ones((1, self._inside.shape[1]), np.bool_)
            self._trace(self._inside, np.concatenate([self._outside, beyond]))
            self._inside = None
        return np.concatenate(self._points) if self._points else np.empty((0, 2), np.int32)

    def _trace(self, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> None:
        """Keep the outline pixels of ``inside``; ``outside`` begins a row above it and ends at least a row below."""
        rows = len(inside)
        if inside.any():
            beside = np.pad(outside[1 : rows + 1], ((0, 0), (1, 1)), constant_values=True)
            edge = outside[:rows] | outside[2 : rows + 2] | beside[:, :-2] | beside[:, 2:]
            row, column = np.nonzero(inside & edge)
            self.length_px += len(row)
            if self.length_px <= MOST_OUTLINE_PX:
                self._points.append(np.stack([row + self._y, column], axis=1).astype(np.int32))
        self._y += rows


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """How far two outlines lie apart, from each outline pixel to the nearest of the other.

    Attributes:
        predicted_px, reference_px: Length of the outlines in pixels.
        within_px: Pixels of both that lie within the tolerance of the other; None if an outline is too long to measure.
        hd95_um: 95th percentile of the distances, the larger of both directions, as grand_challenge_metrics has it.
        mean_um: Mean of all distances of both directions (average symmetric surface distance; Heimann et al. 2009).

    The last two are None where an outline is missing.
    """

    predicted_px: int
    reference_px: int
    within_px: int | None
    hd95_um: float | None = None
    mean_um: float | None = None

    @property
    def nsd(self) -> float | None:
        """Share of both outlines within the tolerance of the other; None without any outline.

        Source: normalised surface Dice of Nikolov et al. 2021, with outline pixels for the length of the outline.
        """
        length = self.predicted_px + self.reference_px
        return None if self.within_px is None or length == 0 else self.within_px / length


def surface_distances(
    predicted: Outline, reference: Outline, *, spacing_um: float, tolerance_um: float
) -> SurfaceDistances:
    """Compare two outlines of one slide; ``spacing_um`` is the side of a pixel."""
    ours, theirs = predicted.points(), reference.points()
    lengths = predicted.length_px, reference.length_px
    if max(lengths) > MOST_OUTLINE_PX:
        return SurfaceDistances(*lengths, within_px=None)
    if min(lengths) == 0:
        return SurfaceDistances(*lengths, within_px=0)
    there, back = _distances(ours, theirs) * spacing_um, _distances(theirs, ours) * spacing_um
    return SurfaceDistances(
        *lengths,
        within_px=int(np.count_nonzero(there <= tolerance_um) + np.count_nonzero(back <= tolerance_um)),
        hd95_um=max(_percentile(there), _percentile(back)),
        mean_um=float((there.sum() + back.sum()) / (len(there) + len(back))),
    )


def _distances(points: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.float64]:
    """Pixels from each point to the nearest other."""
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    found = np.empty(len(points))
    for first in range(0, len(points), _QUERY_PX):
        part = slice(first, first + _QUERY_PX)
        found[part] = tree.query(points[part])[0]
    return found


def _percentile(distances: NDArray[np.float64]) -> float:
    """The element of grand_challenge_metrics.stats.percentile_hausdorff_distance, which does not interpolate."""
    index = int((len(distances) - 1) * _PERCENTILE)
    return float(np.partition(distances, index)[index])
