"""Uncertain patches that do not resemble each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSILON = 1e-6


def farthest_first(scores: NDArray[np.float64], features: NDArray[np.float32]) -> list[int]:
    """All indices in the order of a weighted farthest-first traversal.

    The first has the highest score. Each next one maximises score * d^2, d being the Euclidean distance to the nearest
    one already taken, in features divided by their standard deviation. Ties go to the lower index.
    Source: k-centre greedy (Sener and Savarese 2018, "core-set") with the d^2 of k-means++ (Arthur and Vassilvitskii
    2007), weighted by uncertainty; features scaled as nnActive's kmeans_bald scales them.

    Args:
        scores: Not negative, (n,).
        features: (n, d).
    """
    scaled = features.astype(np.float64)
    scaled /= scaled.std(axis=0) + _EPSILON
    nearest = np.full(len(scores), np.inf)
    taken = np.zeros(len(scores), dtype=np.bool_)
    order: list[int] = []
    for _ in range(len(scores)):
        gain = scores * (nearest if order else 1.0)
        chosen = int(np.argmax(np.where(taken, -1.0, gain)))
        order.append(chosen)
        taken[chosen] = True
        nearest = np.minimum(nearest, ((scaled - scaled[chosen]) ** 2).sum(axis=1))
    return order
