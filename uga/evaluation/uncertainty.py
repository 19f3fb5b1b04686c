"""How well the uncertainty map tells where the segmentation is wrong, from histograms of its 256 grey values.

Every function takes pixel counts ``h`` of shape (..., 2, 256): right and wrong pixels by grey value, of any number of
slides or resamples at once. A pixel is wrong if its predicted label is not the reference's, whatever labels there are.
Pixels of one grey value are tied; ties count as if they came in random order. Figures without a meaning are NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, entr

from uga.measures import Measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GREY_LEVELS = 256
BINS = 10
_ENTROPIES = frozenset({Measure.ENTROPY, Measure.SOFT_CROSS_ENTROPY, Measure.MEAN_LOG_SOFTMAX})


def count_errors(
    grey: NDArray[np.uint8], predicted: NDArray[np.uint8], reference: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Right and wrong pixels by grey value, int64 (2, 256), where ``counted``; four arrays of one shape."""
    wrong = (predicted != reference)[counted]
    index = grey[counted].astype(np.int16)
    index[wrong] += GREY_LEVELS
    return np.bincount(index, minlength=2 * GREY_LEVELS).reshape(2, GREY_LEVELS)


def error_rate(h: NDArray[Any]) -> Floats:
    """Share of pixels that are wrong; also the `risk_area` of a map that knows nothing."""
    return _ratio(h[..., 1, :].sum(-1), h.sum((-1, -2)))


def error_auroc(h: NDArray[Any]) -> Floats:
    """Area under the ROC curve of detecting wrong pixels by their uncertainty: 0.5 knows nothing, 1 all.

    The chance that a wrong pixel is more uncertain than a right one, ties half (Mann & Whitney 1947).
    """
    right, wrong = h[..., 0, :].astype(np.float64), h[..., 1, :].astype(np.float64)
    below = np.cumsum(right, axis=-1) - right / 2
    return _ratio((wrong * below).sum(-1), right.sum(-1) * wrong.sum(-1))


def risk_area(h: NDArray[Any]) -> Floats:
    """Area under the risk-coverage curve (AURC): the mean error rate of the k most certain pixels, over all k.

    Source: Geifman, Uziel & El-Yaniv 2019. Within a tie the k-th pixel adds the tie's mean error, so the sum over k of
    (E + j r) / (N + j) has the closed form n r + (E - N r) (psi(N + n + 1) - psi(N + 1)).
    """
    wrong = h[..., 1, :].astype(np.float64)
    tied = h.sum(-2, dtype=np.float64)
    upto = np.cumsum(tied, axis=-1)
    rate = wrong / np.maximum(tied, 1)
    surplus = np.cumsum(wrong, axis=-1) - wrong - (upto - tied) * rate
    harmonic = np.diff(digamma(upto + 1), axis=-1, prepend=digamma(1.0))
    return _ratio((wrong + surplus * harmonic).sum(-1), upto[..., -1])


def excess_risk_area(h: NDArray[Any]) -> Floats:
    """`risk_area` less that of the best possible order, in which all wrong pixels come last (E-AURC)."""
    total, wrong = h.sum((-1, -2), dtype=np.float64), h[..., 1, :].sum(-1, dtype=np.float64)
    right = total - wrong
    best = _ratio(wrong - right * (digamma(total + 1) - digamma(right + 1)), total)
    return risk_area(h) - best


class RiskCoverage(NamedTuple):
    """Error rate of the pixels up to each grey value, and their share of all; both (256,)."""

    coverage: Floats
    risk: Floats


def risk_coverage(h: NDArray[Any]) -> RiskCoverage:
    """The risk-coverage curve of one histogram (2, 256), a point per grey value that occurs."""
    tied, wrong = h.sum(0, dtype=np.float64), h[1].astype(np.float64)
    there = tied > 0
    covered, errors = np.cumsum(tied)[there], np.cumsum(wrong)[there]
    return RiskCoverage(covered / max(1.0, tied.sum()), errors / covered)


class Scale(NamedTuple):
    """What the grey values of a map mean.

    Attributes:
        uncertainty: On a scale from 0 to 1, (256,).
        expected_error: Error rate of a calibrated ensemble that is so uncertain, (256,); NaN for measures that do not
            claim one.
        bin: The bin of each grey value, int (256,).
    """

    uncertainty: Floats
    expected_error: Floats
    bin: NDArray[np.intp]


