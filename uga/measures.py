"""Per-pixel uncertainty from the disagreement of an ensemble's folds.

Every function takes the fold probabilities ``p_f`` as a float32 tensor of shape (K folds, C classes, ...) and
returns a float32 tensor of shape (...). Logarithms are natural; ``p_f`` is clipped at 1e-8 as in the authors' code
(nadieh/Collaborative_segmentation, code/inference_nnunet.py). ``p`` is the mean of ``p_f`` over the folds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    PixelMeasure = Callable[[torch.Tensor], torch.Tensor]

CLIP = 1e-8


class Measure(StrEnum):
    """The measures a user can choose with ``--uncertainty``."""

    SOFT_CROSS_ENTROPY = "soft-cross-entropy"
    ENTROPY = "entropy"
    DISAGREEMENT = "disagreement"
    MUTUAL_INFORMATION = "mutual-information"
    VARIANCE = "variance"
    MEAN_LOG_SOFTMAX = "mean-log-softmax"

    @property
    def unit(self) -> Literal["nats", "1"]:
        """Unit of the float map."""
        return "1" if self is Measure.VARIANCE else "nats"

    @property
    def full_scale(self) -> float:
        """Value written as 255 in the 8-bit map; larger values saturate.

        4 nats is the authors' scale (their line 345); the variance of probabilities summed over classes is below 1.
        """
        return 1.0 if self is Measure.VARIANCE else 4.0

    def of(self, fold_probabilities: torch.Tensor) -> torch.Tensor:
        """Uncertainty of shape (...) from probabilities of shape (K, C, ...)."""
        return _FUNCTIONS[self](fold_probabilities)


def soft_cross_entropy(p_f: torch.Tensor) -> torch.Tensor:
    """U = mean_f [ - sum_c p_c ln p_f,c ] = H(p) + mean_f KL(p || p_f).

    Source: the paper, section 3, as its authors' code computes it (target: mean of the softmaxes).
    """
    return -(p_f.mean(0) * _log(p_f).mean(0)).sum(0)


def entropy(p_f: torch.Tensor) -> torch.Tensor:
    """H(p) = - sum_c p_c ln p_c, the predictive entropy of the mean. Source: Shannon 1948."""
    return _entropy(p_f.mean(0), class_dim=0)


def disagreement(p_f: torch.Tensor) -> torch.Tensor:
    """mean_f KL(p || p_f) = mean_f sum_c p_c (ln p_c - ln p_f,c).

    Source: the part of the soft cross-entropy that is zero where all folds agree; the authors' KL variant
    (nnUNet-for-pathology v2) is this divided by the number of classes.
    """
    p = p_f.mean(0)
    return (p * (_log(p) - _log(p_f).mean(0))).sum(0)


def mutual_information(p_f: torch.Tensor) -> torch.Tensor:
    """H(p) - mean_f H(p_f). Source: Houlsby et al. 2011 (BALD), with folds in place of posterior samples."""
    return entropy(p_f) - _entropy(p_f, class_dim=1).mean(0)


def variance(p_f: torch.Tensor) -> torch.Tensor:
    """sum_c mean_f (p_f,c - p_c)^2, the population variance over folds summed over classes (the Brier spread)."""
    return p_f.var(dim=0, correction=0).sum(0)


def mean_log_softmax(p_f: torch.Tensor) -> torch.Tensor:
    """mean_f [ - sum_c q_c ln p_f,c ] with q = softmax(mean_f ln p_f).

    Source: the literal reading of the paper's sentence, "the individual fold's log(softmax) against the collective
    mean of log(softmax)"; the mean is normalised because a cross-entropy needs a distribution as its target.
    """
    mean_log = _log(p_f).mean(0)
    return -(mean_log.softmax(0) * mean_log).sum(0)


def class_entropy(p_f: torch.Tensor, value: int) -> torch.Tensor:
    """p_c H(p) for the class ``value``: the uncertainty where that class is likely.

    Source: ``class_pred_entropy`` of nnActive, from which its class-stratified strategies take their scores.
    """
    return p_f[:, value].mean(0) * entropy(p_f)


def variation_ratio(p_f: torch.Tensor) -> torch.Tensor:
    """(1/K) sum_f [argmax_c p_f,c != argmax_c p_c], the share of folds that would label the pixel otherwise, 0..1.

    Source: Freeman 1965, for networks Gal et al. 2017; there the label is the one with most votes, here the one that
    is written.
    """
    # The argmax, which torch finds ten times as fast in this way on a CPU.
    return (p_f.max(1).indices != p_f.mean(0).max(0).indices).float().mean(0)


def exceeds(p_f: torch.Tensor, value: int, threshold: float) -> torch.Tensor:
    """p_c > threshold for the class ``value``, 0 or 1: its mean over a patch is the share that is segmented so."""
    return (p_f[:, value].mean(0) > threshold).float()


def _log(p: torch.Tensor) -> torch.Tensor:
    return p.clamp_min(CLIP).log()


def _entropy(p: torch.Tensor, class_dim: int) -> torch.Tensor:
    return -(p * _log(p)).sum(class_dim)


_FUNCTIONS: dict[Measure, Callable[[torch.Tensor], torch.Tensor]] = {
    Measure.SOFT_CROSS_ENTROPY: soft_cross_entropy,
    Measure.ENTROPY: entropy,
    Measure.DISAGREEMENT: disagreement,
    Measure.MUTUAL_INFORMATION: mutual_information,
    Measure.VARIANCE: variance,
    Measure.MEAN_LOG_SOFTMAX: mean_log_softmax,
}
