"""Whole experiments on four tiny slides a part, with networks of a few thousand weights: nothing is replaced."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from finetuning_helpers import own_environment, trained_parent
from simulation_helpers import request, write_config, write_experiment, write_slide

from uga.errors import ExitCode, UserError
from uga.model.folder import verify_model
from uga.ranking import Strategy
from uga.simulation import run as run_module
from uga.simulation.cells import CellKey, CellManifest
from uga.simulation.config import load_config
from uga.simulation.evidence import fill
from uga.simulation.run import simulate
from uga.simulation.summary import Summary
from uga.simulation.workers import Compute

CELLS = {"baseline", "mean-001-seed0", "sum-001-seed0", "random-001-seed0"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """An experiment that is through: two strategies that agree and one that does not."""
    folder = tmp_path_factory.mktemp("experiment")
    with own_environment():
        config = write_experiment(folder, strategies=["mean", "sum", "random"], budgets=[1])
        assert simulate(request(config, folder / "out")) is ExitCode.OK
    return folder


def manifest(out: Path, cell: str) -> CellManifest:
    return CellManifest.model_validate_json((out / "cells" / cell / "manifest.json").read_bytes())


def summary(out: Path) -> Summary:
    return Summary.model_validate_json((out / "summary.json").read_bytes())


def stamps(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted((out / "cells").glob("*/manifest.json"))}


def test_every_cell_leaves_its_figures_and_nothing_heavy(experiment):
    out = experiment / "out"
    assert {path.name for path in (out / "cells").iterdir()} == CELLS
    files = {path.name for path in (out / "cells" / "mean-001-seed0").iterdir()}
    assert files == {"manifest.json", "patches.csv", "report.json", "slides.csv"}
    assert {path.name for path in (out / "cells" / "baseline").iterdir()} == {"manifest.json", "slides.csv"}
    assert not (out / "work").exists()
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * len(CELLS)  # slides, one label
    assert {(row["strategy"], row["budget"]) for row in rows} == {
        ("", "0"),
        ("mean", "1"),
        ("sum", "1"),
        ("random", "1"),
    }
    for name in ("report.html", "tables.md", "summary.json", "config.json"):
        assert (out / name).stat().st_size > 100
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {f"fig4a-dice-by-budget.{kind}" for kind in ("png", "svg")} <= figures
    assert {"fig3-uncertainty-and-dice.png", "fig4b-by-centre.svg", "fig4c-by-class.png", "differences.svg"} <= figures


def test_the_baseline_is_at_home_and_a_corrected_disc_teaches_the_other_centre(experiment):
    found = summary(experiment / "out")
    baseline, mean = found.point(None, 0), found.point(Strategy.MEAN, 1)
    assert baseline.by_centre["home"].value > 0.9
    assert baseline.by_centre["abroad"].value < 0.5
    assert mean.by_centre["abroad"].value > baseline.by_centre["abroad"].value + 0.3
    assert mean.dice.value == pytest.approx((mean.by_centre["abroad"].value + mean.by_centre["home"].value) / 2)
    assert found.home_centres == ("home",)
    assert (found.cells, found.finished, found.seeds) == (4, 4, 1)
    assert next(each.spearman.value for each in found.scores if each.score == "score_mean") > 0.5


def test_cells_that_correct_the_same_patches_share_one_training(experiment):
    out = experiment / "out"
    mean, total = manifest(out, "mean-001-seed0"), manifest(out, "sum-001-seed0")
    assert (mean.shared_with, total.shared_with) == (None, "mean-001-seed0")
    assert (mean.identity, mean.model) == (total.identity, total.model)
    assert total.cell == CellKey(strategy=Strategy.SUM, budget=1, seed=0)
    assert manifest(out, "random-001-seed0").identity != mean.identity
    assert mean.guard is not None
    assert mean.corrected == 2


def test_a_second_run_does_nothing_and_a_larger_grid_adds_to_it(experiment, tmp_path):
    out = shutil.copytree(experiment / "out", tmp_path / "out")
    before, results = stamps(out), (out / "results.csv").read_bytes()
    assert simulate(request(experiment / "config.toml", out, data=experiment)) is ExitCode.OK
    assert stamps(out) == before
    assert (out / "results.csv").read_bytes() == results
    larger = load_config(str(experiment / "config.toml")).with_grid(strategies="mean,reference,random")
    assert simulate(request(larger, out, data=experiment)) is ExitCode.OK
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert set(after) == {*before, "reference-001-seed0"}
    found = summary(out)
    assert {point.strategy for point in found.points} == {None, Strategy.MEAN, Strategy.REFERENCE, Strategy.RANDOM}
    assert " --strategies mean,reference,random " in found.command
    assert simulate(request(experiment / "config.toml", out, data=experiment, only_report=True)) is ExitCode.OK
    assert (out / "results.csv").read_bytes() == results


def test_cells_computed_elsewhere_count(experiment, tmp_path):
    """As those behind the page of evidence do, which an archive brings."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "evidence.md").write_text("# Evidence\n")
    fill(tmp_path / "docs", [experiment / "out"])
    (archive,) = (tmp_path / "docs" / "evidence").iterdir()
    first = archive.read_bytes()
    fill(tmp_path / "docs", [experiment / "out"])
    assert archive.read_bytes() == first
    assert f"](evidence/{archive.name})" in (tmp_path / "docs" / "evidence.md").read_text()
    out = tmp_path / "out"
    with tarfile.open(archive) as packed:
        packed.extractall(out, filter="data")
    before = stamps(out)
    assert set(before) == CELLS
    assert simulate(request(experiment / "config.toml", out, data=experiment)) is ExitCode.OK
    assert stamps(out) == before
    assert (out / "results.csv").read_bytes() == (experiment / "out" / "results.csv").read_bytes()


