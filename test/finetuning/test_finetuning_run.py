"""From corrected packages to a released model, through the real code, with networks of a few thousand weights."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finetuning_helpers import CPU, FOLDS, draw_foreign, write_corrections
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from PIL import Image

from uga.errors import ExitCode, UserError
from uga.finetuning.assess import fold_probabilities
from uga.finetuning.options import TrainingOptions
from uga.finetuning.report import _warnings
from uga.finetuning.run import FinetuningRequest, NotReleasedError, _Run, finetune
from uga.finetuning.schema import FinetuningReport
from uga.finetuning.splits import slide_digest
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model, verify_model
from uga.training.packs import model_pack

OPTIONS = TrainingOptions(epochs=4, iterations=8, lr=5e-3, variants=10)


def request(parent, folder, **changes) -> FinetuningRequest:
    made = FinetuningRequest(
        input=folder / "in", output=folder / "out", model=parent.path, training=OPTIONS, tolerance=1
    )
    return replace(made, **changes)


def hashes(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report_of(folder) -> FinetuningReport:
    return FinetuningReport.model_validate_json((folder / "report.json").read_bytes())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, parent):
    """A fine-tuning with two slides of corrections, one package unchanged and one that cannot be used."""
    folder = tmp_path_factory.mktemp("outcome")
    packages = write_corrections(folder / "in", parent, per_slide=4)
    (packages[0] / "correction.png").unlink()
    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(packages[1] / "correction.png")
    before = hashes(parent.path)
    torch.set_num_threads(1)
    model = finetune(request(parent, folder))
    assert hashes(parent.path) == before, "the parent was written to"
    return folder, model


def test_the_new_model_has_learned_the_other_centre(outcome, parent):
    _, model = outcome
    image, label = draw_foreign(np.random.default_rng(77))
    old, new = (fold_probabilities(Ensemble(m, device=CPU), image).mean(0).argmax(0).numpy() for m in (parent, model))
    dice = [2 * ((p == 1) & (label == 1)).sum() / ((p == 1).sum() + (label == 1).sum()) for p in (old, new)]
    assert dice[1] > dice[0] + 0.2


def test_a_run_may_leave_out_the_comparison_on_corrections(parent, tmp_path):
    write_corrections(tmp_path / "in", parent, per_slide=4)
    for package in sorted((tmp_path / "in").rglob("correction.png"))[:2]:
        package.unlink()
    finetune(request(parent, tmp_path, compare_corrections=False))
    report = report_of(tmp_path / "out")
    assert report.comparisons.corrections is None
    assert report.comparisons.held_out_corrections is None
    assert report.comparisons.old is not None
    assert {used.fold for used in report.corrections} == {0, 1}
    assert all(used.before == {} for used in report.corrections)
    assert "come from one slide" not in (tmp_path / "out" / "report.html").read_text()


def test_the_model_folder_is_complete_and_tells_its_lineage(outcome, parent):
    folder, model = outcome
    assert verify_model(folder / "out" / "model").sha256 == model.sha256 != parent.sha256
    card = model.card
    assert card.parent == parent.sha256
    assert card.labels == parent.labels
    assert card.training.seed == OPTIONS.seed
    details = card.training.details
    report = report_of(folder / "out")
    assert [details[f"correction {n:03d}"] for n in range(6)] == [used.sha256 for used in report.corrections]
    assert details["option lr"] == OPTIONS.lr
    assert details["forced"] is False
    for name in ("plans.json", "dataset.json"):
        assert json.loads((model.path / name).read_text()) == json.loads((parent.path / name).read_text())
    for purpose in ("replay", "holdout"):
        assert model_pack(model, purpose).index == model_pack(parent, purpose).index
    assert not list((folder / "out").rglob("*.partial"))


def test_in_the_next_round_a_slide_is_judged_by_the_fold_that_has_never_learned_from_it(outcome, tmp_path):
    folder, model = outcome
    first = {used.slide: used.fold for used in report_of(folder / "out").corrections}
    assert model.card.training.corrected == {slide_digest(slide): fold for slide, fold in first.items()}
    assert set(first.values()) == {0, 1}
    write_corrections(tmp_path / "in", model, slides=3, per_slide=1)
    for seed in range(3):  # by another seed the slides would be dealt otherwise
        options = TrainingOptions(epochs=1, iterations=1, seed=seed)
        output = tmp_path / f"out{seed}"
        second = finetune(request(model, tmp_path, output=output, training=options, compare_corrections=False))
        folds = {used.slide: used.fold for used in report_of(output).corrections}
        assert folds.keys() == {*first, "slide2"}
        assert first.items() < folds.items()
        assert second.card.training.corrected == {slide_digest(slide): fold for slide, fold in folds.items()}


def test_nnunet_loads_the_folder_and_predicts_what_we_do(outcome):
    _, model = outcome
    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.path), use_folds=None)
    batch = torch.rand(2, 3, 32, 32)
    ours = Ensemble(model, device=CPU).logits(batch)
    assert len(predictor.list_of_parameters) == FOLDS
    for fold, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        predictor.network.eval()
        with torch.inference_mode():
            torch.testing.assert_close(ours[fold], predictor.network(batch))
    assert not torch.equal(ours[0], ours[1])


def test_the_archive_unpacks_to_the_model_and_is_the_same_each_time(outcome, tmp_path):
    folder, model = outcome
    archive = folder / "out" / "model.tar.gz"
    with tarfile.open(archive) as tar:
        assert {entry.uid for entry in tar} == {entry.mtime for entry in tar} == {0}
        tar.extractall(tmp_path / "opt", filter="data")
    assert hashes(tmp_path / "opt") == hashes(model.path)
    assert load_model(tmp_path / "opt").sha256 == model.sha256
    from uga.finetuning.release import write_archive  # noqa: PLC0415

    write_archive(tmp_path / "opt", tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_the_report_has_both_ensembles_side_by_side(outcome, parent):
    folder, model = outcome
    report = report_of(folder / "out")
    assert (report.parent.sha256, report.model.sha256) == (parent.sha256, model.sha256)
    assert (len(report.corrections), len(report.unchanged), len(report.refused)) == (6, 1, 1)
    assert "77" in report.refused[0].reason
    assert report.refused[0].file.startswith("slide0/")
    compared = report.comparisons
    assert compared.held_out_corrections.after.dice["tumour"] > compared.held_out_corrections.before.dice["tumour"]
    assert compared.held_out_corrections.before.patches == compared.corrections.before.patches == 6
    assert compared.old_source == "holdout"
    assert compared.old.before.disagreement > 0
    assert report.released
    assert report.guard.passed
    by_slide = {used.slide: used.fold for used in report.corrections}
    assert sorted(by_slide.values()) == [0, 1]
    assert all(0 < used.changed < 1 for used in report.corrections)
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<img") == 5 * 6
    assert "http" not in page.replace("http-equiv", "")
    assert str(folder) not in page + (folder / "out" / "report.json").read_text()


def test_asked_again_nothing_is_done_and_other_corrections_are_refused(outcome, parent, tmp_path):
    folder, model = outcome
    stamp = (folder / "out" / "model.tar.gz").stat().st_mtime_ns
    assert finetune(request(parent, folder)).sha256 == model.sha256
    assert (folder / "out" / "model.tar.gz").stat().st_mtime_ns == stamp
    write_corrections(tmp_path / "in", parent, seed=6)
    with pytest.raises(UserError, match="exists already"):
        finetune(request(parent, tmp_path, output=folder / "out"))


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[3:]
from test_finetuning_run import request
from uga.finetuning.run import finetune
from uga.model.folder import load_model
from uga.training.trainer import UgaTrainer
finish = UgaTrainer.on_epoch_end
def die(self):
    finish(self)
    if (self.fold, self.current_epoch) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
UgaTrainer.on_epoch_end = die
finetune(request(load_model(Path(sys.argv[1])), Path(sys.argv[2])))
"""


