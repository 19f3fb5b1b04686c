"""Five virtual centres: how each stains, scans and compresses the same tissue."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Centre:
    """Stain and scanner of one laboratory.

    Attributes:
        name: for people.
        haematoxylin: optical density per unit of haematoxylin in R, G, B (base 10).
        eosin: the same of eosin.
        white: RGB of empty glass, 0 to 255.
        contrast: exponent on the transmittance (scanner gamma); above 1 is darker.
        saturation: 1 leaves the colours alone.
        blur_um: sigma of the optics.
        noise: relative standard deviation of the stain, pixel by pixel.
        jpeg_quality: of the level-0 tiles.
        spacing_um: level-0 pixel size.

    """

    name: str
    haematoxylin: Rgb
    eosin: Rgb
    white: Rgb
    contrast: float
    saturation: float
    blur_um: float
    noise: float
    jpeg_quality: int
    spacing_um: float

    def develop(self, haematoxylin: NDArray[np.float32], eosin: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the transmitted light by Beer and Lambert's law.

        Args:
            haematoxylin: concentration (h, w).
            eosin: concentration (h, w).

        Returns:
            RGB (h, w, 3) as float32, 0 to 255, neither blurred nor rounded.

        """
        rgb = np.empty((*haematoxylin.shape, 3), dtype=np.float32)
        scale = -np.log(10.0) * self.contrast
        for channel in range(3):
            density = cv2.addWeighted(
                haematoxylin, scale * self.haematoxylin[channel], eosin, scale * self.eosin[channel], 0.0
            )
            rgb[..., channel] = cv2.exp(density) * np.float32(self.white[channel])
        if self.saturation != 1.0:
            grey = np.float32(1 - self.saturation) / 3
            mix = np.full((3, 3), grey, dtype=np.float32) + np.eye(3, dtype=np.float32) * np.float32(self.saturation)
            # Keep the glass as it is: only what differs from white is desaturated.
            white = np.asarray(self.white, dtype=np.float32)
            rgb = cv2.transform(rgb - white, mix) + white
        return rgb


def _stain(direction: Rgb, strength: float) -> Rgb:
    red, green, blue = direction
    norm = (red**2 + green**2 + blue**2) ** 0.5
    return strength * red / norm, strength * green / norm, strength * blue / norm


CENTRES: Mapping[int, Centre] = MappingProxyType(
    {
        1: Centre(
            name="purple and pink, sharp",
            haematoxylin=_stain((0.58, 0.71, 0.39), 1.0),
            eosin=_stain((0.13, 0.82, 0.52), 0.62),
            white=(244.0, 243.0, 244.0),
            contrast=1.0,
            saturation=1.0,
            blur_um=0.25,
            noise=0.05,
            jpeg_quality=85,
            spacing_um=0.5,
        ),
        2: Centre(
            name="pale lilac",
            haematoxylin=_stain((0.62, 0.68, 0.38), 0.62),
            eosin=_stain((0.30, 0.84, 0.40), 0.36),
            white=(246.0, 243.0, 249.0),
            contrast=1.0,
            saturation=0.9,
            blur_um=0.3,
            noise=0.05,
            jpeg_quality=80,
            spacing_um=0.25,
        ),
        3: Centre(
            name="dark magenta",
            haematoxylin=_stain((0.36, 0.87, 0.33), 1.28),
            eosin=_stain((0.14, 0.94, 0.31), 1.12),
            white=(233.0, 216.0, 236.0),
            contrast=1.1,
            saturation=1.0,
            blur_um=0.45,
            noise=0.07,
            jpeg_quality=70,
            spacing_um=0.499,
        ),
        4: Centre(
            name="eosin-heavy, brownish",
            haematoxylin=_stain((0.50, 0.70, 0.52), 0.78),
            eosin=_stain((0.14, 0.73, 0.66), 0.98),
            white=(247.0, 240.0, 226.0),
            contrast=1.0,
            saturation=0.95,
            blur_um=0.3,
            noise=0.05,
            jpeg_quality=80,
            spacing_um=0.25,
        ),
        5: Centre(
            name="bluish and blurred",
            haematoxylin=_stain((0.70, 0.64, 0.32), 0.92),
            eosin=_stain((0.34, 0.84, 0.36), 0.46),
            white=(226.0, 233.0, 242.0),
            contrast=1.0,
            saturation=0.95,
            blur_um=0.9,
            noise=0.08,
            jpeg_quality=50,
            spacing_um=0.5,
        ),
    }
)
