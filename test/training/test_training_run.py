"""The real code from patches to model folder, with a network of a few thousand weights."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from PIL import Image
from training_helpers import draw_patch, tiny_preset, write_cohort, write_synthetic_dataset, write_tiny_preset

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import ExitCode, ModelError, UserError
from uga.model.ensemble import Ensemble
from uga.model.folder import verify_model
from uga.training.dataset import Dataset, preprocess
from uga.training.folds import results_folder, train_folds, validation_dice
from uga.training.packs import model_pack, write_pack
from uga.training.release import ReleaseNotes, release
from uga.training.stain import HedJitter
from uga.training.trainer import UgaTrainer

CPU = torch.device("cpu")
NOTES = ReleaseNotes(name="tiny", description="A test.", data="Synthetic.")


@pytest.fixture(autouse=True)
def _environment():
    before, threads = dict(os.environ), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)


def _prepared(work: Path, **settings: int) -> Dataset:
    preset = tiny_preset(**settings)
    dataset = write_synthetic_dataset(work, preset)
    preprocess(dataset, preset, folds=2, seed=0)
    return dataset


def _weights(dataset: Dataset, fold: int) -> dict[str, torch.Tensor]:
    path = results_folder(dataset) / f"fold_{fold}" / "checkpoint_final.pth"
    return torch.load(path, weights_only=True)["network_weights"]


def test_two_folds_become_a_model_that_nnunet_and_we_load(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=15, iterations=8)
    results = train_folds(dataset, [0, 1], device=CPU, threads=1)
    for fold in (0, 1):
        agreement = validation_dice(results, fold)["tumour"]
        assert agreement.dice is not None
        assert agreement.dice == pytest.approx(2 * agreement.tp / (2 * agreement.tp + agreement.fp + agreement.fn))
        assert agreement.dice > 0.8
        assert (results / f"fold_{fold}" / "progress.png").stat().st_size > 0

    model = release(dataset, tiny_preset(), tmp_path / "model", folds=2, notes=NOTES)
    verify_model(model.path)
    splits = json.loads((model.path / "splits.json").read_text())
    assert [sorted(split["train"] + split["val"]) for split in splits] == [["p0", "p1", "p2", "p3"]] * 2
    assert model.card.training.details["fold_0_validation_tumour_dice"] > 0.8
    assert model.labels == {"background": 0, "tumour": 1}

    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.path), use_folds=None)
    rgb, label = draw_patch(np.random.default_rng(99), 32, tumour=True)
    batch = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    ours = Ensemble(model, device=CPU).logits(batch)
    assert len(predictor.list_of_parameters) == 2
    for fold, parameters in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(parameters)
        predictor.network.eval()
        with torch.inference_mode():
            torch.testing.assert_close(ours[fold], predictor.network(batch))
    assert not torch.equal(ours[0], ours[1])
    predicted = ours.softmax(2).mean(0)[0].argmax(0).numpy()
    assert (predicted == label).mean() > 0.9


def test_halved_weights_are_the_same_for_every_reader_and_packs_are_verified(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=2)
    train_folds(dataset, [0, 1], device=CPU, threads=1)
    packs = [
        write_pack(dataset, tmp_path / p, purpose=p, patches=4, size_px=32, max_bytes=10**6, quality=90, seed=0)
        for p in ("replay", "holdout")
    ]
    whole = release(dataset, tiny_preset(), tmp_path / "whole", folds=2, notes=NOTES)
    model = release(dataset, tiny_preset(), tmp_path / "half", folds=2, notes=NOTES, weights="float16", packs=packs)
    assert verify_model(model.path).sha256 != whole.sha256
    assert whole.card.decisive_files == model.card.decisive_files

    batch = torch.rand(1, 3, 32, 32)
    ours = Ensemble(model, device=CPU).logits(batch)
    exact = Ensemble(whole, device=CPU).logits(batch)
    assert not torch.equal(ours, exact)
    torch.testing.assert_close(ours, exact, rtol=0.01, atol=0.01)
    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.path), use_folds=None)
    for fold, parameters in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(parameters)
        predictor.network.eval()
        with torch.inference_mode():
            assert torch.equal(ours[fold], predictor.network(batch))
    sizes = [sum(f.stat().st_size for f in m.path.glob("fold_*/model.safetensors")) for m in (whole, model)]
    assert sizes[1] < 0.7 * sizes[0]

    replay = model_pack(model, "replay")
    assert replay.index == packs[0].index
    assert model_pack(whole, "replay") is None
    assert {file.relative_to(model.path).as_posix() for file in replay.files()} <= model.card.files.keys()
    replay.labels_file(replay.index.items[0]).write_bytes(b"altered")
    with pytest.raises(ModelError, match="altered"):
        verify_model(model.path)


def test_packs_of_other_data_are_not_released(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    train_folds(dataset, [0, 1], device=CPU, threads=1)
    pack = write_pack(
        dataset, tmp_path / "replay", purpose="replay", patches=1, size_px=32, max_bytes=10**6, quality=90, seed=0
    )
    other = replace(pack, index=pack.index.model_copy(update={"spacing_um": 0.5}))
    with pytest.raises(UserError, match="another spacing"):
        release(dataset, tiny_preset(), tmp_path / "model", folds=2, notes=NOTES, packs=[other])


_KILLED = """
import os, signal, sys
from uga.cli.console import execute
from uga.cli.main import app
from uga.training.environment import NnunetFolders
from pathlib import Path
NnunetFolders(Path(sys.argv[1])).activate()
from uga.training.trainer import UgaTrainer
finish = UgaTrainer.on_epoch_end
def die(self):
    finish(self)
    if (self.fold, self.current_epoch) == (1, 3):
        os.kill(os.getpid(), signal.SIGKILL)
