"""What the encoder of one fold makes of a patch: a vector in which patches that look alike to the network are near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uga.geometry import Grid
from uga.model.network import load_network
from uga.model.normalisation import StatisticsAccumulator
from uga.windows import WindowPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from uga.model.folder import Model
    from uga.ranking import Candidate
    from uga.slide import Slide


class PatchEncoder:
    """The encoder of the first fold of a model.

    Args:
        model: A verified model.
        device: Where to compute.

    Raises:
        ModelError: the weights do not fit.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._model = model
        self._device = device
        network: Any = load_network(model.plan, model.weights_file(model.folds[0]), device)
        self._encoder = network.encoder  # of nnU-Net's U-Nets: gives the features of every stage

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features of the bottleneck, averaged over the patch.

        Args:
            image: RGB uint8 (h, w, 3) at the model's spacing; normalised as nnU-Net does a training case.

        Returns:
            float32 (d,), d being the channels of the encoder's last stage.
        """
        height, width = image.shape[:2]
        grid = Grid(self._model.spacing_um, 1.0, 1.0, width, height)
        plan = WindowPlan.over(grid, self._model.window_px, 0.0)
        statistics = StatisticsAccumulator()
        statistics.add(image)
        normalised = self._model.normalisation.apply(torch.from_numpy(np.array(image)[None]), statistics.result())[0]
        frame = torch.zeros((3, plan.frame.height, plan.frame.width))
        top, left = -plan.frame.y, -plan.frame.x
        frame[:, top : top + height, left : left + width] = normalised
        windows = [self._window(frame, y + top, x + left) for y in plan.ys for x in plan.xs]
        pooled = [self._encoder(window)[-1].mean(dim=(0, 2, 3)) for window in windows]
        features: NDArray[np.float32] = torch.stack(pooled).mean(0).float().cpu().numpy()
        return features

    def _window(self, frame: torch.Tensor, y: int, x: int) -> torch.Tensor:
        height, width = self._model.window_px
        return frame[None, :, y : y + height, x : x + width].to(self._device)


def features_of(
    candidates: Sequence[Candidate],
    encoder: PatchEncoder,
    open_slide: Callable[[str], AbstractContextManager[tuple[Slide, Grid]]],
) -> NDArray[np.float32]:
    """The features of patches, slide by slide.

    Args:
        candidates: The patches.
        encoder: What to make of them.
        open_slide: Opens a slide by its id; gives it with its working grid.

    Returns:
        float32 (n, d), in the order of the candidates.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for slide_id in sorted({candidate.slide_id for candidate in candidates}):
        with open_slide(slide_id) as (slide, grid):
            for index, candidate in enumerate(candidates):
                if candidate.slide_id == slide_id:
                    found[index] = encoder.encode(slide.read(grid, candidate.region))
    return np.stack([found[index] for index in range(len(candidates))])
