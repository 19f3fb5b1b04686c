"""Slides spread over processes: the files of one process after the other, failures told, nothing done twice."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from slide_files import write_tiff

from uga.cohort import run_cohort
from uga.errors import ExitCode, UserError
from uga.inputs import find_slides
from uga.model.arithmetic import REFERENCE
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.options import RunOptions
from uga.pipeline import Pipeline
from uga.recipe import Recipe
from uga.spreading import Worker, run_spread, workers_on

CPU = torch.device("cpu")
OPTIONS = RunOptions(mpp=1.0, patch_px=64, top=3, engine="torch", precision="fp32")


def pixels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.full((150, 200, 3), 244, np.uint8)
    picture[30:120, 40:160] = rng.integers(90, 200, (90, 120, 1), np.uint8) // np.array([1, 2, 1], np.uint8)
    return picture


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for seed in range(4):
        write_tiff(folder / f"slide{seed}.tif", pixels(seed))
    (folder / "broken.svs").write_bytes(b"no slide")
    return folder


def hashes(output: Path) -> dict[str, str]:
    """What does not carry a time."""
    names = ("*.tif", "*.csv", "*.png", "*.geojson", "ranked-patches.json", "failures.json")
    files = sorted(path for name in names for path in output.rglob(name))
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_processes_write_what_one_does(tmp_path: Path, slides: Path, tiny_model: Path, caplog) -> None:
    model, found = load_model(tiny_model), find_slides(slides)
    torch.set_num_threads(1)
    alone = run_cohort(found, tmp_path / "alone", Pipeline(Ensemble(model, device=CPU), OPTIONS))
    recipe = Recipe(model, model.folds, OPTIONS)
    workers = [Worker("cpu", (REFERENCE,), threads=1)] * 2
    spread = run_spread(found, tmp_path / "spread", recipe, workers)
    assert alone == spread == ExitCode.SLIDE_FAILED
    assert hashes(tmp_path / "spread") == hashes(tmp_path / "alone")
    failures = json.loads((tmp_path / "spread" / "failures.json").read_text())["failures"]
    assert [failure["slide"] for failure in failures] == ["broken"]
    assert (tmp_path / "spread" / "report.html").is_file()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "spread").rglob("manifest.json")}
    assert len(before) == 4
    with caplog.at_level(logging.INFO, "uga"):
        run_spread(found, tmp_path / "spread", recipe, workers)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_process_that_dies_is_told_with_a_remedy(tmp_path: Path, slides: Path, tiny_model: Path) -> None:
    model = load_model(tiny_model)
    weights = model.weights_file(0)
    original = weights.read_bytes()
    try:
        weights.write_bytes(b"altered")
        with pytest.raises(UserError, match="altered"):
            run_spread(
                find_slides(slides),
                tmp_path / "out",
                Recipe(model, model.folds, OPTIONS),
                workers_on(("cpu",), (REFERENCE,), parallel=2),
            )
    finally:
        weights.write_bytes(original)


def test_workers_share_a_cpu_but_not_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    choices = (REFERENCE,)
    assert workers_on(("cpu",), choices, parallel=3) == [Worker("cpu", choices, 2)] * 3
    assert workers_on(("cpu",), choices, parallel=1) == [Worker("cpu", choices)]
    gpus = workers_on(("cuda:0", "cuda:1"), choices, parallel=1)
    assert [(worker.device, worker.threads) for worker in gpus] == [("cuda:0", None), ("cuda:1", None)]
