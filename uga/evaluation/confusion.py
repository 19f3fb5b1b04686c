"""Confusion matrices of square cells of the working grid, gathered while the maps go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from grand_challenge_metrics.stats import calculate_confusion_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uga.geometry import Grid, GridRegion


class CellConfusion:
    """A confusion matrix (reference, predicted) for every cell; patches and slides are sums of cells.

    Args:
        grid: The working grid.
        cell_px: Side of a cell in grid pixels.
        labels: Number of labels; pixels whose reference is not one of them are not counted.
    """

    def __init__(self, grid: Grid, cell_px: int, labels: int) -> None:
        self._grid = grid
        self._cell_px = cell_px
        self._labels = list(range(labels))
        self._cells = np.zeros((-(-grid.height // cell_px), -(-grid.width // cell_px), labels, labels), np.int64)

    def add(self, y: int, reference: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Add a band: rows from ``y`` on, full width; bands may have any height."""
        top = 0
        while top < len(reference):
            row = (y + top) // self._cell_px
            bottom = min(len(reference), (row + 1) * self._cell_px - y)
            for column in range(self._cells.shape[1]):
                part = np.s_[top:bottom, column * self._cell_px : (column + 1) * self._cell_px]
                self._cells[row, column] += calculate_confusion_matrix(reference[part], predicted[part], self._labels)
            top = bottom

    def total(self) -> NDArray[np.int64]:
        """The matrix of the whole slide, (labels, labels)."""
        whole: NDArray[np.int64] = self._cells.sum(axis=(0, 1))
        return whole

    def of(self, region: GridRegion) -> NDArray[np.int64]:
        """The matrix of a region whose corners are corners of cells, (labels, labels)."""
        inside = region.intersection(self._grid.region)
        if inside is None:
            return np.zeros(self._cells.shape[2:], np.int64)
        rows = slice(inside.y // self._cell_px, -(-inside.y_end // self._cell_px))
        columns = slice(inside.x // self._cell_px, -(-inside.x_end // self._cell_px))
        part: NDArray[np.int64] = self._cells[rows, columns].sum(axis=(0, 1))
        return part