def test_killed_and_started_again_the_weights_are_the_same(outcome, parent, tmp_path):
    folder, model = outcome
    shutil.copytree(folder / "in", tmp_path / "in")
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(parent.path), str(tmp_path), *paths],
        check=False, capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out" / "report.json").exists()
    results = next((tmp_path / "out" / "work.partial" / "results").rglob("fold_0")).parent
    assert (results / "fold_0" / "checkpoint_final.pth").exists()
    assert torch.load(results / "fold_1" / "checkpoint_latest.pth", weights_only=True)["current_epoch"] == 2

    torch.set_num_threads(1)
    again = finetune(request(parent, tmp_path))
    assert again.sha256 == model.sha256
    assert not (tmp_path / "out" / "work.partial").exists()


def test_poisoned_corrections_trip_the_guard_and_force_overrides_it(parent, tmp_path):
    write_corrections(tmp_path / "in", parent, poisoned=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.tar.gz").write_bytes(b"of a model that was moved away")
    strict = request(parent, tmp_path, training=OPTIONS.model_copy(update={"epochs": 2}), tolerance=0.02)
    with pytest.raises(NotReleasedError, match="not released: On old patches tumour lost") as trip:
        finetune(strict)
    assert trip.value.exit_code == 1
    out = tmp_path / "out"
    assert not (out / "model").exists()
    assert not (out / "model.tar.gz").exists()
    report = report_of(out)
    assert not report.released
    assert report.guard.lost["tumour"] > 0.02
    assert "Not released" in (out / "report.html").read_text()

    trained = {path: path.stat().st_mtime_ns for path in (out / "work.partial").rglob("checkpoint_final.pth")}
    forced = finetune(replace(strict, force=True))
    assert trained, "force must not train again"
    assert forced.card.training.details["forced"] is True
    assert report_of(out).forced
    assert "by force" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("fault", "words"),
    [(MemoryError(), "ran out of memory"), (torch.AcceleratorError("CUDA error: busy"), "The GPU failed")],
)
def test_a_machine_that_fails_is_not_taken_for_the_guard(parent, tmp_path, monkeypatch, fault, words):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr("uga.finetuning.run.train_folds", fail)
    write_corrections(tmp_path / "in", parent, slides=1, per_slide=1)
    (tmp_path / "out").mkdir()
    stale = [tmp_path / "out" / name for name in ("model.tar.gz", "report.json", "report.html")]
    for file in stale:
        file.write_text("of another fine-tuning")
    with pytest.raises(UserError, match=words) as stop:
        finetune(request(parent, tmp_path))
    assert stop.value.exit_code == ExitCode.BAD_REQUEST
    assert not any(file.exists() for file in stale)


