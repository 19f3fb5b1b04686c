"""Stain jitter in HED space: haematoxylin, eosin and residual scaled and shifted at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Ruifrok and Johnston 2001, as in scikit-image's rgb_from_hed: optical density of R, G, B for H, E, D.
_RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_SMALLEST = 1e-6


class HedJitter(ImageOnlyTransform):  # type: ignore[misc]
    """``s' = s (1 + a) + b`` for each stain, a and b uniform in +-``width``, on RGB in 0..1.

    The stain concentrations are scaled as scikit-image's (optical density over ``-log(1e-6)``), so a width of 0.05 is
    the ``hed005`` of the published pathology trainers.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self._width = width
        self._to_rgb = torch.tensor(_RGB_FROM_HED, dtype=torch.float32)
        self._to_hed = torch.linalg.inv(self._to_rgb)
        self._scale = -torch.log(torch.tensor(_SMALLEST))

    def get_parameters(self, **_: Any) -> dict[str, torch.Tensor]:
        """Three factors and three offsets, drawn from torch's global generator."""
        draws = (torch.rand(2, 3) * 2 - 1) * self._width
        return {"factor": 1 + draws[0], "offset": draws[1]}

    def _apply_to_image(self, img: torch.Tensor, **params: torch.Tensor) -> torch.Tensor:
        """RGB (3, height, width) float32 in 0..1, jittered, same range."""
        shape = img.shape
        density = -torch.log(img.reshape(3, -1).clamp_min(_SMALLEST)) / self._scale
        stains = self._to_hed.T @ density
        stains = stains * params["factor"][:, None] + params["offset"][:, None]
        jittered = torch.exp(-(self._to_rgb.T @ stains) * self._scale)
        return jittered.clamp(0, 1).reshape(shape)


def insert_hed_jitter(composed: Any, width: float, normalisation: Sequence[str]) -> None:
    """Put stain jitter right after the spatial transform, where the image is still plain RGB / 255.

    Raises:
        UserError: the images are normalised otherwise, so that stains are no longer defined.
    """
    if set(normalisation) != {"RGBTo01Normalization"}:
        raise UserError(f"hed_jitter needs RGBTo01Normalization, not {normalisation[0]}; set one of the two otherwise.")
    position = next(i for i, each in enumerate(composed.transforms) if isinstance(each, SpatialTransform)) + 1
    composed.transforms.insert(position, HedJitter(width))
