"""TIFF image file directories: the few tag types a tiled pyramid needs, classic or BigTIFF, little-endian."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_BYTES = 16
_MAX_DENOMINATOR = 10_000


@dataclass(frozen=True, slots=True)
class Tag:
    """One directory entry: numeric code, TIFF type, number of values and their little-endian bytes."""

    code: int
    type: int
    count: int
    data: bytes


def byte(code: int, value: int) -> Tag:
    """Type BYTE (1)."""
    return Tag(code, 1, 1, struct.pack("<B", value))


def ascii_text(code: int, text: str) -> Tag:
    """Type ASCII (2), NUL-terminated; text outside ASCII is written as UTF-8, as OpenSlide and tifffile read it."""
    data = text.encode() + b"\0"
    return Tag(code, 2, len(data), data)


def short(code: int, *values: int) -> Tag:
    """Type SHORT (3)."""
    return Tag(code, 3, len(values), struct.pack(f"<{len(values)}H", *values))


def long(code: int, *values: int) -> Tag:
    """Type LONG (4)."""
    return Tag(code, 4, len(values), struct.pack(f"<{len(values)}I", *values))


def long8(code: int, *values: int) -> Tag:
    """Type LONG8 (16), BigTIFF only."""
    return Tag(code, 16, len(values), struct.pack(f"<{len(values)}Q", *values))


def rational(code: int, *values: float) -> Tag:
    """Type RATIONAL (5)."""
    fractions = [Fraction(value).limit_denominator(_MAX_DENOMINATOR) for value in values]
    return Tag(code, 5, len(values), b"".join(struct.pack("<II", f.numerator, f.denominator) for f in fractions))


def header(first_ifd: int, *, big: bool) -> bytes:
    """The file header, `HEADER_BYTES` long in both formats."""
    if big:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first_ifd)
    return struct.pack("<2sHIQ", b"II", 42, first_ifd, 0)


def directory(tags: Sequence[Tag], *, position: int, next_ifd: int, big: bool) -> tuple[bytes, int]:
    """Serialise one directory, its long values first.

    Args:
        tags: The entries in any order.
        position: File offset at which the bytes will stand; even.
        next_ifd: File offset of the following directory, 0 for none.
        big: BigTIFF layout.

    Returns:
        The bytes and the file offset of the directory within the file.
    """
    offset_format, inline_bytes = ("<Q", 8) if big else ("<I", 4)
    values = bytearray()
    entries = bytearray()
    for tag in sorted(tags, key=lambda tag: tag.code):
        if len(tag.data) <= inline_bytes:
            value = tag.data.ljust(inline_bytes, b"\0")
        else:
            value = struct.pack(offset_format, position + len(values))
            values += tag.data + b"\0" * (-len(tag.data) % 8)
        entries += struct.pack("<HHQ" if big else "<HHI", tag.code, tag.type, tag.count) + value
    count = struct.pack("<Q" if big else "<H", len(tags))
    return bytes(values + count + entries) + struct.pack(offset_format, next_ifd), position + len(values)
