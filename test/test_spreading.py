"""Slides spread over processes: the files of one process after the other, failures told, nothing done twice."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from job_helpers import work_beside_a_killed_one, work_beside_a_sick_one
from slide_files import write_tiff

from uga import spreading
from uga.cohort import Outcome, open_run, run_cohort
from uga.errors import ExitCode, UserError
from uga.inputs import SlideInput, find_slides
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


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)  # a command that ran before has cut it off


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


@pytest.fixture
def spread(tmp_path: Path, slides: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """The exit code and the failures of a run on two workers whose work is this function."""

    def run(work, *devices: str) -> tuple[ExitCode, dict[str, str]]:
        monkeypatch.setattr(spreading, "_work", work)
        model = load_model(tiny_model)
        workers = [Worker(device, (REFERENCE,), threads=1) for device in devices or ("cpu", "cpu")]
        code = run_spread(find_slides(slides), tmp_path / "out", Recipe(model, model.folds, OPTIONS), workers)
        assert (tmp_path / "out" / "report.html").is_file()
        failures = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"]
        finished = {path.parent.name for path in (tmp_path / "out").rglob("manifest.json")}
        assert finished | {failure["slide"] for failure in failures} == {
            slide.slide_id for slide in find_slides(slides)
        }
        return code, {failure["slide"]: failure["error"] for failure in failures}

    return run


def test_a_killed_worker_costs_its_slide_and_the_others_go_on(spread) -> None:
    code, failures = spread(work_beside_a_killed_one)
    assert code == ExitCode.SLIDE_FAILED
    assert list(failures) == ["broken"]  # the first one taken
    assert "broken.svs: The process on cpu was killed (signal 9)" in failures["broken"]


def test_a_sick_worker_leaves_the_slides_to_the_others(spread) -> None:
    code, failures = spread(work_beside_a_sick_one)
    assert code == ExitCode.DEFECT
    assert len(failures) == 2
    assert all("a defect of UGA stopped this slide (RuntimeError)" in error for error in failures.values())


def test_a_full_gpu_takes_two_slides_and_no_more(tmp_path: Path, slides: Path, tiny_model: Path, monkeypatch) -> None:
    def lack_memory(*_: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(spreading, "Ensemble", lambda *_, device, **__: SimpleNamespace(device=device))
    monkeypatch.setattr(spreading, "Pipeline", lambda ensemble, _: SimpleNamespace(ensemble=ensemble, run=lack_memory))
    tasks, shared = open_run(find_slides(slides), tmp_path), spreading._Shared(tmp_path)
    spreading._work(Worker("cuda:0", (REFERENCE,)), 0, tasks, tiny_model, OPTIONS, shared)
    assert [shared.taker(number) for number in range(len(tasks))] == [0, 0, None, None, None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that cannot be used")
def test_a_worker_that_cannot_start_is_told_and_costs_nothing(spread, caplog) -> None:
    with caplog.at_level(logging.WARNING, "uga"):
        code, failures = spread(spreading._work, "cuda:0", "cpu")
    assert (code, list(failures)) == (ExitCode.SLIDE_FAILED, ["broken"])
    assert "The process on cuda:0" in caplog.text


def test_slides_that_nobody_has_taken_are_failures(tmp_path: Path, slides: Path) -> None:
    tasks = open_run(find_slides(slides), tmp_path)
    shared = spreading._Shared(tmp_path)
    assert shared.take(0, 1)
    assert not shared.take(0, 0)
    assert shared.take(1, 0)
    shared.report(0, Outcome(finished=(tasks[1].source.slide_id,)))
    outcome = spreading._gather(tasks, shared, [None, RuntimeError("The process on cpu: KeyError")])
    errors = [failure.error for failure in outcome.failures]
    assert (outcome.finished, outcome.code) == (("slide0",), ExitCode.DEFECT)
    assert errors[0] == "broken.svs: The process on cpu: KeyError"
    assert len(errors) == 4
    assert all("not begun" in error for error in errors[1:])


def test_a_run_without_any_worker_is_refused(tmp_path: Path, slides: Path, tiny_model: Path) -> None:
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
                workers_on(("cpu",), OPTIONS, parallel=2),
            )
    finally:
        weights.write_bytes(original)


@pytest.mark.parametrize(
    ("devices", "parallel", "count", "begun"),
    [
        (("cpu",), 3, 4, [("cpu", 2)] * 3),
        (("cpu",), 4, 2, [("cpu", 4)] * 2),  # nobody else needs the threads
        (("cpu",), 16, 9, [("cpu", 1)] * 9),
        (("cuda:0", "cuda:1"), 2, 2, [("cuda:0", None), ("cuda:1", None)]),
        (("cuda:0", "cuda:1"), 2, 3, [("cuda:0", None), ("cuda:1", None), ("cuda:0", None)]),
    ],
)
def test_workers_share_a_cpu_and_are_on_as_many_gpus_as_slides_allow(
    devices, parallel, count, begun, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []

    def run_together(given, **_) -> list[None]:
        jobs.extend(given)
        return [None] * len(given)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(spreading, "run_together", run_together)
    model, workers = load_model(tiny_model), workers_on(devices, OPTIONS, parallel=parallel)
    sources = [SlideInput(tmp_path / f"{number}.tif", str(number), str(number)) for number in range(count)]
    run_spread(sources, tmp_path / "out", Recipe(model, model.folds, OPTIONS), workers)
    assert [(job.arguments[0].device, job.arguments[0].threads) for job in jobs] == begun


def test_workers_keep_the_threads_that_they_were_given() -> None:
    given = [Worker("cpu", (REFERENCE,), threads=1)] * 2
    assert spreading._sharing_threads(given) == given


def test_each_gpu_computes_in_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: ((8, 0), (7, 5))[device.index])
    workers = workers_on(("cuda:0", "cuda:1"), RunOptions(engine="auto", precision="auto"), parallel=2)
    assert [(worker.device, str(worker.choices[0])) for worker in workers] == [
        ("cuda:0", "torch bf16"),
        ("cuda:1", "torch fp16"),
        ("cuda:0", "torch bf16"),
        ("cuda:1", "torch fp16"),
    ]
    with pytest.raises(UserError, match="cuda:1 has no bf16; use --precision fp16 or fp32"):
        workers_on(("cuda:0", "cuda:1"), RunOptions(precision="bf16"), parallel=1)
