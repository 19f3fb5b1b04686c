"""What else is measured of a patch, as its mean only, so that strategies can be compared on one run of the networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from uga.measures import Measure, class_entropy, exceeds, variation_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uga.measures import PixelMeasure

_VARIATION_RATIO = "variation-ratio"
_CLASS_ENTROPY = "entropy of "
_THRESHOLD_DICE = "threshold-dice"
_ABOVE = {f" above {threshold:g}": threshold for threshold in (0.3, 0.7)}
_LOW, _HIGH = _ABOVE
_SMOOTHING = 0.1


def extra_measures(labels: Mapping[str, int]) -> dict[str, PixelMeasure]:
    """Entropy, disagreement, mutual information, variation ratio; of each foreground label its part of the entropy.

    Also where its mean probability is above 0.3, and above 0.7.

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
            for above, threshold in _ABOVE.items():
                measures[label + above] = partial(exceeds, value=value, threshold=threshold)
    return measures


def class_entropies(extra: Mapping[str, float]) -> dict[str, float]:
    """The class entropies among a candidate's extra means, by label."""
    return {
        name.removeprefix(_CLASS_ENTROPY): value for name, value in extra.items() if name.startswith(_CLASS_ENTROPY)
    }


def threshold_dice(extra: Mapping[str, float]) -> float | None:
    """1 - Dice of what is segmented above 0.7 with what is above 0.3, mean over the foreground labels; 0..1.

    Where l and h are the shares of the patch above 0.3 and above 0.7, which holds no pixel that the other does not:
    (l - h) / (l + h + 0.1). The tenth of a patch is added so that a few pixels of an empty patch weigh little.

    Returns:
        None if the means were not kept.
    """
    labels = [name.removesuffix(_LOW) for name in extra if name.endswith(_LOW)]
    shares = [(extra[label + _LOW], extra[label + _HIGH]) for label in labels]
    if not shares:
        return None
    return sum((low - high) / (low + high + _SMOOTHING) for low, high in shares) / len(shares)


def extra_scores(extra: Mapping[str, float]) -> dict[str, float]:
    """What can be ordered by among a candidate's extra means, and what is made of several, by name."""
    scores = {name: value for name, value in extra.items() if not name.endswith((_LOW, _HIGH))}
    made = threshold_dice(extra)
    return scores if made is None else {**scores, _THRESHOLD_DICE: made}