UgaTrainer.on_epoch_end = die
execute(app, sys.argv[2:])
"""


def _command(tmp_path: Path, output: str) -> list[str]:
    return [
        "train", str(tmp_path / "cohort.csv"), "--output", str(tmp_path / output),
        "--preset", str(tmp_path / "tiny.json"), "--labels", "background=0,1 tumour=2", "--folds", "2",
        "--max-tumour-per-slide", "2", "--max-benign-per-slide", "2", "--benign-per-tumour", "1", "--seed", "3",
        "--threads", "1", "--replay-patches", "3", "--holdout-patches", "2", "--name", "mine", "--devices", "cpu",
    ]  # fmt: skip


def test_one_command_from_files_to_a_model_also_when_it_is_killed_in_the_middle(tmp_path):
    write_cohort(tmp_path, held_out=1)
    write_tiny_preset(tmp_path / "tiny.json", epochs=5, iterations=2)
    assert execute(app, _command(tmp_path, "undisturbed")) == ExitCode.OK

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "killed" / "work"), *_command(tmp_path, "killed")],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "killed" / "model").exists()
    results = next((tmp_path / "killed" / "work" / "results").glob("*/*"))
    assert (results / "fold_0" / "validation.json").exists()
    assert torch.load(results / "fold_1" / "checkpoint_latest.pth", weights_only=True)["current_epoch"] == 3
    assert not (results / "fold_1" / "checkpoint_final.pth").exists()

    assert execute(app, _command(tmp_path, "killed")) == ExitCode.OK
    whole, resumed = verify_model(tmp_path / "undisturbed" / "model"), verify_model(tmp_path / "killed" / "model")
    assert whole.sha256 == resumed.sha256
    assert {name: digest for name, digest in whole.card.files.items() if name.startswith(("replay", "holdout"))} == {
        name: digest for name, digest in resumed.card.files.items() if name.startswith(("replay", "holdout"))
    }
    assert whole.name == "mine"
    assert whole.card.training.seed == 3
    assert whole.card.training.data == "4 slides of 4 patients; by centre: 4 1; by class: 3 macro, 1 negative."
    assert len(model_pack(whole, "replay").index.items) == 3
    held_out = model_pack(whole, "holdout").index.items
    assert {item.patient for item in held_out} == {"p4"}
    assert not {item.case for item in model_pack(whole, "replay").index.items} & {item.case for item in held_out}
    for name in ("fold_0.png", "fold_1.png", "overview.png"):
        with Image.open(tmp_path / "killed" / "curves" / name) as picture:
            assert picture.size == (1080, 960)

    assert execute(app, _command(tmp_path, "killed")) == ExitCode.BAD_REQUEST


def _scripted(monkeypatch, dices):
    """The pseudo Dice of each epoch as a test wants it; returns the weights after each epoch."""
    validate, finish, weights = UgaTrainer.on_validation_epoch_end, UgaTrainer.on_epoch_end, {}

    def on_validation_epoch_end(self, outputs):
        validate(self, outputs)
        self.logger.local_logger.my_fantastic_logging["mean_fg_dice"][-1] = dices[self.current_epoch]

    def on_epoch_end(self):
        weights[self.current_epoch + 1] = {n: t.clone() for n, t in self.network.state_dict().items()}
        finish(self)
        if self.current_epoch == getattr(on_epoch_end, "die_after", None):
            raise KeyboardInterrupt

    monkeypatch.setattr(UgaTrainer, "on_validation_epoch_end", on_validation_epoch_end)
    monkeypatch.setattr(UgaTrainer, "on_epoch_end", on_epoch_end)
    return weights, on_epoch_end


def test_a_fold_that_no_longer_improves_ends_with_its_best_weights(tmp_path, monkeypatch):
    weights, _ = _scripted(monkeypatch, [float("nan"), 0.5, 0.6, 0.3, 0.3, 0.3, 0.9, 0.9, 0.9, 0.9])
    dataset = _prepared(tmp_path / "work", epochs=10, iterations=1, patience=3)
    train_folds(dataset, [0], device=CPU, threads=1)
    assert max(weights) == 6
    found = _weights(dataset, 0)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights[3].items())
    assert any(not torch.equal(found[name], tensor) for name, tensor in weights[6].items())
    fold = results_folder(dataset) / "fold_0"
    assert len(json.loads((fold / "curves.json").read_text())["train_losses"]) == 6
    assert not (fold / "checkpoint_best.pth").exists()
    assert validation_dice(fold.parent, 0)


def test_an_early_end_is_the_same_after_a_resumption(tmp_path, monkeypatch):
    dices = [0.5, 0.6, 0.3, 0.3, 0.3, 0.3, 0.3]
    hashes = []
    for die_after in (None, 2, 4, 5):
        _, hook = _scripted(monkeypatch, dices)
        dataset = _prepared(tmp_path / str(die_after), epochs=7, iterations=1, patience=3)
        hook.die_after = die_after
        if die_after is not None:
            with pytest.raises(KeyboardInterrupt):
                train_folds(dataset, [0], device=CPU, threads=1)
            hook.die_after = None
        train_folds(dataset, [0], device=CPU, threads=1)
        hashes.append({name: tensor.sum().item() for name, tensor in _weights(dataset, 0).items()})
        monkeypatch.undo()
    assert all(each == hashes[0] for each in hashes)


def test_while_nothing_is_found_a_fold_goes_on(tmp_path, monkeypatch):
    weights, _ = _scripted(monkeypatch, [0.0] * 5)
    dataset = _prepared(tmp_path / "work", epochs=5, iterations=1, patience=1)
    train_folds(dataset, [0], device=CPU, threads=1)
    assert max(weights) == 5


def test_folds_start_from_different_weights_and_finished_ones_are_kept(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    results = train_folds(dataset, [0, 1], device=CPU, threads=1)
    first, second = _weights(dataset, 0), _weights(dataset, 1)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    stamps = [(results / f"fold_{fold}" / "checkpoint_final.pth").stat().st_mtime_ns for fold in (0, 1)]
    train_folds(dataset, [0, 1], device=CPU, threads=1)
    assert stamps == [(results / f"fold_{fold}" / "checkpoint_final.pth").stat().st_mtime_ns for fold in (0, 1)]


def test_every_fold_trains_with_kernels_that_are_not_chosen_by_stop_watch(tmp_path, monkeypatch):
    def predictor_as_on_a_gpu(**options):
        torch.backends.cudnn.benchmark = True
        return nnUNetPredictor(**options)

    def on_train_start(self):
        flags.append((torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark))
        start(self)

    flags, start = [], UgaTrainer.on_train_start
    monkeypatch.setattr("uga.training.trainer.nnUNetPredictor", predictor_as_on_a_gpu)
    monkeypatch.setattr(UgaTrainer, "on_train_start", on_train_start)
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    with torch.backends.cudnn.flags(deterministic=False, benchmark=True):
        train_folds(dataset, [0, 1], device=CPU, threads=1)
    assert flags == [(True, False)] * 2


def test_results_of_other_settings_are_not_resumed(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    train_folds(dataset, [0], device=CPU, threads=1)
    before = _weights(dataset, 0)
    preprocess(dataset, tiny_preset(epochs=1, iterations=1, seed=5), folds=2, seed=0)
    train_folds(dataset, [0], device=CPU, threads=1)
    assert any(not torch.equal(before[name], tensor) for name, tensor in _weights(dataset, 0).items())


def test_unfinished_folds_are_not_released(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    train_folds(dataset, [0], device=CPU, threads=1)
    with pytest.raises(UserError, match=r"Fold 1 .* not trained to its end"):
        release(dataset, tiny_preset(), tmp_path / "model", folds=2, notes=NOTES)


def test_leaking_splits_stop_the_training(tmp_path):
    dataset = _prepared(tmp_path / "work")
    splits = [{"train": ["p0_000", "p1_000"], "val": ["p0_001"]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(UserError, match="patient 'p0' in training and validation"):
        train_folds(dataset, [0], device=CPU, threads=1)


def test_augmentation_is_reproducible_and_stain_jitter_is_inserted(tmp_path):
    dataset = _prepared(tmp_path / "work")
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    plans = dataset.plans()
    plans["uga"]["training"]["hed_jitter"] = 0.05
    trainer = UgaTrainer({**plans, "continue_training": False}, "2d", 0, dataset.dataset_json(), CPU)
    trainer.initialize()
    transforms = trainer.get_dataloaders()[0].data_loader.transforms.transforms
    assert isinstance(transforms[1], HedJitter)
    blurs = [t.transform for t in transforms if isinstance(getattr(t, "transform", None), GaussianBlurTransform)]
    assert [blur.benchmark for blur in blurs] == [False]