def test_a_cell_is_repeated_from_its_manifest(experiment, tmp_path):
    source = experiment / "out" / "cells" / "random-001-seed0"
    loaded = load_config(str(source / "manifest.json"))
    assert simulate(request(loaded, tmp_path, data=experiment)) is ExitCode.OK
    again = tmp_path / "cells" / "random-001-seed0"
    assert {path.name for path in (tmp_path / "cells").iterdir()} == {"baseline", "random-001-seed0"}
    for name in ("slides.csv", "patches.csv"):
        assert (again / name).read_bytes() == (source / name).read_bytes()
    first, second = (CellManifest.model_validate_json((f / "manifest.json").read_bytes()) for f in (source, again))
    assert (first.model, first.identity) == (second.model, second.identity)


def test_a_baseline_is_repeated_alone_and_from_the_same_model(experiment, tmp_path):
    source = experiment / "out" / "cells" / "baseline"
    loaded = load_config(str(source / "manifest.json"))
    assert simulate(request(loaded, tmp_path / "again", data=experiment)) is ExitCode.OK
    assert set(stamps(tmp_path / "again")) == {"baseline"}
    again = tmp_path / "again" / "cells" / "baseline"
    assert (again / "slides.csv").read_bytes() == (source / "slides.csv").read_bytes()
    assert manifest(tmp_path / "again", "baseline").identity == manifest(experiment / "out", "baseline").identity
    other = replace(loaded, baseline_sha256="0" * 64)
    with pytest.raises(UserError, match=r"started from the baseline with SHA-256 0+, .* name its folder with --model"):
        simulate(request(other, tmp_path / "other", data=experiment))
    assert not (tmp_path / "other" / "cells").exists()