def test_one_slide_no_old_patches_and_only_one_kind_of_error(parent, tmp_path, caplog):
    """Every fold learns from all corrections, and the report says what nobody could check."""
    bare = tmp_path / "bare"
    shutil.copytree(parent.path, bare)
    card = json.loads((bare / "model.json").read_text())
    for purpose in ("replay", "holdout"):
        shutil.rmtree(bare / purpose)
        card["files"] = {path: value for path, value in card["files"].items() if not path.startswith(purpose)}
    (bare / "model.json").write_text(json.dumps(card))
    model = load_model(bare)
    write_corrections(tmp_path / "in", model, slides=1, predicted=1)
    finetune(request(model, tmp_path, training=TrainingOptions(epochs=1, iterations=2, variants=2)))
    report = report_of(tmp_path / "out")
    assert report.balance["tumour"].taken > report.balance["tumour"].held > 0
    assert {used.fold for used in report.corrections} == {None}
    assert report.comparisons.held_out_corrections is None
    assert report.comparisons.old is None
    assert report.guard.passed is None
    assert report.replay_patches == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "nothing guards against forgetting" in page
    assert "come from one slide" in page
    for said in (page, caplog.text):
        assert "The corrections take tumour away from" in said


def test_a_pack_in_the_input_replaces_the_models_own(parent, tmp_path):
    write_corrections(tmp_path / "in", parent, slides=1, per_slide=1)
    shutil.copytree(parent.path / "replay", tmp_path / "in" / "replay")
    index = json.loads((tmp_path / "in" / "replay" / "pack.json").read_text())
    index["items"] = index["items"][:5]
    (tmp_path / "in" / "replay" / "pack.json").write_text(json.dumps(index))
    finetune(
        request(
            parent, tmp_path, training=TrainingOptions(epochs=1, iterations=1), parallel=2, guard_patches=2, tolerance=1
        )
    )
    report = report_of(tmp_path / "out")
    assert report.replay_patches == 5
    assert not report.refused
    assert report.comparisons.old.before.patches == 2
    index["labels"] = {"background": 0, "other": 1}
    (tmp_path / "in" / "replay" / "pack.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="give a pack of this model's training"):
        finetune(request(parent, tmp_path, output=tmp_path / "other"))


def test_what_is_shown_of_a_file_any_report_can_hold(tmp_path):
    run = _Run(request(SimpleNamespace(path=tmp_path), tmp_path), None, None, None, None)
    for place in (tmp_path / "in" / "deep", tmp_path):
        assert run._shown(place / os.fsdecode(b"caf\xe9.xml")).endswith("caf\\udce9.xml")


@pytest.mark.parametrize(("slides", "said"), [("aa", "come from one slide"), ("ab", "learn from all corrected slides")])
def test_the_report_says_why_nothing_was_held_out(slides, said):
    used = [SimpleNamespace(slide=slide, fold=None) for slide in slides]
    compared, guard = SimpleNamespace(old=None), SimpleNamespace(passed=True)
    report = SimpleNamespace(corrections=used, comparisons=compared, guard=guard, balance={})
    (warning,) = _warnings(report)
    assert said in warning


def test_nothing_usable_is_a_bad_request(parent, tmp_path):
    packages = write_corrections(tmp_path / "in", parent, slides=1)
    for package in packages:
        (package / "correction.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no correction that can be used \(0 used, 0 unchanged, 2 refused\)") as stop:
        finetune(request(parent, tmp_path))
    assert stop.value.exit_code == ExitCode.BAD_REQUEST
    assert not (tmp_path / "out").exists()


def test_the_output_is_neither_the_input_nor_in_the_model(parent, tmp_path):
    write_corrections(tmp_path / "in", parent, slides=1)
    for output in (tmp_path / "in", parent.path / "out", parent.path):
        with pytest.raises(UserError, match="name another folder with --output"):
            finetune(request(parent, tmp_path, output=output))
    assert not (parent.path / "out").exists()
