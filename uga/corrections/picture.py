"""PNG files of packages: the picture, and label maps as our export or a paint program saves them."""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from uga.errors import UserError
from uga.output.colours import label_colours
from uga.output.schema import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.output.colours import Colour

    UInt8 = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 26
_OPAQUE = 255


def read_rgb(path: Path, width: int, height: int) -> UInt8:
    """A picture as RGB (height, width, 3), uint8.

    Raises:
        UserError: no such PNG, or of another size.
    """
    return _decode(path, width, height, "RGB")


def label_palette(labels: Mapping[str, int], tumour_label: str) -> dict[int, Colour]:
    """The colour of every label value in label maps for paint programs: background black, not judged white.

    Where there are so many labels that colours repeat, those labels are painted as grey of their value.
    """
    colours = label_colours(labels, tumour_label)
    uses = Counter(colours.values())
    palette = {labels[name]: colour for name, colour in colours.items() if uses[colour] == 1}
    return {value: palette.get(value, (value, value, value)) for value in (*labels.values(), NOT_JUDGED)}


def read_label_map(path: Path, width: int, height: int, labels: Mapping[str, int], tumour_label: str) -> UInt8:
    """A label map whose pixels are greys of the label values, or exactly the colours of `label_palette`.

    Palette, greyscale, RGB and opaque RGBA files are the same: what a pixel looks like decides.

    Args:
        path: The PNG.
        width: Of the patch.
        height: Of the patch.
        labels: The model's label names and values.
        tumour_label: Which of them is tumour.

    Returns:
        Label values uint8 (height, width), `NOT_JUDGED` where white.

    Raises:
        UserError: not a PNG, of another size, of 16 bits, transparent, or with a colour that is no label.
    """
    palette = label_palette(labels, tumour_label)
    pixels = _decode(path, width, height)
    if pixels.ndim == 2:  # greys: the usual case, and much faster
        if set(np.unique(pixels).tolist()) <= palette.keys():
            return pixels
        pixels = np.dstack([pixels, pixels, pixels, np.full_like(pixels, _OPAQUE)])
    see_through = pixels[..., 3] != _OPAQUE
    if see_through.any():
        x, y = _first(see_through)
        raise UserError(
            f"{path} is transparent at x = {x}, y = {y}; fill what shows through with black for background or "
            "white for not judged, and save it without transparency."
        )
    values = {_code((value, value, value)): value for value in palette}
    values |= {_code(colour): value for value, colour in palette.items()}
    codes = pixels[..., :3].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, inverse = np.unique(codes, return_inverse=True)
    known = np.array([code in values for code in found.tolist()])
    if not known.all():
        place = _first(~known[inverse].reshape(codes.shape))
        raise UserError(_unknown(path, pixels[place[1], place[0], :3], place, labels, palette))
    table = np.array([values[code] for code in found.tolist()], np.uint8)
    return table[inverse].reshape(codes.shape)


def _decode(path: Path, width: int, height: int, mode: str | None = None) -> UInt8:
    """The pixels, uint8; the header is checked before one is decoded.

    With a mode as that has them; else greyscale (height, width) as it is, everything else as RGBA (height, width, 4).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            if not head.startswith(_SIGNATURE) or len(head) < _HEADER_BYTES:
                raise UserError(f"{path} is not a PNG, whatever its name; save it as PNG, never as JPEG.")
            columns, rows, depth = struct.unpack(">IIB", head[16:25])
            if (columns, rows) != (width, height):
                raise UserError(
                    f"{path} is {columns} x {rows} px but the patch is {width} x {height} px; save it at the full "
                    "size of image.png, neither scaled nor cropped."
                )
            if depth > 8:
                raise UserError(f"{path} has {depth} bits per channel; save it with 8.")
            file.seek(0)
            with Image.open(file, formats=["PNG"]) as image:
                return np.array(image if mode is None and _is_plain_grey(image) else image.convert(mode or "RGBA"))
    except OSError as error:
        reason = error.strerror or "the file is damaged"
        raise UserError(f"{path} cannot be read ({reason}); save it again.") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is far larger than any patch; export the patch again.") from error
    except (ValueError, SyntaxError) as error:  # what Pillow makes of a damaged chunk
        raise UserError(f"{path} cannot be read (the file is damaged); save it again.") from error


def _is_plain_grey(image: Image.Image) -> bool:
    return image.mode == "L" and "transparency" not in image.info


def _unknown(
    path: Path, colour: UInt8, place: tuple[int, int], labels: Mapping[str, int], palette: Mapping[int, Colour]
) -> str:
    red, green, blue = colour.tolist()
    what = f"the value {red}" if red == green == blue else f"the colour ({red}, {green}, {blue})"
    names = {value: name for name, value in labels.items()} | {NOT_JUDGED: "not judged"}
    known = ", ".join(f"{names[value]} {rgb} or {value}" for value, rgb in palette.items())
    return (
        f"{path} has {what} at x = {place[0]}, y = {place[1]}, which stands for no label ({known}); paint with a "
        "hard pencil, with anti-aliasing and smoothing off, in exactly these colours."
    )


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _first(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Place of the first True, x then y."""
    row, column = np.unravel_index(int(mask.argmax()), mask.shape)
    return int(column), int(row)
