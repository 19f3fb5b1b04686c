"""How well an ensemble agrees with reference patches, how sure it is, and how far its folds are apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from uga.geometry import Grid
from uga.measures import Measure
from uga.model.normalisation import StatisticsAccumulator
from uga.output.schema import NOT_JUDGED
from uga.windows import WindowPlan, gaussian_weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from uga.model.ensemble import Ensemble

_OVERLAP = 0.25
_CALIBRATION_BINS = 15


class Scores(BaseModel):
    """Agreement over the judged pixels of all patches together.

    Attributes:
        patches: Number of patches.
        pixels: Number of judged pixels.
        dice: Of each foreground label, pooled; None where it occurs neither in reference nor in prediction.
        absent: Of each foreground label that the reference does not hold, the share of judged pixels that are given it.
        calibration_error: Mean distance of confidence and accuracy in 15 bins of confidence, 0..1.
        uncertainty: Mean soft cross-entropy of all folds, nats.
        disagreement: Mean KL divergence of all folds from their mean, nats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patches: int
    pixels: int
    dice: dict[str, float | None]
    absent: dict[str, float] = Field(default_factory=dict)
    calibration_error: float
    uncertainty: float
    disagreement: float


@dataclass
class Tally:
    """Gathers `Scores`; ``labels`` are the model's."""

    labels: Mapping[str, int]
    _patches: int = 0
    _counts: NDArray[np.int64] = field(init=False)
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    _bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, _CALIBRATION_BINS)))

    def __post_init__(self) -> None:
        self._counts = np.zeros((len(self.labels), 3), np.int64)

    def add(self, probabilities: torch.Tensor, reference: NDArray[np.uint8], *, fold: int | None = None) -> None:
        """Add a patch.

        Args:
            probabilities: Softmax of K folds, float32 (K, C, h, w).
            reference: uint8 (h, w); `NOT_JUDGED` is left out.
            fold: The fold whose prediction is judged; None for the mean of all.
        """
        self._patches += 1
        truth = torch.tensor(reference, device=probabilities.device)
        judged = truth != NOT_JUDGED
        truth = truth[judged].long()
        p_f = probabilities[:, :, judged]
        confidence, predicted = (p_f.mean(0) if fold is None else p_f[fold]).max(0)
        for value in self.labels.values():
            true, positive = truth == value, predicted == value
            hits = int((positive & true).sum())
            self._counts[value] += [hits, int(positive.sum()) - hits, int(true.sum()) - hits]
        self._sums += [float(m.of(p_f).double().sum()) for m in (Measure.SOFT_CROSS_ENTROPY, Measure.DISAGREEMENT)]
        index = (confidence * _CALIBRATION_BINS).long().clamp_max(_CALIBRATION_BINS - 1)
        for row, weights in enumerate((torch.ones_like(confidence), confidence, (predicted == truth).float())):
            self._bins[row] += np.bincount(index.cpu(), weights.double().cpu(), minlength=_CALIBRATION_BINS)

    def scores(self) -> Scores | None:
        """The scores of all patches added; None if no pixel was judged."""
        pixels, confidence, correct = self._bins
        total = int(pixels.sum())
        if not total:
            return None
        tp, fp, fn = self._counts.T
        occurring = 2 * tp + fp + fn
        return Scores(
            patches=self._patches,
            pixels=total,
            dice={
                name: float(2 * tp[value] / occurring[value]) if occurring[value] else None
                for name, value in self.labels.items()
                if value
            },
            absent={
                name: float(fp[value] / total)
                for name, value in self.labels.items()
                if value and not tp[value] + fn[value]
            },
            calibration_error=float(np.abs(confidence - correct).sum() / total),
            uncertainty=float(self._sums[0] / total),
            disagreement=float(self._sums[1] / total),
        )


@torch.inference_mode()
def fold_probabilities(ensemble: Ensemble, image: NDArray[np.uint8]) -> torch.Tensor:
    """Softmax of every fold over a patch, windows blended as over a slide.

    Args:
        ensemble: Of K folds and C classes.
        image: RGB uint8 (h, w, 3) at the model's spacing; normalised as nnU-Net does a training case.

    Returns:
        float32 (K, C, h, w) on the ensemble's device.
    """
    model, device = ensemble.model, ensemble.device
    height, width = image.shape[:2]
    plan = WindowPlan.over(Grid(model.spacing_um, 1.0, 1.0, width, height), model.window_px, _OVERLAP)
    frame = plan.frame
    padded = torch.zeros((3, frame.height, frame.width), device=device)
    accumulator = StatisticsAccumulator()
    accumulator.add(image)
    inside = slice(-frame.y, height - frame.y), slice(-frame.x, width - frame.x)
    writable = np.require(image, requirements="W")  # torch warns of others
    padded[:, *inside] = model.normalisation.apply(writable, accumulator.result()).to(device)
    weight = gaussian_weight(model.window_px).to(device)
    sums = torch.zeros((len(ensemble), model.num_classes, frame.height, frame.width), device=device)
    weights = torch.zeros((frame.height, frame.width), device=device)
    corners = [(y - frame.y, x - frame.x) for y in plan.ys for x in plan.xs]
    size = ensemble.batch_size
    for start in range(0, len(corners), size):
        places = [
            (slice(y, y + plan.window_height), slice(x, x + plan.window_width))
            for y, x in corners[start : start + size]
        ]
        for part, logits in ensemble.logits_in_parts(torch.stack([padded[:, *place] for place in places])):
            for position, place in enumerate(places[part]):
                sums[:, :, *place] += logits[:, position] * weight
                weights[place] += weight
    return (sums / weights)[:, :, *inside].softmax(1)
