"""What else is measured of a patch, as its mean only, so that strategies can be compared on one run of the networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from uga.measures import Measure, class_entropy, votes_against, votes_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uga.measures import PixelMeasure
    from uga.ranking.candidate import Candidate

FOLD_DICE = "fold-dice"
_CLASS_ENTROPY = "entropy of "
_WITH, _AGAINST = "votes with the ensemble on ", "votes against the ensemble on "


def extra_measures(labels: Mapping[str, int]) -> dict[str, PixelMeasure]:
    """Entropy, disagreement, mutual information; of each foreground label, entropy and votes.

    Args:
        labels: The model's, background 0.

    Returns:
        Functions of the fold probabilities, by the names that `Candidate.extra` has.
    """
    measures: dict[str, PixelMeasure] = {
        measure.value: measure.of for measure in (Measure.ENTROPY, Measure.DISAGREEMENT, Measure.MUTUAL_INFORMATION)
    }
    for label, value in labels.items():
        if value:
            measures[_CLASS_ENTROPY + label] = partial(class_entropy, value=value)
            measures[_WITH + label] = partial(votes_with, value=value)
            measures[_AGAINST + label] = partial(votes_against, value=value)
    return measures


def class_entropies(extra: Mapping[str, float]) -> dict[str, float]:
    """The class entropies among a candidate's extra means, by label."""
    return {
        name.removeprefix(_CLASS_ENTROPY): value for name, value in extra.items() if name.startswith(_CLASS_ENTROPY)
    }


def fold_dice_error(candidate: Candidate) -> float | None:
    """1 - Dice of the folds' label maps with the ensemble's, 0..1, of the label where it is worst; None if not kept.

    (2 A + 1) / (2 A + D + 1) with the pixels of the patch that a fold and the ensemble give the label to (A), and those
    that one of the two does (D), both as means over folds. Smoothed like the authors' Dice of a patch: a label that
    nobody gives is agreed on.

    Source: Roy et al. 2019 (Bayesian QuickNAT) take the Dice between samples of a network as a measure of the quality
    of a segmentation; here folds are held against the ensemble, whose map is the one that is written.
    """
    pixels, extra = candidate.size**2, candidate.extra
    errors = []
    for name, value in extra.items():
        if name.startswith(_WITH):
            apart = pixels * extra[_AGAINST + name.removeprefix(_WITH)]
            errors.append(apart / (2 * pixels * value + apart + 1))
    return max(errors, default=None)


def extra_scores(candidate: Candidate) -> dict[str, float]:
    """What of a candidate's extra means is a score by itself, by name, and `fold_dice_error`."""
    scores = {name: value for name, value in candidate.extra.items() if not name.startswith((_WITH, _AGAINST))}
    error = fold_dice_error(candidate)
    return scores if error is None else {**scores, FOLD_DICE: error}
