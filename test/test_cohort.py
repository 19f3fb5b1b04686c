"""Slides one after the other: which failures are a slide's own, and what a run says of slides it did not begin."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from slide_files import noise, write_tiff

from uga import cohort
from uga.cohort import Outcome, Task, process, run_cohort
from uga.errors import ExitCode, SlideError, UserError
from uga.inputs import SlideInput, find_slides
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.options import RunOptions
from uga.pipeline import Pipeline

MADE, SKIPPED = True, False
SICK = RuntimeError("CUDA error: unspecified launch failure")
TORN, DENIED = SlideError("torn.tif is torn."), PermissionError(13, "Permission denied", "/out")
ILL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
LARGE = torch.OutOfMemoryError("CUDA out of memory")


def slides(count: int) -> list[SlideInput]:
    return [SlideInput(Path(f"slide{number}.tif"), f"slide{number}", f"slide{number}") for number in range(count)]


def outcome_of(
    *endings: bool | Exception, device: str = "cpu", beside_others: bool = False
) -> tuple[Outcome, list[str]]:
    """What becomes of slides that end like this, and those that are left."""
    left = list(endings)

    def run(*_: object) -> bool:
        ending = left.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    tasks = [Task(source, Path("out"), source.slide_id) for source in slides(len(endings))]
    pipeline = SimpleNamespace(run=run, ensemble=SimpleNamespace(device=torch.device(device)))
    outcome = process(tasks, pipeline, lambda _: None, beside_others=beside_others)
    return outcome, [task.source.slide_id for task in outcome.missing(tasks)]


@pytest.mark.parametrize(
    ("endings", "left"),
    [
        ((SICK, SICK, MADE), ["slide2"]),
        ((MADE, SICK, SKIPPED, SICK, MADE, MADE), ["slide4", "slide5"]),
        ((SICK, MADE, SICK, MADE), []),
        ((SICK, TORN, SICK, MADE), []),
        ((ILL, ILL, MADE), ["slide2"]),
        ((TORN, TORN, DENIED, DENIED, LARGE, LARGE, MemoryError(), MADE), []),
    ],
    ids=["two", "skipped-between", "made-between", "own-between", "gpu", "own"],
)
def test_no_more_are_begun_after_two_faults_in_a_row(endings, left) -> None:
    outcome, found = outcome_of(*endings)
    assert found == left
    begun = endings[: len(endings) - len(left)]
    assert len(outcome.finished) == sum(isinstance(ending, bool) for ending in begun)
    assert outcome.code == (ExitCode.DEFECT if SICK in endings else ExitCode.SLIDE_FAILED)


@pytest.mark.parametrize(
    ("device", "beside_others", "lack", "left"),
    [
        ("cuda", True, LARGE, ["slide3"]),
        ("cuda", False, LARGE, []),  # nobody else would take them
        ("cuda", True, MemoryError(), []),  # of the host
        ("cpu", True, LARGE, []),
    ],
)
def test_a_full_gpu_leaves_the_slides_to_the_others(device, beside_others, lack, left) -> None:
    outcome, found = outcome_of(MADE, lack, lack, MADE, device=device, beside_others=beside_others)
    assert found == left
    assert outcome.code == ExitCode.SLIDE_FAILED


def test_a_fault_of_the_gpu_is_told_as_such() -> None:
    outcome, _ = outcome_of(ILL)
    (failure,) = outcome.failures
    assert failure.error.startswith(
        "slide0.tif: The GPU failed (CUDA error: an illegal memory access was encountered);"
    )
    assert outcome.code == ExitCode.SLIDE_FAILED


def test_slides_that_were_not_begun_are_failures(tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    def run(*_: object) -> bool:
        raise SICK

    pipeline = Pipeline(Ensemble(load_model(tiny_model), device=torch.device("cpu")), RunOptions())
    monkeypatch.setattr(Pipeline, "run", run)
    assert run_cohort(slides(4), tmp_path, pipeline) == ExitCode.DEFECT
    failures = json.loads((tmp_path / "failures.json").read_text())["failures"]
    assert [failure["slide"] for failure in failures] == ["slide0", "slide1", "slide2", "slide3"]
    assert ["not begun" in failure["error"] for failure in failures] == [False, False, True, True]
    assert (tmp_path / "report.html").is_file()


def test_a_slide_that_has_become_unreadable_does_not_cost_the_page(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    (tmp_path / "in").mkdir()
    gone, _ = (write_tiff(tmp_path / "in" / f"{name}.tif", noise(70, 70)) for name in ("gone", "here"))

    def close_run(*parts: object) -> None:
        gone.unlink()
        finish(*parts)

    finish = cohort.close_run
    monkeypatch.setattr(cohort, "close_run", close_run)
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)  # a command that ran before has cut it off
    options = RunOptions(mpp=1.0, patch_px=64, top=1, engine="torch", precision="fp32")
    pipeline = Pipeline(Ensemble(load_model(tiny_model), device=torch.device("cpu")), options)
    with caplog.at_level(logging.WARNING, "uga"):
        assert run_cohort(find_slides(tmp_path / "in"), tmp_path / "out", pipeline) == ExitCode.OK
    assert "gone: no picture on the page over all slides" in caplog.text
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in ("gone", "here"))


def test_a_cohort_does_not_replace_a_slide_that_is_not_of_it(tmp_path: Path, tiny_model: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        write_tiff(tmp_path / name / f"{name}.tif", noise(64, 64))
    out, model = tmp_path / "out", load_model(tiny_model)
    options = RunOptions(patch_px=64, top=0)
    pipeline = Pipeline(Ensemble(model, device=torch.device("cpu")), options)
    (alone,) = find_slides(tmp_path / "a")
    run_cohort([alone], out, pipeline)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    others = [*find_slides(tmp_path / "b"), *find_slides(tmp_path / "c")]
    with pytest.raises(UserError, match=r"out holds the results of a\.tif, which is none of these slides"):
        run_cohort(others, out, pipeline)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    run_cohort([alone, *others], out, pipeline)
    assert (out / "a" / "manifest.json").is_file()
    assert not (out / "manifest.json").exists()
