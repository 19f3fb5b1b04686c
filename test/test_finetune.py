"""finetune.py as a user runs it: every request that cannot be carried out is one sentence and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetuning_helpers import own_environment, trained_parent, write_corrections

from uga.cli.console import execute
from uga.cli.main import app
from uga.model.folder import Model, load_model

ROOT = Path(__file__).parents[1]


def finetune(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "finetune.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def uga(*arguments: object) -> int:
    """``uga finetune`` in this process."""
    with own_environment():
        return execute(app, ["finetune", *map(str, arguments)])


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def parent() -> Model:
    return trained_parent()


def test_from_corrections_to_a_model_with_options_from_the_environment(tmp_path: Path, parent: Model) -> None:
    packages = write_corrections(tmp_path / "in", parent)
    (packages[0] / "correction.png").write_bytes(b"")
    done = finetune(
        "--output", tmp_path / "out", "--iterations", 2,
        UGA_INPUT=str(tmp_path / "in"), UGA_MODEL=str(parent.path), UGA_EPOCHS="1", UGA_TOLERANCE="1", UGA_SEED="3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "out" / "model")
    assert model.card.training.details["option epochs"] == 1
    assert model.card.training.seed == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model", "model.tar.gz", "report.html", "report.json"
    }  # fmt: skip
    assert "3 used, 0 unchanged, 1 refused" in done.stdout
    assert f"{packages[0].name}/correction.png" in done.stderr
    assert " left" in done.stdout
    assert "disk" in done.stdout


def test_the_guard_is_exit_1_and_its_sentence_comes_last(
    tmp_path: Path, parent: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corrections(tmp_path / "in", parent, poisoned=True)
    given = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", parent.path)
    assert uga(*given, "--epochs", 2, "--iterations", 8, "--lr", 0.01, "--tolerance", 0) == 1
    stderr = capsys.readouterr().err
    assert "not released" in last_line(stderr)
    assert "Traceback" not in stderr
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "/does/not/exist"), "/does/not/exist"),
        (("--model", "/does/not/exist"), "/does/not/exist"),
        (("--replay", "/does/not/exist"), "/does/not/exist"),
        (("--mix", "0"), "mix"),
        (("--lr", "2"), "lr"),
        (("--epochs", "0"), "epochs"),
        (("--device", "tpu"), "device"),
        (("--output", "/proc/nothing/here"), "--output"),
        (("--no-such-option",), "no-such-option"),
    ],
)
def test_bad_requests_exit_2_with_one_sentence(
    tmp_path: Path, parent: Model, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    write_corrections(tmp_path / "in", parent, slides=1, per_slide=1)
    given = {"--input": tmp_path / "in", "--output": tmp_path / "out", "--model": parent.path}
    given = {name: value for name, value in given.items() if name not in arguments}
    assert uga(*(part for pair in given.items() for part in pair), *arguments) == 2
    stderr = capsys.readouterr().err
    assert message in last_line(stderr)
    assert "Traceback" not in stderr


def test_an_empty_folder_teaches_nothing(tmp_path: Path, parent: Model, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    assert uga("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", parent.path) == 2
    assert "no correction that can be used" in last_line(capsys.readouterr().err)


def test_help_teaches() -> None:
    done = finetune("--help")
    assert done.returncode == 0
    for word in ("--force", "UGA_LR", "replay", "Exit codes"):
        assert word in done.stdout
