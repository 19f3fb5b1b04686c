"""Label maps on their way from and to the page: greyscale PNG of label values in, deflated bytes out."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from PIL import Image

from uga.review.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    UInt8 = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8sI4sIIBBBBB")
_EIGHT_BITS, _GREYSCALE = 8, 0
_MODE = "L"
"""What Pillow calls it."""
_SLACK_BYTES = 1 << 14
_PNG_LEVEL = 6
_FAST = 1


def largest_upload(size_px: int) -> int:
    """Bytes beyond which no label map of the page can be: its pixels, stored without compression, and some slack."""
    return size_px * (size_px + 1) + _SLACK_BYTES


def decode_upload(data: bytes, size_px: int, values: Collection[int]) -> UInt8:
    """The label map that the page has sent; the header is checked before a pixel is decoded.

    Args:
        data: An 8-bit greyscale PNG of ``size_px`` x ``size_px`` label values.
        size_px: Side of the patch.
        values: The values allowed.

    Raises:
        RefusedError: anything else.
    """
    if len(data) < _HEADER.size or not data.startswith(_SIGNATURE):
        raise _bad("it is no PNG")
    _, _, kind, width, height, depth, colour, _, _, interlace = _HEADER.unpack_from(data)
    if kind != b"IHDR" or (width, height) != (size_px, size_px):
        raise _bad(f"it is not {size_px} x {size_px} px")
    if (depth, colour, interlace) != (_EIGHT_BITS, _GREYSCALE, 0):
        raise _bad("it is not 8-bit greyscale")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if (image.size, image.mode) != ((size_px, size_px), _MODE):
                raise _bad("it has two headers")
            labels = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _bad("it is damaged") from error
    unknown = sorted(set(np.unique(labels).tolist()) - set(values))
    if unknown:
        raise _bad(f"the value {unknown[0]} is no label")
    return labels


def encode_png(labels: UInt8) -> bytes:
    """A label map (h, w) as it is kept: greyscale PNG of label values."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(labels), _PNG_LEVEL))


def deflate(values: UInt8) -> bytes:
    """A map as the page gets it, row by row, in zlib's format: a browser's own PNG decoder may alter pixels."""
    return zlib.compress(np.ascontiguousarray(values).tobytes(), _FAST)


def labels_sha256(labels: UInt8) -> str:
    """Hex SHA-256 of the labels' bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()


def _bad(why: str) -> RefusedError:
    return RefusedError(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad-label-map", f"The label map was not saved, as {why}; reload the page."
    )
