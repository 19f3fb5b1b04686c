"""Peak memory of inference on a very large virtual slide: bounded, and flat in the slide's height."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uga.output.schema import Manifest
from uga.virtual.slide import write_virtual_slide
from uga.virtual.spec import LesionClass, SlideSpec

ROOT = Path(__file__).parents[1]
GIB = 1 << 30


def peak_memory(folder: Path, height_um: float) -> int:
    """Runs the shipped ensemble on a slide 60,000 px wide at 0.25 um/px; returns the peak in bytes."""
    spec = SlideSpec(
        seed=1, centre_id=2, lesion=LesionClass.MICRO, width_um=15000, height_um=height_um, node_um=1500, node_count=1
    )
    (folder / "in").mkdir(parents=True)
    write_virtual_slide(spec, folder / "in" / "large.tif")
    subprocess.run(
        [sys.executable, ROOT / "process.py", "--input", folder / "in", "--output", folder / "out",
         "--model", ROOT / "weights" / "demo"],
        check=True,
    )  # fmt: skip
    manifest = Manifest.model_validate_json((folder / "out" / "manifest.json").read_bytes())
    assert (manifest.input.width, manifest.input.height) == (60000, round(height_um * 4))
    return manifest.peak_memory_bytes


@pytest.mark.slow
def test_peak_memory_is_bounded_and_flat_in_height(tmp_path: Path) -> None:
    tall = peak_memory(tmp_path / "tall", 15000)
    half = peak_memory(tmp_path / "half", 7500)
    assert tall < 4 * GIB
    assert tall <= 1.1 * half
