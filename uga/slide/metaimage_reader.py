"""MetaImage (.mha, .mhd) through SimpleITK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name under which the field knows it

from uga.errors import SlideError
from uga.geometry import LEVEL0_CORNER, SpacingUm
from uga.slide.reader import fingerprint, on_white

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.slide.reader import Rgb

METAIMAGE_SUFFIXES = frozenset({".mha", ".mhd"})
_MAX_COMPRESSED_BYTES = 3 << 29
_HEADER_BYTES = 1 << 14


class MetaImage:
    """A two-dimensional MetaImage of any pixel type; safe to share between threads, holds no file open.

    Uncompressed pixels are read from disk region by region. Compressed ones can only be read as a whole, which is
    done once.

    Attributes:
        width, height: Size in pixels.
        channels: Values per pixel.
        spacing: Pixel size, or None where the file states none (SimpleITK then says 1 mm).
    """

    def __init__(self, path: Path) -> None:
        """Read the header of ``path``.

        Raises:
            SlideError: Not a MetaImage, not two-dimensional, cut off, or compressed and too large.
        """
        self._path = path
        header = self._reader()
        try:
            header.ReadImageInformation()
        except RuntimeError as error:
            raise SlideError(f"{path}: not a readable MetaImage file; export it again.") from error
        size: tuple[int, ...] = header.GetSize()
        if len(size) < 2 or any(length != 1 for length in size[2:]):
            raise SlideError(f"{path}: a volume of {size}, not a two-dimensional image; export one plane.")
        self._dimensions = len(size)
        self.width, self.height = size[:2]
        self.channels: int = header.GetNumberOfComponents()
        self.is_uint8 = header.GetPixelID() in (sitk.sitkUInt8, sitk.sitkVectorUInt8)
        spacing_mm = header.GetSpacing()[:2]
        self.spacing = None if spacing_mm == (1.0, 1.0) else SpacingUm(spacing_mm[0] * 1000, spacing_mm[1] * 1000)
        with path.open("rb") as file:
            fields = file.read(_HEADER_BYTES).split(b"ElementDataFile")[0].replace(b" ", b"").lower()
        self._whole: NDArray[np.generic] | None = None
        if b"compresseddata=true" in fields:
            # Above this, decoding alone would take the memory that a run may use.
            if self.width * self.height * self.channels > _MAX_COMPRESSED_BYTES:
                raise SlideError(f"{path}: too large for a compressed MetaImage file; export it as a pyramidal TIFF.")
            self._whole = self._execute(self._reader())
        elif self.is_uint8 and path.suffix.lower() == ".mha":
            missing = self.width * self.height * self.channels - path.stat().st_size
            if missing > 0:
                raise SlideError(f"{path}: the file is cut off ({missing} bytes missing); copy it again.")

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.generic]:
        """Pixels (height, width) or (height, width, channels) of a rectangle inside the image.

        Raises:
            SlideError: The pixels cannot be read.
        """
        if self._whole is not None:
            return self._whole[y : y + height, x : x + width]
        reader = self._reader()
        rest = self._dimensions - 2
        reader.SetExtractIndex([x, y] + [0] * rest)
        reader.SetExtractSize([width, height] + [1] * rest)
        return self._execute(reader)

    def _reader(self) -> sitk.ImageFileReader:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self._path))
        reader.SetImageIO("MetaImageIO")
        return reader

    def _execute(self, reader: sitk.ImageFileReader) -> NDArray[np.generic]:
        try:
            pixels: NDArray[np.generic] = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise SlideError(f"{self._path}: the image is damaged or cut off; copy or export it again.") from error
        return pixels[0] if self._dimensions == 3 else pixels


class MetaImageReader:
    """An RGB(A) MetaImage file as a one-level slide."""

    name = "simpleitk"

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            SlideError: Not a readable 8-bit RGB or RGBA MetaImage.
        """
        self._image = MetaImage(path)
        if self._image.channels not in {3, 4} or not self._image.is_uint8:
            raise SlideError(f"{path}: not an 8-bit RGB image; export the H&E slide in colour.")
        self.level_sizes = ((self._image.width, self._image.height),)
        self.spacing = self._image.spacing
        self.bounds = LEVEL0_CORNER
        self.quickhash = fingerprint(path)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:  # noqa: ARG002 - one level only
        """See `Reader.read`."""
        pixels = np.asarray(self._image.read(x, y, width, height), np.uint8)
        return on_white(pixels) if self._image.channels == 4 else np.ascontiguousarray(pixels)

    def close(self) -> None:
        """See `Reader.close`; every read opens and closes the file itself."""
