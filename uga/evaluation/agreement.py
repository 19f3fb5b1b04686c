"""Agreement of predicted with reference pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of pixels of one label; the sum of two is what both areas have together."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @classmethod
    def of(cls, predicted: NDArray[np.bool_], reference: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Self:
        """Count where ``judged``; three arrays of one shape."""
        both = int(np.count_nonzero(predicted & reference & judged))
        return cls(
            both,
            int(np.count_nonzero(predicted & judged)) - both,
            int(np.count_nonzero(reference & judged)) - both,
        )

    @classmethod
    def pooled(cls, parts: Iterable[Agreement]) -> Self:
        """All parts taken as one area."""
        listed = list(parts)
        return cls(
            sum(part.true_positive for part in listed),
            sum(part.false_positive for part in listed),
            sum(part.false_negative for part in listed),
        )

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN), unsmoothed; None where the label is neither in the reference nor predicted."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else None