def scale_of(measure: str, full_scale: float, labels: int, bins: int = BINS) -> Scale:
    """What the grey values of a map mean. 0 counts as 0, 255 as the full scale, others as the middle of their interval.

    ``uncertainty`` is U divided by what it is where every fold gives all labels the same probability: ln C for measures
    in nats; for the variance, which is 0 there, by its greatest value 1 - 1 / C. Beyond, it is 1.

    ``expected_error`` is e with h(e) + e ln(C - 1) = U (h: binary entropy in nats), the equality of Fano's inequality
    (Cover & Thomas 2006, section 2.10), at most 1 - 1 / C. A prediction whose other labels share what the first leaves
    has this e = 1 - max p exactly, so with two labels and the measure ``entropy`` it is the error the ensemble expects.
    The cross-entropies exceed the entropy where folds disagree; disagreement alone and the variance say nothing about
    errors that all folds share, so they claim none.

    Args:
        measure: Name of the measure.
        full_scale: Uncertainty shown as 255.
        labels: Number of labels C, background included.
        bins: Number of bins of equal width on the scale from 0 to 1.
    """
    levels = np.arange(GREY_LEVELS) + 0.5
    levels[0], levels[-1] = 0, GREY_LEVELS - 1
    values = levels * full_scale / (GREY_LEVELS - 1)
    largest = 1 - 1 / labels if measure == Measure.VARIANCE else math.log(labels)
    uncertainty = np.minimum(values / largest, 1)
    expected = [expected_error(value, labels) if measure in _ENTROPIES else np.nan for value in values.tolist()]
    return Scale(uncertainty, np.array(expected), np.minimum((uncertainty * bins).astype(np.intp), bins - 1))


def expected_error(entropy: float, labels: int) -> float:
    """The error rate e with h(e) + e ln(C - 1) = entropy in nats; 1 - 1 / C where the entropy is ln C or more."""
    largest = 1 - 1 / labels
    if entropy >= math.log(labels):
        return largest
    return float(brentq(lambda e: entr(e) + entr(1 - e) + e * math.log(labels - 1) - entropy, 0, largest))


class Bins(NamedTuple):
    """Pixels of similar uncertainty; sums over pixels, (..., bins), so that bins of slides can be added.

    Attributes:
        pixels: How many there are.
        wrong: How many of them are wrong.
        uncertainty: Sum of their uncertainty on the scale from 0 to 1.
        expected: Sum of their expected errors.
    """

    pixels: Floats
    wrong: Floats
    uncertainty: Floats
    expected: Floats

    @property
    def error_rate(self) -> Floats:
        """Share of wrong pixels, NaN in an empty bin."""
        return _ratio(self.wrong, self.pixels)


def binned(h: NDArray[Any], scale: Scale) -> Bins:
    """What happened beside what was claimed, bin by bin."""
    tied, wrong = h.sum(-2, dtype=np.float64), h[..., 1, :].astype(np.float64)
    membership = np.eye(int(scale.bin[-1]) + 1)[scale.bin]
    return Bins(
        *(each @ membership for each in (tied, wrong, tied * scale.uncertainty, tied * scale.expected_error)),
    )


def normalised_calibration_error(bins: Bins) -> Floats:
    """UCE of Laves et al. 2019: mean over all pixels of |error rate - normalised uncertainty| of their bin.

    For comparison with other work. With few labels it is not 0 for a calibrated ensemble: where two labels are at one
    half each, the uncertainty is 1 and the error rate 0.5.
    """
    return _ratio(np.abs(bins.wrong - bins.uncertainty).sum(-1), bins.pixels.sum(-1))


def calibration_error(bins: Bins) -> Floats:
    """Mean over all pixels of |error rate - expected error| of their bin; 0 for a calibrated ensemble.

    The form of the expected calibration error (Naeini et al. 2015), with `Scale.expected_error` for 1 - confidence.
    """
    return _ratio(np.abs(bins.wrong - bins.expected).sum(-1), bins.pixels.sum(-1))


def average_calibration_error(bins: Bins) -> Floats:
    """Like `calibration_error`, but every bin that holds a pixel weighs the same (Neumann et al. 2018).

    Most pixels of a slide are certain and right; here they do not drown the others.
    """
    there = bins.pixels > 0
    gaps = np.abs(bins.wrong - bins.expected) / np.where(there, bins.pixels, 1)
    return _ratio(gaps.sum(-1), there.sum(-1))


def _ratio(over: NDArray[Any], under: NDArray[Any]) -> Floats:
    return np.asarray(np.where(under > 0, over / np.where(under > 0, under, 1), np.nan))
