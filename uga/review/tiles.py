"""Deep-zoom tiles of the slides, for the tissue around a patch; a page without them shows the patch alone."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import openslide
from openslide.deepzoom import DeepZoomGenerator

from uga.errors import UgaError, UserError
from uga.inputs import find_slides
from uga.review.refused import not_found
from uga.slide.dicom import series_file
from uga.slide.reader import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from uga.output.schema import PatchRecord, SlideRecord

log = logging.getLogger(__name__)

TILE_PX, OVERLAP_PX = 254, 1
_JPEG_QUALITY = 85
_CACHE_BYTES = 64 << 20
_MOST_OPEN = 4
_STAMP_DIGITS = 12
_SQUARE = 1e-3
"""Share by which a slide's pixels may differ from squares: half a pixel at the edge of a patch."""


@dataclass
class SlideTiles:
    """Opens the slides of a queue when they are first looked at; safe to use from several threads."""

    files: Mapping[str, Path]
    _open: dict[SlideRecord, DeepZoomGenerator | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def below(cls, folder: Path | None, *, without: Iterable[Path] = ()) -> SlideTiles:
        """The slides below a folder, by the ids that a run gives them; none without a folder.

        Args:
            folder: The folder, or None.
            without: Folders below it that are not searched, such as those of results.

        Raises:
            UserError: there is no such folder, or no slide in it.
        """
        if folder is None:
            return cls({})
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; name the folder with the slides by --slides.")
        return cls({source.slide_id: source.path for source in find_slides(folder, without=without)})

    def source(self, record: PatchRecord) -> dict[str, object] | None:
        """What a viewer has to know of the tiles of a patch's slide; None if there are none to show.

        ``stamp`` tells slides apart in the addresses of tiles, which browsers keep.
        Slides of other readers than OpenSlide, and with pixels that are not square, are not shown.
        """
        if self._generator(record.slide) is None:
            return None
        slide = record.slide
        return {
            "width": slide.width,
            "height": slide.height,
            "tile_px": TILE_PX,
            "overlap_px": OVERLAP_PX,
            "stamp": slide.quickhash[:_STAMP_DIGITS],
        }

    def tile(self, slide: SlideRecord, level: int, column: int, row: int) -> bytes:
        """A tile as JPEG.

        Raises:
            RefusedError: there is no such tile, or the slide is damaged there.
        """
        generator = self._generator(slide)
        if generator is None:
            raise not_found("slide")
        try:
            picture = generator.get_tile(level, (column, row))
        except ValueError as error:
            raise not_found("tile") from error
        except openslide.OpenSlideError as error:
            log.warning("%s: damaged, so its patches are shown without the tissue around (%s)", slide.file, error)
            with self._lock:
                self._open[slide] = None
            raise not_found("tile") from error
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=_JPEG_QUALITY)
        return data.getvalue()

    def _generator(self, slide: SlideRecord) -> DeepZoomGenerator | None:
        path = self.files.get(slide.id)
        if path is None:
            return None
        with self._lock:
            if slide not in self._open:
                # What is dropped here is closed when the last thread that reads it lets it go.
                for other in [key for key, value in self._open.items() if value is not None][: 1 - _MOST_OPEN]:
                    del self._open[other]
                self._open[slide] = _open(path, slide)
            return self._open[slide]


def _open(path: Path, slide: SlideRecord) -> DeepZoomGenerator | None:
    if abs(slide.mpp_x / slide.mpp_y - 1) > _SQUARE:
        log.warning("%s: its pixels are not square, so its patches are shown without the tissue around", path.name)
        return None
    try:
        file = series_file(path) if path.is_dir() else path
        image = openslide.OpenSlide(file)
        quickhash = image.properties.get(openslide.PROPERTY_NAME_QUICKHASH1) or fingerprint(file)
    except (openslide.OpenSlideError, UgaError, OSError) as error:
        log.warning("%s: cannot be shown, so its patches are shown without the tissue around (%s)", path.name, error)
        return None
    if (quickhash, image.dimensions) != (slide.quickhash, (slide.width, slide.height)):
        log.warning("%s: not the slide that was processed, so it is not shown", path.name)
        return None
    image.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    return DeepZoomGenerator(image, tile_size=TILE_PX, overlap=OVERLAP_PX, limit_bounds=False)
