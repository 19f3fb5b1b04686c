"""What ``uga train`` says before anything is trained."""

import json
import os

import pytest
from training_helpers import write_cohort, write_tiny_preset

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import ExitCode
from uga.training.presets import load_preset


@pytest.fixture(autouse=True)
def _environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def refused(tmp_path, capfd):
    """What a training says on stderr that must not start."""
    write_cohort(tmp_path)
    preset = write_tiny_preset(tmp_path / "tiny.json")

    def run(*options, cohort="cohort.csv", labels="background=0,1 tumour=2"):
        arguments = ["train", str(tmp_path / cohort), "--output", str(tmp_path / "out"), "--preset", str(preset)]
        code = execute(app, [*arguments, "--labels", labels, "--devices", "cpu", *options])
        assert code == ExitCode.BAD_REQUEST
        assert not list((tmp_path / "out").rglob("fold_*"))
        assert not (tmp_path / "out" / "model").exists()
        return capfd.readouterr().err

    return run


def test_a_preset_can_be_printed_and_copied(capsys, tmp_path):
    assert execute(app, ["train", "--show-preset", "paper"]) == ExitCode.OK
    text = capsys.readouterr().out
    (tmp_path / "mine.json").write_text(text)
    assert load_preset(str(tmp_path / "mine.json")) == load_preset("paper")
    assert execute(app, ["train", "--show-preset", "none"]) == ExitCode.BAD_REQUEST
    assert "demo, paper, pathology" in capsys.readouterr().err


def test_help_teaches_the_cohort(capsys):
    assert execute(app, ["train", "--help"]) == ExitCode.OK
    text = " ".join(capsys.readouterr().out.split())
    for word in ("slide, annotation", "_mask.tif", "negative", "--unannotated", "1:4", "--patience", "default: all"):
        assert word in text


def test_too_few_patients(refused):
    assert "5 folds need as many patients" in refused()


def test_no_slide_is_held_out(refused):
    assert "holds no slide out" in refused("--folds", "2", "--holdout-patches", "3")


def test_a_batch_that_cannot_be_shared(refused):
    assert "A batch of 2 cannot be shared by 3 GPUs" in refused("--folds", "2", "--ddp", "3")


def test_devices_that_are_not_there(refused):
    assert "--devices tpu cannot be used" in refused("--devices", "tpu")


def test_values_of_label_maps_must_be_given(refused):
    said = refused("--folds", "2", labels="background=normal tumour=tumor")
    assert all(f"m{number}.tif holds the values [0, 1" in said for number in range(3))
    assert said.endswith("has 3 faults, named above; mend them, start again.\n")


def test_own_splits_that_leak(refused, tmp_path):
    rows = (tmp_path / "cohort.csv").read_text().replace(",p1,", ",p0,")
    (tmp_path / "cohort.csv").write_text(rows)
    splits = [{"train": ["s0", "s2"], "val": ["s1", "s3"]}, {"train": ["s0", "s1"], "val": ["s2", "s3"]}]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    assert "Split 0 has patient 'p0' in training and validation" in refused("--splits", str(tmp_path / "splits.json"))


def test_own_splits_and_another_number_of_folds(refused, tmp_path):
    splits = [{"train": ["s0", "s2"], "val": ["s1", "s3"]}, {"train": ["s1", "s3"], "val": ["s0", "s2"]}]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    assert "has 2 splits, not 3" in refused("--splits", str(tmp_path / "splits.json"), "--folds", "3")


def test_an_annotation_that_cannot_be_used(refused, tmp_path):
    (tmp_path / "m1.tif").write_bytes(b"no TIFF")
    assert "m1.tif cannot be read as a TIFF" in refused("--folds", "2")


def test_a_folder_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("--work", str(tmp_path / "file" / "work"))
