"""SIGTERM in the middle of a slide, as a platform sends it when the time is over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slide_files import write_tiff
from test_process import ROOT, last_line, tissue_like

from uga.stopping import Stopped, stopping_on_signals


@pytest.mark.parametrize("stage", ["images/segmentation/a.tif.partial", "images/segmentation/a.tif"])
def test_sigterm_leaves_no_output(tmp_path: Path, tiny_model: Path, stage: str) -> None:
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "a.tif", tissue_like(1800, 1800))
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model, "--patch", 64]
    running = subprocess.Popen(
        [sys.executable, str(ROOT / "process.py"), *map(str, [*arguments, "--top", 1000, "--exclusion", "none"])],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / stage).exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(signal.SIGTERM)
    start = time.monotonic()
    _, errors = running.communicate()
    assert time.monotonic() - start < 5
    assert running.returncode == 128 + signal.SIGTERM, "the run ended before it could be stopped"
    assert "Stopped by SIGTERM" in last_line(errors)
    assert "Traceback" not in errors
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# Stands for a library that does not survive being taken apart.
LATE = """
import atexit, os, runpy, signal, sys
class Late:
    def __del__(self):
        signal.raise_signal(signal.SIGSEGV)
late = Late()
atexit.register(print, "registered")
"""


@pytest.mark.parametrize(
    "end",
    [
        "from uga.stopping import leave; leave(0)",
        "sys.argv = ['uga', '--help']; runpy.run_module('uga', run_name='__main__')",
        "sys.argv = ['process.py', '--help']; runpy.run_path('process.py', run_name='__main__')",
        "sys.argv = ['finetune.py', '--help']; runpy.run_path('finetune.py', run_name='__main__')",
    ],
)
def test_no_library_can_spoil_the_end_of_a_command(end: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LATE + end], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("registered\n")


def test_what_the_end_of_a_command_is_spared() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGSEGV, "registered\n")


def test_the_first_signal_raises_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, stopping_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_process_dies_of_sigterm_as_usual() -> None:
    """A trainer ends its workers with SIGTERM; they must neither clean up nor complain."""
    with stopping_on_signals():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        worker.start()
        time.sleep(0.2)
        worker.terminate()
        worker.join(5)
    assert worker.exitcode == -signal.SIGTERM
