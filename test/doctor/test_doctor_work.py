import re

import numpy as np
import pytest
import torch
from slide_files import write_tiff
from test_process import tissue_like

from uga.cli.console import execute
from uga.cli.main import app
from uga.doctor import Verdict
from uga.doctor.work import Trial
from uga.inference import InferenceSettings, SlideInference
from uga.measures import Measure
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
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


def test_networks_that_overflow_are_a_failure(monkeypatch, tiny_model):
    right = Ensemble.logits
    monkeypatch.setattr(Ensemble, "logits", lambda self, batch: right(self, batch) / 0)
    sound, *tried = Trial(tiny_model, CPU).check_model()
    assert sound.verdict is Verdict.FINE
    assert tried
    assert all(each.verdict is Verdict.FAILED and "overflows" in each.sentence for each in tried)


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_failure_among_findings(tiny_model, tmp_path, capsys):
    assert doctor("--model", tiny_model, "--device", "cuda", "--output", tmp_path) == 2
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("FAILED")] == [
        "FAILED  No CUDA device is available; start the container with a GPU or use --device cpu."
    ]
    assert "fp32: " in said.out
