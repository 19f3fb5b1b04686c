"""Small image files for the slide tests, written in the test itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

RESOLUTION = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}  # 0.5 um/px


def real_data() -> Path:
    """The shared data folder, or skip."""
    named = os.environ.get("UGA_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real slides: set UGA_TEST_DATA")
    return folder


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_tiff(path, pixels, **options):
    """One-level RGB TIFF of 0.5 um/px; tiled 64 with deflate unless told otherwise."""
    arguments = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", **RESOLUTION, **options}
    tifffile.imwrite(path, pixels, metadata=None, **arguments)
    return path


def halved(pixels, factor):
    """Mean over factor x factor blocks, sizes rounded down."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def write_pyramid(path, levels, *, subifds=False, **options):
    """Page-per-level (or SubIFD) pyramid of 0.5 um/px."""
    arguments = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", "metadata": None, **options}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], **RESOLUTION, **arguments, subifds=len(levels) - 1 if subifds else None)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **arguments)
    return path