def test_whose_a_test_slide_is_may_be_corrected_without_redoing_a_cell(experiment, tmp_path):
    folder = shutil.copytree(experiment, tmp_path / "copy")
    before = stamps(folder / "out")
    cohort = folder / "test.csv"
    text = cohort.read_text()
    assert ",home,test-home-0,micro" in text
    cohort.write_text(text.replace(",home,test-home-0,micro", ",elsewhere,somebody,macro"))
    assert simulate(request(folder / "config.toml", folder / "out")) is ExitCode.OK
    assert stamps(folder / "out") == before
    with (folder / "out" / "results.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["slide"] == "test-home-0"]
    assert {(row["centre"], row["patient"], row["class"]) for row in rows} == {("elsewhere", "somebody", "macro")}
    assert set(summary(folder / "out").centres) == {"elsewhere", "abroad"}  # home holds no tumour any more
    assert summary(folder / "out").centres_left_out == ("home",)


def test_centres_that_nobody_knows_are_refused(experiment, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text((experiment / "config.toml").read_text() + '\ncentres = ["home", "hom"]\n')
    with pytest.raises(UserError, match=r"evaluation\.centres names hom, .* name some of abroad, home"):
        simulate(request(config, tmp_path / "out", data=experiment))


def test_changed_options_redo_what_they_touch(experiment, tmp_path):
    config = write_experiment(tmp_path, strategies=["random"], budgets=[1])
    assert simulate(request(config, tmp_path / "out")) is ExitCode.OK
    before = stamps(tmp_path / "out")
    pool = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pool").glob("*/manifest.json")}
    config.write_text(config.read_text().replace("lr = 5e-3", "lr = 1e-3"))
    assert simulate(request(config, tmp_path / "out")) is ExitCode.OK
    after = stamps(tmp_path / "out")
    assert after["baseline"] == before["baseline"]
    assert after["random-001-seed0"] > before["random-001-seed0"]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in pool.items())
    name = "query-home-0.tif"
    write_slide(tmp_path / name, tmp_path / "masks" / name, "home", seed=999, discs=True)
    assert simulate(request(config, tmp_path / "out")) is ExitCode.OK
    changed = {path.parent.name for path, stamp in pool.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"query-home-0"}


def test_cells_at_the_same_time_give_the_same_results(experiment, tmp_path):
    config = experiment / "config.toml"
    assert simulate(request(config, tmp_path, compute=Compute(parallel=2, threads=1))) is ExitCode.OK
    assert (tmp_path / "results.csv").read_bytes() == (experiment / "out" / "results.csv").read_bytes()


def test_a_killed_run_goes_on_and_ends_alike(experiment, tmp_path):
    config, out = experiment / "config.toml", tmp_path / "out"
    command = [
        sys.executable, "-m", "uga", "simulate", str(config), "--output", str(out), "--devices", "cpu", "--threads", "1"
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        # In the middle of the first fine-tuning: the baseline is through, nothing else is.
        while not list(out.glob("work/*/tuned/work.partial/results/**/checkpoint_latest.pth")):
            assert process.poll() is None, "ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    finished = stamps(out)
    assert set(finished) == {"baseline"}
    assert simulate(request(config, out)) is ExitCode.OK
    assert stamps(out)["baseline"] == finished["baseline"]
    assert (out / "results.csv").read_bytes() == (experiment / "out" / "results.csv").read_bytes()
    assert manifest(out, "mean-001-seed0").model == manifest(experiment / "out", "mean-001-seed0").model


def test_a_failed_cell_costs_the_others_nothing(experiment, tmp_path, monkeypatch):
    carry_out = run_module.carry_out

    def fail(plans, *arguments):
        if plans[0].key.strategy is Strategy.MEAN:
            raise UserError("Nobody is there.")
        if plans[0].key.strategy is Strategy.RANDOM:
            raise ZeroDivisionError
        carry_out(plans, *arguments)

    monkeypatch.setattr(run_module, "carry_out", fail)
    assert simulate(request(experiment / "config.toml", tmp_path)) is ExitCode.DEFECT
    assert set(stamps(tmp_path)) == {"baseline"}
    failures = json.loads((tmp_path / "failures.json").read_text())["failures"]
    assert [failure["cell"] for failure in failures] == ["mean-001-seed0", "random-001-seed0"]
    assert failures[0]["error"] == "Nobody is there."
    assert summary(tmp_path).finished == 1
    monkeypatch.undo()
    assert simulate(request(experiment / "config.toml", tmp_path)) is ExitCode.OK
    assert set(stamps(tmp_path)) == CELLS
    assert not (tmp_path / "failures.json").exists()


def test_a_cell_whose_gpu_fails_is_no_defect(monkeypatch):
    def fail(*_):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(run_module, "carry_out", fail)
    failure = run_module._attempt([SimpleNamespace(key=SimpleNamespace(name="mean-001-seed0"))], None, None)
    assert failure.error.startswith("The GPU failed (CUDA error: unspecified launch failure)")
    assert failure.code == ExitCode.SLIDE_FAILED


def test_two_runs_in_one_folder_are_refused(experiment):
    out = experiment / "out"
    with run_module._own(out), pytest.raises(UserError, match="Another run works in"):
        simulate(request(experiment / "config.toml", out))


def test_devices_that_cannot_compute_as_the_pool_was_are_refused_before_anything_is_trained(experiment, monkeypatch):
    def resolve(engine, precision, device):
        assert (engine, precision) != ("auto", "auto")
        raise UserError("OpenVINO runs on the CPU only; use --engine torch on a GPU.")

    monkeypatch.setattr(run_module, "resolve_arithmetic", resolve)
    out = experiment / "out"
    before = stamps(out)
    with pytest.raises(UserError, match=r"pool was computed in .*, which cpu cannot.*--devices"):
        simulate(request(experiment / "config.toml", out))
    assert stamps(out) == before
    assert simulate(replace(request(experiment / "config.toml", out), only_report=True)) is ExitCode.OK


def test_models_are_kept_if_asked_for_later_too(experiment, tmp_path):
    config, out = tmp_path / "config.toml", experiment / "out"
    text = (experiment / "config.toml").read_text().replace('"mean", "sum", "random"', '"mean"')
    text = text.replace('compare_with = "random"', 'compare_with = "mean"')
    config.write_text(f"keep_models = true\n{text}")
    tmp_path = tmp_path / "copy"
    shutil.copytree(out, tmp_path / "out")
    assert simulate(request(config, tmp_path / "out", data=experiment)) is ExitCode.OK
    cell = tmp_path / "out" / "cells" / "mean-001-seed0"
    assert manifest(tmp_path / "out", "mean-001-seed0").model == manifest(out, "mean-001-seed0").model
    model = verify_model(cell / "model")
    assert model.sha256 == manifest(tmp_path / "out", "mean-001-seed0").model.sha256
    assert model.card.parent == trained_parent().sha256


def test_models_are_kept_of_cells_that_others_share(experiment, tmp_path):
    config, out = tmp_path / "config.toml", tmp_path / "out"
    config.write_text(f"keep_models = true\n{(experiment / 'config.toml').read_text()}")
    shutil.copytree(experiment / "out", out)
    assert simulate(request(config, out, data=experiment)) is ExitCode.OK
    shared = {cell: manifest(out, cell).shared_with for cell in ("mean-001-seed0", "sum-001-seed0")}
    (owner,) = (cell for cell, other in shared.items() if other is None)
    assert set(shared.values()) == {None, owner}
    assert verify_model(out / "cells" / owner / "model").sha256 == manifest(out, owner).model.sha256
    shutil.rmtree(out / "cells" / owner)
    config.write_text((experiment / "config.toml").read_text())
    assert simulate(request(config, out, data=experiment)) is ExitCode.OK
    assert manifest(out, owner).shared_with is None, "it is the other's, which says whose that was"


def test_a_report_is_over_what_was_computed_wherever_it_is_made(experiment, tmp_path, monkeypatch):
    out = shutil.copytree(experiment / "out", tmp_path / "out")
    monkeypatch.setattr(run_module, "resolve_training_precision", lambda *_: "bf16")
    (out / "failures.json").write_text("{}")
    before = (out / "results.csv").read_bytes()
    arguments = request(experiment / "config.toml", out, data=experiment, only_report=True)
    assert simulate(arguments) is ExitCode.OK
    assert (out / "results.csv").read_bytes() == before
    assert summary(out).finished == 4
    assert (out / "failures.json").exists(), "no cell was worked on"


def test_one_pool_of_all_centres_in_which_the_other_centre_is_rare(tmp_path):
    config = write_experiment(
        tmp_path,
        strategies=["uncertainty-diversity", "random"],
        budgets=[1],
        query='scope = "cohort"\nrarity = [0.05, 1.0]\nunsure_um = 2.0\nper_slide_cap = 1',
    )
    out = tmp_path / "out"
    assert simulate(request(config, out)) is ExitCode.OK
    found = summary(out)
    assert [(pool.patches, pool.shifted) for pool in found.rarities] == [(19, 1), (18, 18)]
    shifted = {(each.rarity, each.strategy): each.shifted for each in found.choices}
    assert shifted[0.05, Strategy.UNCERTAINTY_DIVERSITY] >= shifted[0.05, Strategy.RANDOM]
    assert shifted[1.0, Strategy.RANDOM] == 1
    assert all(each.patches == 1 for each in found.choices)
    assert {point.rarity for point in found.points if point.strategy} == {0.05, 1.0}
    assert (out / "figures" / "gain-by-rarity.svg").exists()
    assert (out / "cells" / "random-001-seed0-rarity0.05" / "manifest.json").exists()
    again = load_config(str(out / "cells" / "random-001-seed0-rarity0.05" / "manifest.json")).config
    assert again.query.rarity == (0.05,)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    config = write_experiment(tmp_path)
    config.write_text(config.read_text().replace("tumour=2", "tumour=2 necrosis=3"))
    with pytest.raises(UserError, match="has the labels"):
        simulate(request(config, tmp_path / "out"))
    config = write_config(tmp_path)
    config.write_text(config.read_text() + '\nlabel = "necrosis"\n')
    with pytest.raises(UserError, match=r"no label 'necrosis'; set evaluation\.label"):
        simulate(request(config, tmp_path / "out"))
