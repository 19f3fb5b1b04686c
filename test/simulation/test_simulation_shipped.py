"""Shipped configurations through the command: what they leave, not what they find."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from camelyon_helpers import virtual_slide
from training_helpers import write_tiny_preset

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import ExitCode
from uga.simulation.config import config_text
from uga.simulation.summary import Summary
from uga.virtual.spec import LesionClass


def uga(*arguments: object) -> int:
    return execute(app, [str(argument) for argument in arguments])


def summary(out: Path) -> Summary:
    return Summary.model_validate_json((out / "summary.json").read_bytes())


def reduced(name: str, path: Path, changes: dict[str, str]) -> Path:
    """A shipped configuration with some text changed, each once."""
    text = config_text(name)
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_virtual_mini_is_the_whole_loop(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert uga("simulate", "virtual-mini", "--output", out, "--devices", "cpu") == ExitCode.OK
    cells = {path.name for path in (out / "cells").iterdir()}
    assert cells == {"baseline", "mean-002-seed0", "foreground-random-002-seed0"}
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 3
    assert {row["centre"] for row in rows} == {"1", "4"}
    assert {row["class"] for row in rows} == {"micro", "negative"}
    found = summary(out)
    baseline = found.point(None, 0)
    assert all(0 <= point.dice.value <= 1 for point in found.points)
    assert baseline.by_centre["1"].value > baseline.by_centre["4"].value  # it has learnt centre 1
    assert found.home_is_least_uncertain
    assert found.home_centres == ("1",)
    for cell in cells - {"baseline"}:
        with (out / "cells" / cell / "patches.csv").open(newline="") as stream:
            chosen = list(csv.DictReader(stream))
        assert [row["centre"] for row in chosen] == ["1", "1", "4", "4"]
        assert [row["rank"] for row in chosen] == ["1", "2", "1", "2"]
        manifest = json.loads((out / "cells" / cell / "manifest.json").read_text())
        assert manifest["model"]["sha256"] != manifest["baseline"]["sha256"]
        assert manifest["corrected"] == 4
        report = json.loads((out / "cells" / cell / "report.json").read_text())
        assert len(report["corrections"]) == 4
        assert not report["refused"]
    page = (out / "report.html").read_text()
    assert "Research use only" in page
    assert "One seed was run" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_configurations_can_be_shown_and_need_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert uga("simulate", "--show-config", "glas") == ExitCode.OK
    assert capsys.readouterr().out.startswith("# GlaS")
    assert uga("simulate", "--show-config", "other") == ExitCode.BAD_REQUEST
    assert uga("simulate", "glas", "--output", tmp_path / "out") == ExitCode.BAD_REQUEST
    assert "name it with --data" in capsys.readouterr().err
    assert uga("simulate", "no-such", "--output", tmp_path / "out") == ExitCode.BAD_REQUEST
    assert "virtual-mini" in capsys.readouterr().err
    assert uga("simulate", "virtual-mini", "--output", tmp_path / "out", "--budgets", "five") == ExitCode.BAD_REQUEST
    assert "--budgets 'five' is not valid" in capsys.readouterr().err
    assert not (tmp_path / "out" / "data").exists()


@pytest.mark.real
@pytest.mark.slow
def test_nuclei_recover_on_real_tissue(tmp_path: Path) -> None:
    folder = Path(os.environ.get("UGA_TEST_DATA", "")) / "dsb2018-brightfield"
    if not os.environ.get("UGA_TEST_DATA") or not folder.is_dir():
        pytest.skip("no nuclei: set UGA_TEST_DATA")
    config = reduced(
        "nuclei",
        tmp_path / "nuclei.toml",
        {
            'strategies = ["mean", "disagreement", "random", "foreground-random"]': 'strategies = ["mean", "random"]',
            "budgets = [2, 5]": "budgets = [5]",
            "seeds = [0, 1, 2]": "seeds = [0]",
            'centres = ["purple"]': 'centres = ["purple"]\ncompare_with = "random"',
        },
    )
    out = tmp_path / "out"
    assert uga("simulate", config, "--data", folder, "--output", out, "--devices", "cpu") == ExitCode.OK
    found = summary(out)
    baseline = found.point(None, 0)
    assert baseline.by_centre["white"].value > baseline.by_centre["purple"].value + 0.05
    assert all(point.dice.value > baseline.dice.value + 0.03 for point in found.points[1:])
    assert "no patients are known" in found.data_notice.lower()


@pytest.mark.slow
def test_camelyon_in_miniature(tmp_path: Path) -> None:
    """Both data sets in their own layout and formats, made of virtual slides: train, query two centres, test."""
    c16, c17 = tmp_path / "data" / "CAMELYON16", tmp_path / "data" / "CAMELYON17"
    for number, stem in enumerate(("tumor_001", "tumor_002", "normal_001")):
        virtual_slide(c16, stem, 400 + number, 1, LesionClass.NEGATIVE if "normal" in stem else LesionClass.MICRO)
    stages = ["patient,stage,center"]
    for centre, virtual in ((0, 5), (1, 1)):
        for k in range(4):
            lesion = LesionClass.NEGATIVE if k % 2 else LesionClass.MICRO
            stem = f"patient_{20 * centre + k:03d}_node_{k}"
            virtual_slide(c17, stem, 420 + 10 * centre + k, virtual, lesion)
            stages.append(f"{stem}.tif,{lesion.value},{centre}")
    (c17 / "stages.csv").write_text("\n".join(stages))
    preset = write_tiny_preset(tmp_path / "tiny.json", epochs=4, iterations=8)
    text = config_text("camelyon")
    strategies = text[text.index("strategies = [") : text.index("budgets")]
    config = reduced(
        "camelyon",
        tmp_path / "camelyon.toml",
        {
            'preset = "paper"': f'preset = "{preset}"\nmax_per_slide = 6',
            "folds = 5": "folds = 2",
            "replay_patches = 300": "replay_patches = 6",
            "test_share = 0.25": "test_share = 0.5",
            "patch_px = 1024": "patch_px = 256",
            strategies: 'strategies = ["mean", "reference", "foreground-random"]\n',
            "budgets = [5, 10, 20]": "budgets = [2]",
            "seeds = [0, 1, 2]": "seeds = [0]",
            "epochs = 20": "epochs = 1",
            "iterations = 100": "iterations = 4",
        },
    )
    out, threads = tmp_path / "out", torch.get_num_threads()
    code = uga("simulate", config, "--data", tmp_path / "data", "--output", out, "--devices", "cpu", "--threads", 1)
    torch.set_num_threads(threads)
    assert code == ExitCode.OK
    found = summary(out)
    assert (found.cells, found.finished) == (4, 4)
    assert set(found.points[0].by_centre) == {"center_0", "center_1"}
    assert set(found.points[0].by_class) == {"micro", "negative"}
    assert found.test_slides == 4
    assert (out / "baseline" / "model" / "model.json").is_file()
    assert not (out / "baseline" / "work").exists()
    # The baseline is not trained again.
    before = (out / "baseline" / "model" / "model.json").stat().st_mtime_ns
    assert uga("simulate", config, "--data", tmp_path / "data", "--output", out, "--devices", "cpu") == ExitCode.OK
    assert (out / "baseline" / "model" / "model.json").stat().st_mtime_ns == before
