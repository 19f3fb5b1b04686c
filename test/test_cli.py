"""The other commands, run in this process."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import typer
from model_helpers import make_trained_folder
from slide_files import write_tiff
from test_process import tissue_like

from uga import __version__
from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import ExitCode
from uga.model.ensemble import Ensemble
from uga.options import RunOptions
from uga.output.schema import RankedPatches
from uga.ranking import Strategy
from uga.serve import server
from uga.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable


def uga(*arguments: object) -> int:
    return execute(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Two centres with two slides each, processed; slides in ``in``, results in ``out``."""
    root = tmp_path_factory.mktemp("cohort")
    for number, name in enumerate(("north/a", "north/b", "south/c", "south/d")):
        path = root / "in" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tiff(path, tissue_like(520 + 40 * number, 600, seed=number))
    arguments = ("--input", root / "in", "--output", root / "out", "--model", tiny_model, "--patch", 256, "--top", 2)
    assert uga("infer", *arguments, "--scope", "centre", "--extra-scores") == 0
    return root


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert uga("--version") == 0
    assert capsys.readouterr().out == f"uga {__version__}\n"


def test_serving_is_not_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert uga("infer", "--input", tmp_path, "--output", tmp_path / "out", "--serve", "--parallel", 2) == 2
    assert "leave out --parallel" in capsys.readouterr().err


def test_serving_asks_after_each_failed_case_whether_the_device_computes(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Ensemble, "check_device", lambda _: asked.append(True))

    def two_cases(_: int, prepare: Callable[[], Callable[[], ExitCode]]) -> ExitCode:
        case = prepare()
        assert case() is ExitCode.OK
        assert not asked
        (tmp_path / "in" / "a.tif").write_bytes(b"no slide")
        return case()

    monkeypatch.setattr(server, "serve", two_cases)
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "a.tif", tissue_like(320, 300, seed=1))
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model, "--patch", 128)
    assert uga("infer", *arguments, "--serve") == ExitCode.SLIDE_FAILED
    assert asked == [True]


def test_a_gpu_that_fails_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable\nSearch for it.")

    assert execute(failing, []) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("The GPU failed (CUDA error: all CUDA-capable devices are busy or unavailable);")


