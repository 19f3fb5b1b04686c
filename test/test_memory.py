"""Memory of inference: bounded and flat in the height of a very large slide, and nothing kept from slide to slide."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from uga.memory import lasting
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


def test_large_arrays_lie_outside_the_heap_for_openvino_alone() -> None:
    code = """
import ctypes
from pathlib import Path
import numpy as np
import torch
from uga.memory import configure_heap

configure_heap()

from uga.model.arithmetic import REFERENCE, Arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.training.folds import Compute

class Figures(ctypes.Structure):
    _fields_ = [(f"n{number}", ctypes.c_size_t) for number in range(10)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Figures

def is_apart(mib):
    before = mallinfo().n4  # bytes that are mapped by themselves
    array = np.empty(mib << 20, np.uint8)  # larger than holes in the heap
    return mallinfo().n4 - before >= array.nbytes

model, cpu = load_model(Path("weights/demo")), torch.device("cpu")
openvino = Arithmetic("openvino", "fp32")
for _ in range(2):
    ensemble = Ensemble(model, device=cpu, choices=(openvino,))
    assert is_apart(24)
    ensemble = Ensemble(model, device=cpu, choices=(REFERENCE,))
    assert not is_apart(24)
    ensemble._take(openvino)
    assert is_apart(24)
    Compute(cpu, 1).apply()
    assert not is_apart(24)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_lasts_is_not_looked_through_and_what_comes_later_is() -> None:
    code = """
import gc, weakref
from uga.memory import lasting

class Loop:
    def __init__(self):
        self.itself = self

with lasting():
    assert not gc.isenabled()
    kept = Loop()
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 0
gone = weakref.ref(Loop())
with lasting():
    pass
assert gc.get_freeze_count() <= frozen
gc.collect()
assert gone() is None
assert kept.itself is kept
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_collector_is_back_after_an_import_that_fails() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError), lasting():
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


@pytest.mark.slow
def test_peak_memory_is_bounded_and_flat_in_height(tmp_path: Path) -> None:
    tall = peak_memory(tmp_path / "tall", 15000)
    half = peak_memory(tmp_path / "half", 7500)
    assert tall < 4 * GIB
    assert tall <= 1.1 * half


@pytest.mark.slow
def test_ten_slides_in_one_run_leak_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(10):
        spec = SlideSpec(seed=number, centre_id=2, lesion=LesionClass.MICRO, width_um=1200, height_um=1200, node_um=900)
        write_virtual_slide(spec, tmp_path / "in" / f"{number}.tif")
    command = [sys.executable, "-u", ROOT / "process.py", "--input", tmp_path / "in", "--output", tmp_path / "out",
               "--model", ROOT / "weights" / "demo", "--patch", "256"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        resident = [resident_kib(process.pid) for line in process.stdout if line.rstrip().endswith(": done")]
    assert process.returncode == 0
    assert len(resident) == 10
    assert resident[9] <= 1.05 * resident[1], resident


def resident_kib(pid: int) -> int:
    """Memory of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
