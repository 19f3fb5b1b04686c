"""nnU-Net's intensity normalisations for RGB, streamed: statistics first, then any region of the slide.

nnU-Net normalises a *case*, the whole image. Here the case is the slide: statistics are gathered once from its
tissue and every window is normalised with them, so that a pixel's value never depends on the window that reads it.
Formulas: ``nnunetv2.preprocessing.normalization.default_normalization_schemes`` (2.8.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uga.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_EPSILON = 1e-8
_NO_RANGE = (0.0, 255.0)


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Mean, population standard deviation, minimum and maximum of each channel (red, green, blue), in 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    min: tuple[float, float, float]
    max: tuple[float, float, float]


@dataclass
class StatisticsAccumulator:
    """Gathers `ChannelStatistics` exactly: a 256-bin histogram per channel, whatever the order of the tiles."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), np.int64))

    def add(self, rgb: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> None:
        """Add the pixels of a tile, uint8 (h, w, 3); with a bool (h, w) ``mask``, only those where it is true."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected uint8 (h, w, 3), not {rgb.dtype} {rgb.shape}")
        pixels = rgb.reshape(-1, 3) if mask is None else rgb[mask]
        for channel in range(3):
            self.counts[channel] += np.bincount(pixels[:, channel], minlength=256)

    @property
    def pixels(self) -> int:
        """Number of pixels added so far."""
        return int(self.counts[0].sum())

    def result(self) -> ChannelStatistics:
        """The statistics of all pixels added.

        Raises:
            ValueError: no pixel was added.
        """
        if self.pixels == 0:
            raise ValueError("no pixel was added")
        values = np.arange(256, dtype=np.float64)
        mean = self.counts @ values / self.pixels
        variance = (self.counts * (values - mean[:, None]) ** 2).sum(axis=1) / self.pixels
        present = [np.flatnonzero(counts) for counts in self.counts]
        return ChannelStatistics(
            mean=_triple(mean),
            std=_triple(np.sqrt(variance)),
            min=_triple([levels[0] for levels in present]),
            max=_triple([levels[-1] for levels in present]),
        )


@dataclass(frozen=True, slots=True)
class _Affine:
    """``(clip(x, *limits) - offset) / scale``, the form all of nnU-Net's schemes have."""

    offset: float
    scale: float
    limits: tuple[float, float] = _NO_RANGE


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The normalisation a model was trained with, one nnU-Net scheme per channel."""

    schemes: tuple[str, str, str]
    intensities: tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]] = ({}, {}, {})
    """Per channel, the training data's intensity properties of ``plans.json``; only CTNormalization reads them."""

    @classmethod
    def from_plans(
        cls,
        schemes: Sequence[str],
        use_mask: Sequence[bool],
        intensities: Mapping[str, Mapping[str, float]],
        file: Path,
    ) -> Normalisation:
        """The normalisation that a ``plans.json`` names.

        Raises:
            ModelError: not three channels, an unknown scheme, or normalisation within a mask.
        """
        if len(schemes) != 3:
            raise ModelError(
                f"{file} has {len(schemes)} image channels, but UGA runs models of RGB images (3 channels)."
            )
        for scheme in schemes:
            if scheme not in _SCHEMES:
                known = ", ".join(sorted(_SCHEMES))
                raise ModelError(f"{file} names the unknown normalisation {scheme!r}; UGA knows {known}.")
        if any(use_mask):
            raise ModelError(
                f"{file} normalises within a nonzero mask, which slides do not have; set use_mask_for_norm."
            )
        per_channel = tuple(intensities.get(str(channel), {}) for channel in range(3))
        for scheme, properties in zip(schemes, per_channel, strict=True):
            lacking = [key for key in _CT_KEYS if key not in properties]
            if scheme == "CTNormalization" and lacking:
                raise ModelError(f"{file} lacks the intensity properties {', '.join(lacking)} that {scheme} needs.")
        first, second, third = per_channel
        return cls((schemes[0], schemes[1], schemes[2]), (first, second, third))

    @property
    def needs_statistics(self) -> bool:
        """Whether `apply` needs the statistics of the slide."""
        return any(scheme in _NEED_STATISTICS for scheme in self.schemes)

    def apply(self, rgb: NDArray[np.uint8] | torch.Tensor, statistics: ChannelStatistics | None = None) -> torch.Tensor:
        """Normalise uint8 (..., h, w, 3) images to a contiguous float32 (..., 3, h, w) tensor on the same device.

        Raises:
            ValueError: the normalisation needs statistics and got none.
        """
        if statistics is None and self.needs_statistics:
            raise ValueError(f"{self.schemes} needs the statistics of the slide")
        out = torch.as_tensor(rgb).movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
        for channel, scheme in enumerate(self.schemes):
            form = _SCHEMES[scheme](channel, statistics, self.intensities[channel])
            values = out[..., channel, :, :]
            if form.limits != _NO_RANGE:
                values.clamp_(*form.limits)
            values.sub_(form.offset).div_(form.scale)
        return out


def _zscore(channel: int, statistics: ChannelStatistics | None, _: Mapping[str, float]) -> _Affine:
    assert statistics is not None  # noqa: S101 - `apply` has checked it
    return _Affine(statistics.mean[channel], max(statistics.std[channel], _EPSILON))


def _rescale(channel: int, statistics: ChannelStatistics | None, _: Mapping[str, float]) -> _Affine:
    assert statistics is not None  # noqa: S101 - `apply` has checked it
    low, high = statistics.min[channel], statistics.max[channel]
    return _Affine(low, max(high - low, _EPSILON))


def _ct(_: int, __: ChannelStatistics | None, intensity: Mapping[str, float]) -> _Affine:
    limits = (float(intensity["percentile_00_5"]), float(intensity["percentile_99_5"]))
    return _Affine(float(intensity["mean"]), max(float(intensity["std"]), _EPSILON), limits)


_CT_KEYS = ("mean", "std", "percentile_00_5", "percentile_99_5")
_NEED_STATISTICS = frozenset({"ZScoreNormalization", "RescaleTo01Normalization"})
_SCHEMES: dict[str, Callable[[int, ChannelStatistics | None, Mapping[str, float]], _Affine]] = {
    "ZScoreNormalization": _zscore,
    "RGBTo01Normalization": lambda *_: _Affine(0.0, 255.0),
    "NoNormalization": lambda *_: _Affine(0.0, 1.0),
    "RescaleTo01Normalization": _rescale,
    "CTNormalization": _ct,
}


def _triple(values: Any) -> tuple[float, float, float]:  # noqa: ANN401 - any array-like of three numbers
    red, green, blue = (float(value) for value in values)
    return red, green, blue
