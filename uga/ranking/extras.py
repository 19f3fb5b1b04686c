"""What else is measured of a patch, as its mean only, so that strategies can be compared on one run of the networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from uga.measures import Measure, class_entropy, variation_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uga.measures import PixelMeasure

_VARIATION_RATIO = "variation-ratio"
_CLASS_ENTROPY = "entropy of "


def extra_measures(labels: Mapping[str, int]) -> dict[str, PixelMeasure]:
    """Entropy, disagreement, mutual information, variation ratio; the part of the entropy each foreground label has.

    Args:
        labels: The model's, background 0.

    Returns:
        Functions of the fold probabilities, by the names that `Candidate.extra` has.
    """
    measures: dict[str, PixelMeasure] = {
        measure.value: measure.of for measure in (Measure.ENTROPY, Measure.DISAGREEMENT, Measure.MUTUAL_INFORMATION)
    }
    measures[_VARIATION_RATIO] = variation_ratio
    for label, value in labels.items():
        if value:
            measures[_CLASS_ENTROPY + label] = partial(class_entropy, value=value)
    return measures


def class_entropies(extra: Mapping[str, float]) -> dict[str, float]:
    """The class entropies among a candidate's extra means, by label."""
    return {
        name.removeprefix(_CLASS_ENTROPY): value for name, value in extra.items() if name.startswith(_CLASS_ENTROPY)
    }
