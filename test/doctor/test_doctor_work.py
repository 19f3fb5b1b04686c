import re

import numpy as np
import pytest
import torch
from model_helpers import make_trained_folder
from slide_files import write_tiff
from test_process import tissue_like

from uga.cli.console import execute
from uga.cli.main import app
from uga.doctor import Verdict, work
from uga.doctor.work import Trial
from uga.errors import ModelError, UserError
from uga.inference import InferenceSettings, SlideInference
from uga.measures import Measure
from uga.model import arithmetic, gpus
from uga.model.arithmetic import Arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.model.gpus import Gpus
from uga.slide import open_slide
from uga.tissue import detect_tissue

CPU = torch.device("cpu")


@pytest.fixture
def slides(tmp_path):
    """A slide with tissue, one without, one that is cut off."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_tiff(folder / "a.tif", tissue_like(1100, 1300))
    write_tiff(folder / "blank.tif", np.full((600, 600, 3), 244, np.uint8))
    whole = write_tiff(folder / "cut.tif", tissue_like(600, 600)).read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    return folder


def doctor(*arguments):
    return execute(app, ["doctor", *map(str, arguments)])


def test_windows_are_those_that_a_run_computes(slides, tiny_model):
    trial = Trial(tiny_model, CPU)
    assert {each.verdict for each in trial.check_model()} == {Verdict.FINE}
    found = {each.sentence.split()[0].strip(":"): each for each in trial.check_slides(slides)}
    assert found["blank.tif"].verdict is Verdict.NOTE
    assert "no tissue" in found["blank.tif"].sentence
    (failure,) = [each for each in found.values() if each.verdict is Verdict.FAILED]
    assert "cut.tif" in failure.sentence
    model = load_model(tiny_model)
    with open_slide(slides / "a.tif") as slide:
        grid = slide.grid(model.spacing_um)
        tissue = detect_tissue(slide, grid)
        settings = InferenceSettings(measure=Measure.SOFT_CROSS_ENTROPY)
        run = SlideInference(slide, grid, tissue, Ensemble(model, device=CPU), None, settings)
    assert found["a.tif"].verdict is Verdict.FINE
    assert "1300 x 1100 px of 0.5 um, 1 level(s)" in found["a.tif"].sentence
    assert f"; {run.window_count} windows hold tissue, about " in found["a.tif"].sentence


def test_a_users_mask_says_where_tissue_is(slides, tiny_model):
    mask = np.zeros((1100, 1300), np.uint8)
    mask[0, 0] = 1
    write_tiff(slides / "a_tissue.tif", mask, photometric="minisblack")
    trial = Trial(tiny_model, CPU)
    list(trial.check_model())
    sentences = [each.sentence for each in trial.check_slides(slides)]
    assert any("a.tif" in each and "; 1 windows hold tissue" in each for each in sentences)


TWO = (Arithmetic("openvino", "fp32"), Arithmetic("torch", "fp32"))


@pytest.fixture
def spoilt(monkeypatch):
    """Returns a function that gives some arithmetics of two a fault of their own."""
    right = Ensemble.logits

    def spoil(faults):
        def logits(self, batch):
            fault = faults.get(self.arithmetic)
            if isinstance(fault, Exception):
                raise fault
            return right(self, batch) / (0 if fault == "overflow" else 1)

        monkeypatch.setattr(work, "resolve_arithmetic", lambda *_: TWO)
        monkeypatch.setattr(Ensemble, "logits", logits)

    return spoil


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("overflow", "overflows"),
        (RuntimeError("no such kernel"), r"does not work here \(no such"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), r"does not work here \(GET"),
    ],
)
def test_one_arithmetic_that_fails_is_noted_and_the_next_one_taken(spoilt, slides, tiny_model, fault, words):
    spoilt({TWO[0]: fault})
    trial = Trial(tiny_model, CPU)
    _, first, second = trial.check_model()
    assert first.verdict is Verdict.NOTE
    assert re.match(f"{TWO[0]} {words}", first.sentence)
    assert second.verdict is Verdict.FINE
    assert any(each.sentence.endswith(f" in {TWO[1]}") for each in trial.check_slides(slides))


def test_a_time_is_that_of_what_a_run_takes_first(spoilt, slides, tiny_model):
    spoilt({})
    trial = Trial(tiny_model, CPU)
    assert [each.verdict for each in trial.check_model()] == [Verdict.FINE] * 3
    assert any(each.sentence.endswith(f" in {TWO[0]}") for each in trial.check_slides(slides))


def test_a_model_that_nothing_computes_is_a_failure(spoilt, tiny_model):
    spoilt(dict.fromkeys(TWO, "overflow"))
    *_, last = Trial(tiny_model, CPU).check_model()
    assert last.verdict is Verdict.FAILED
    assert "Nothing here computes" in last.sentence


def test_too_little_memory_is_a_failure_with_a_sentence(spoilt, tiny_model):
    spoilt({TWO[0]: RuntimeError("CUDA out of memory")})
    with pytest.raises(UserError, match="Memory ran out"):
        list(Trial(tiny_model, CPU).check_model())


def test_a_model_of_one_fold_fails_as_it_would_in_a_run(tmp_path):
    model = make_trained_folder(tmp_path, folds=1).model
    with pytest.raises(ModelError, match="needs two or more"):
        list(Trial(model, CPU).check_model())


def test_a_given_pixel_size_replaces_that_of_the_files(tmp_path, tiny_model):
    write_tiff(tmp_path / "a.tif", tissue_like(600, 600), resolution=None, resolutionunit=None)
    trial = Trial(tiny_model, CPU)
    list(trial.check_model())
    (without,) = trial.check_slides(tmp_path)
    assert without.verdict is Verdict.FAILED
    assert "--mpp" in without.sentence
    (given,) = trial.check_slides(tmp_path, 0.25)
    assert "of 0.25 um" in given.sentence


def test_the_command_tells_every_finding_and_the_exit_code(slides, tiny_model, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("--model", tiny_model, "--device", "cpu", "--output", output)
    assert doctor(*arguments) == 0
    said = capsys.readouterr()
    assert "All checks passed" in said.out
    assert said.err == ""
    assert re.search(r"^ok      \w+ fp32: \d+ ms a window, at least .* for 1 cm² of tissue$", said.out, re.MULTILINE)
    assert list(output.iterdir()) == []

    assert doctor(*arguments, "--input", slides) == 2
    said = capsys.readouterr()
    assert said.err.splitlines() == ["1 check(s) failed; the lines marked FAILED say what to do."]
    assert "\nok      a.tif: " in said.out
    assert "\nnote    blank.tif: " in said.out
    assert re.search(r"^FAILED  .*cut\.tif", said.out, re.MULTILINE)


def test_an_altered_model_fails_and_the_rest_is_tried(slides, tmp_path, capsys):
    assert doctor("--model", tmp_path / "none", "--device", "cpu", "--output", tmp_path, "--input", slides) == 2
    said = capsys.readouterr()
    assert re.search(r"^FAILED  .*none is not a folder", said.out, re.MULTILINE)
    assert "Maps can be written" in said.out
    assert "a.tif" not in said.out  # without a model nobody knows the spacing


def test_a_gpu_that_does_not_compute_is_told_and_the_cpu_tried(tiny_model, tmp_path, monkeypatch, capsys):
    found = Gpus((), {"cuda:0": "cuda:0 does not compute; use another base."})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (gpus, arithmetic):
        monkeypatch.setattr(module, "find_gpus", lambda: found)
    assert doctor("--model", tiny_model, "--output", tmp_path) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == found.faults["cuda:0"]
    assert "ok      The CPU computes; no GPU here does." in said.out
    assert "fp32: " in said.out
    assert doctor("--model", tiny_model, "--output", tmp_path, "--device", "cuda") == 2
    assert f"FAILED  {found.faults['cuda:0']}" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_failure_among_findings(tiny_model, tmp_path, capsys):
    assert doctor("--model", tiny_model, "--device", "cuda", "--output", tmp_path) == 2
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("FAILED")] == [
        "FAILED  No CUDA device is available; start the container with a GPU or use --device cpu."
    ]
    assert "fp32: " in said.out
