"""Reads regions of the label and uncertainty maps back from their TIFF pyramids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import numpy as np
import openslide

from uga.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.geometry import GridRegion


_LABELS = "UGA segmentation; labels "


def label_description(labels: Mapping[str, int]) -> str:
    """What a label map says of itself: each value with its name."""
    return _LABELS + ", ".join(f"{value}={name}" for name, value in labels.items())


class MapReader:
    """A written map; a context manager.

    Raises:
        SlideError: the map is damaged; when it is opened or when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._image = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise self._damaged(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.close()

    @property
    def labels(self) -> dict[str, int]:
        """The labels of a label map, as it says; none of a map that does not say so."""
        description = self._image.properties.get(openslide.PROPERTY_NAME_COMMENT, "")
        if not description.startswith(_LABELS):
            return {}
        found = re.findall(r"(\d+)=(.*?)(?=, \d+=|$)", description.removeprefix(_LABELS))
        return {name: int(value) for value, name in found}

    def read(self, region: GridRegion) -> NDArray[np.uint8]:
        """Values of a region, uint8 (h, w); 0 where it overhangs the map."""
        try:
            pixels = self._image.read_region((region.x, region.y), 0, (region.width, region.height))
        except openslide.OpenSlideError as error:
            raise self._damaged(error) from error
        return np.ascontiguousarray(np.asarray(pixels)[..., 0])

    def _damaged(self, error: openslide.OpenSlideError) -> SlideError:
        return SlideError(f"The map {self._path} cannot be read ({error}); run the slide again.")