@pytest.mark.parametrize(
    ("room_bytes", "code", "sentence"),
    [
        (20_000, 1, "a.tif: File too large"),  # for maps; the page of both slides and what failed fit
        (100, 2, "File too large"),  # for anything
    ],
)
def test_a_disk_that_takes_no_more_is_no_defect(
    cohort: Path, tmp_path: Path, tiny_model: Path, room_bytes: int, code: int, sentence: str
) -> None:
    run = (
        "import resource, sys; from uga.cli.console import execute; from uga.cli.main import app; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); sys.exit(execute(app, sys.argv[2:]))"
    )
    arguments = ("--input", cohort / "in/north", "--output", tmp_path, "--model", tiny_model, "--engine", "torch")
    done = subprocess.run(
        [sys.executable, "-c", run, str(room_bytes), "infer", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr.splitlines()[-1 if code == 2 else 0]
    assert "defect" not in done.stderr
    assert not list(tmp_path.rglob("*.partial"))
    assert (tmp_path / "failures.json").exists() == (code == 1)


def test_a_cohort_is_ranked_per_centre(cohort: Path) -> None:
    ranked = RankedPatches.model_validate_json((cohort / "out" / "ranked-patches.json").read_bytes())
    centres = {slide.id: slide.centre for slide in ranked.all_slides}
    assert centres == {"a": "north", "b": "north", "c": "south", "d": "south"}
    per_centre = [centres[str(patch.slide_id)] for patch in ranked.patches]
    assert sorted(per_centre) == ["north", "north", "south", "south"]
    assert [p.score_mean for p in ranked.patches] == sorted((p.score_mean for p in ranked.patches), reverse=True)
    for patch in ranked.patches:
        assert (cohort / "out" / str(patch.folder) / "patch.json").is_file()
    best = {}
    for slide in ("a", "b", "c", "d"):
        own = RankedPatches.model_validate_json((cohort / "out" / slide / "ranked-patches.json").read_bytes())
        for patch in own.patches:
            best.setdefault(centres[slide], []).append(patch.score_mean)
    for centre, scores in best.items():
        listed = [p.score_mean for p in ranked.patches if centres[str(p.slide_id)] == centre]
        assert listed == sorted(scores, reverse=True)[:2]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_rank_again_without_inference(cohort: Path, tmp_path: Path, tiny_model: Path, strategy: str) -> None:
    arguments = ("--slides", cohort / "in", "--model", tiny_model, "--top", 3, "--strategy", strategy, "--seed", 5)
    for name in ("one", "two"):
        assert uga("rank", cohort / "out", "--output", tmp_path / name, *arguments) == 0
    one, two = ((tmp_path / name / "ranked-patches.json").read_bytes() for name in ("one", "two"))
    assert one == two
    ranked = RankedPatches.model_validate_json(one)
    assert len(ranked.patches) == 3
    assert all((tmp_path / "one" / str(patch.folder) / "image.png").is_file() for patch in ranked.patches)


def test_rank_takes_no_more_of_a_slide_than_the_cap(cohort: Path, tmp_path: Path, tiny_model: Path) -> None:
    arguments = ("--slides", cohort / "in", "--model", tiny_model, "--top", 4, "--per-slide-cap", 1)
    assert uga("rank", cohort / "out", "--output", tmp_path / "one", *arguments) == 0
    ranked = RankedPatches.model_validate_json((tmp_path / "one" / "ranked-patches.json").read_bytes())
    assert sorted(str(patch.slide_id) for patch in ranked.patches) == ["a", "b", "c", "d"]


def test_scores_are_kept_for_the_strategies_that_need_them(
    cohort: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = (cohort / "out" / "a" / "patch-scores.csv").read_text().splitlines()[0]
    assert header.endswith(
        ",mean entropy,mean disagreement,mean mutual-information,mean variation-ratio"
        ",mean entropy of tissue,mean tissue above 0.3,mean tissue above 0.7"
        ",mean entropy of tumour,mean tumour above 0.3,mean tumour above 0.7"
    )
    arguments = ("--input", cohort / "in" / "north", "--model", tiny_model, "--patch", 256)
    assert uga("infer", *arguments, "--output", tmp_path / "plain") == 0
    assert "mean entropy" not in (tmp_path / "plain" / "a" / "patch-scores.csv").read_text()
    again = (
        "--output", tmp_path / "new", "--slides", cohort / "in", "--model", tiny_model, "--strategy", "class-stratified"
    )  # fmt: skip
    assert uga("rank", tmp_path / "plain", *again) == 2
    assert "--extra-scores" in capsys.readouterr().err
    assert RunOptions(strategy=Strategy.ENTROPY).keeps_extra
    assert uga("infer", *arguments, "--output", tmp_path / "o", "--strategy", "uncertainty-diversity") == 2
    assert "uga rank" in capsys.readouterr().err


def test_rank_by_mean_agrees_with_the_run(cohort: Path, tmp_path: Path, tiny_model: Path) -> None:
    arguments = ("--slides", cohort / "in", "--model", tiny_model, "--top", 2, "--scope", "centre")
    assert uga("rank", cohort / "out", "--output", tmp_path / "again", *arguments) == 0
    first, again = (
        RankedPatches.model_validate_json((folder / "ranked-patches.json").read_bytes())
        for folder in (cohort / "out", tmp_path / "again")
    )
    places = [[(p.slide_id, p.x, p.y, p.image_sha256) for p in ranked.patches] for ranked in (first, again)]
    assert places[0] == places[1]


def test_rank_refuses_what_does_not_belong_together(
    cohort: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--slides", cohort / "in", "--model", tiny_model)
    assert uga("rank", tmp_path, "--output", tmp_path / "o", *common) == 2
    assert "no finished slide" in capsys.readouterr().err
    assert uga("rank", cohort / "out", cohort / "out" / "a", "--output", tmp_path / "o", *common) == 2
    assert "same slide" in capsys.readouterr().err
    shutil.copytree(cohort / "in" / "north", tmp_path / "fewer")
    assert (
        uga("rank", cohort / "out", "--output", tmp_path / "p", "--slides", tmp_path / "fewer", "--model", tiny_model)
        == 2
    )
    assert "holds no slide" in capsys.readouterr().err
    other = make_trained_folder(tmp_path / "m", folds=2, window=(64, 64)).model
    assert uga("rank", cohort / "out", "--output", tmp_path / "q", "--slides", cohort / "in", "--model", other) == 2
    assert "another model" in capsys.readouterr().err


def test_demo_writes_slides_a_run_can_take(tmp_path: Path) -> None:
    assert (
        uga("demo", tmp_path, "--centre", 4, "--lesion", "itc", "--lesion", "negative", "--size", 400, "--node", 250)
        == 0
    )
    with (tmp_path / "cohort.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["itc", "negative"]
    for row in rows:
        assert (tmp_path / row["mask"]).is_file()
        with open_slide(tmp_path / row["slide"]) as slide:
            assert slide.mpp.x == pytest.approx(0.25)
    assert uga("demo", tmp_path, "--lesion", "huge") == 2


def test_model_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = make_trained_folder(tmp_path, folds=2, window=(64, 64))
    target = tmp_path / "imported"
    assert uga("model", "import", trained.source, target, "--name", "mine", "--tumour-label", "tumour") == 0
    assert uga("model", "verify", target) == 0
    capsys.readouterr()
    assert uga("model", "info", target) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mine"
    (target / "fold_0" / "model.safetensors").write_bytes(b"x")
    assert uga("model", "verify", target) == 2
    assert "fold_0/model.safetensors" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from uga.cli.console import execute; from uga.cli.main import app; "
        "execute(app, ['infer', '--help']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
