"""The real code from patches to model folder, with a network of a few thousand weights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from training_helpers import draw_patch, tiny_preset, write_synthetic_dataset

from uga.errors import UserError
from uga.model.ensemble import Ensemble
from uga.model.folder import verify_model
from uga.training.dataset import Dataset, preprocess
from uga.training.folds import results_folder, train_folds, validation_dice
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


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from uga.training.dataset import Dataset
from uga.training.environment import NnunetFolders
folders = NnunetFolders(Path(sys.argv[1]))
folders.activate()
from uga.training.folds import train_folds
from uga.training.trainer import UgaTrainer
finish = UgaTrainer.on_epoch_end
def die(self):
    finish(self)
    if self.current_epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
UgaTrainer.on_epoch_end = die
train_folds(Dataset("Dataset501_Synthetic", folders), [0], device=torch.device("cpu"), threads=1)
"""


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    undisturbed = _prepared(tmp_path / "undisturbed", epochs=5)
    train_folds(undisturbed, [0], device=CPU, threads=1)

    killed = _prepared(tmp_path / "killed", epochs=5)
    run = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "killed")],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    fold = results_folder(killed) / "fold_0"
    assert torch.load(fold / "checkpoint_latest.pth", weights_only=True)["current_epoch"] == 3
    assert not (fold / "checkpoint_final.pth").exists()

    killed.folders.activate()
    train_folds(killed, [0], device=CPU, threads=1)
    assert not (fold / "checkpoint_latest.pth").exists()
    wanted, found = _weights(undisturbed, 0), _weights(killed, 0)
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensor, found[name]), name


def test_folds_start_from_different_weights_and_finished_ones_are_kept(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=1, iterations=1)
    results = train_folds(dataset, [0, 1], device=CPU, threads=1)
    first, second = _weights(dataset, 0), _weights(dataset, 1)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    stamps = [(results / f"fold_{fold}" / "checkpoint_final.pth").stat().st_mtime_ns for fold in (0, 1)]
    train_folds(dataset, [0, 1], device=CPU, threads=1)
    assert stamps == [(results / f"fold_{fold}" / "checkpoint_final.pth").stat().st_mtime_ns for fold in (0, 1)]


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
