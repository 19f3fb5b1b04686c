"""Only an 8-bit greyscale PNG of the patch's size with known labels gets in."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from review_helpers import SIZE, corrected, png, predicted

from uga.review.labelmap import decode_upload, deflate, encode_png, largest_upload
from uga.review.refused import RefusedError

VALUES = {0, 1, 2, 255}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width, height, *, depth=8, colour=0, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def raw_png(width, height, *, rows=None, second=b"", **changes):
    data = b"".join(b"\0" + bytes(row) for row in corrected()) if rows is None else rows
    return (
        b"\x89PNG\r\n\x1a\n"
        + header(width, height, **changes)
        + second
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@settings(max_examples=50)
@given(hnp.arrays(np.uint8, (9, 9), elements=st.sampled_from(sorted(VALUES))))
def test_any_label_map_survives(labels):
    np.testing.assert_array_equal(decode_upload(encode_png(labels), 9, VALUES), labels)
    np.testing.assert_array_equal(np.frombuffer(zlib.decompress(deflate(labels)), np.uint8).reshape(9, 9), labels)


def test_the_page_s_own_encoding():
    """Rows without a filter, as png.js writes them."""
    np.testing.assert_array_equal(decode_upload(raw_png(SIZE, SIZE), SIZE, VALUES), corrected())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is no PNG"),
        (b"GIF89a" + bytes(40), "it is no PNG"),
        (b"\x89PNG\r\n\x1a\n", "it is no PNG"),
        (png(predicted()[:-1]), "it is not 64 x 64 px"),
        (png(np.zeros((2 * SIZE, 2 * SIZE), np.uint8)), "it is not 64 x 64 px"),
        (raw_png(1 << 30, 1 << 30), "it is not 64 x 64 px"),
        (png(predicted().astype(np.uint16)), "it is not 8-bit greyscale"),
        (png(predicted(), "RGB"), "it is not 8-bit greyscale"),
        (png(predicted(), "RGBA"), "it is not 8-bit greyscale"),
        (png(predicted(), "LA"), "it is not 8-bit greyscale"),
        (png(predicted(), "P"), "it is not 8-bit greyscale"),
        (png(predicted(), "1"), "it is not 8-bit greyscale"),
        (raw_png(SIZE, SIZE, interlace=1), "it is not 8-bit greyscale"),
        (png(predicted())[:-40], "it is damaged"),
        (raw_png(SIZE, SIZE, rows=b"\0" * 100), "it is damaged"),
        (raw_png(SIZE, SIZE, second=header(32, 32)), "it has two headers"),
        (raw_png(SIZE, SIZE, second=header(5000, 5000)), "it has two headers"),
        (raw_png(SIZE, SIZE, second=header(SIZE, SIZE, colour=3)), "it has two headers"),
        (raw_png(SIZE, SIZE, second=header(SIZE, SIZE, depth=1)), "it has two headers"),
        (raw_png(SIZE, SIZE, second=header(SIZE, SIZE, depth=16)), "it has two headers"),
        (png(predicted())[:60] + b"????" + png(predicted())[64:], "it is damaged"),
        (png(np.where(predicted() == 2, 3, predicted()).astype(np.uint8)), "the value 3 is no label"),
        (png(np.full((SIZE, SIZE), 254, np.uint8)), "the value 254 is no label"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data, why):
    with pytest.raises(RefusedError, match=f"was not saved, as {why}; reload") as refused:
        decode_upload(data, SIZE, VALUES)
    assert (refused.value.status, refused.value.code) == (422, "bad-label-map")


def test_a_bomb_is_not_decompressed(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(RefusedError):
        decode_upload(raw_png(1 << 16, 1 << 16), SIZE, VALUES)


def test_the_limit_leaves_room_for_a_map_that_cannot_be_compressed():
    noise = np.random.default_rng(1).choice(sorted(VALUES), (SIZE, SIZE)).astype(np.uint8)
    stored = zlib.compress(b"".join(b"\0" + bytes(row) for row in noise), 0)
    assert len(stored) + 100 < largest_upload(SIZE) < SIZE * SIZE * 8
