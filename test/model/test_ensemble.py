"""Our networks against nnU-Net's own predictor, on the folder it trained and on the folder we made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from model_helpers import make_trained_folder
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from safetensors.torch import load_file, save_file

from uga.errors import DeviceError, ModelError
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.model.normalisation import StatisticsAccumulator

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


TRAINERS = {trainer.__name__: trainer for trainer in (nnUNetTrainer, nnUNetTrainerBN)}


@pytest.fixture
def predictor_on(monkeypatch):
    # nnU-Net finds a trainer by importing all of its trainers, some of which need torchvision
    monkeypatch.setattr(predict_from_raw_data, "recursive_find_trainer_class_by_name", TRAINERS.__getitem__)

    def predictor_on_folder(folder: Path, folds: int) -> nnUNetPredictor:
        predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), tuple(range(folds)))
        return predictor

    return predictor_on_folder


def normalised_by_nnunet(predictor: nnUNetPredictor, rgb: np.ndarray) -> torch.Tensor:
    """The image after nnU-Net's preprocessor: (3, h, w)."""
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    image = rgb.transpose(2, 0, 1)[:, None].astype(np.float32)
    data, _, _ = preprocessor.run_case_npy(
        image,
        None,
        {"spacing": (999.0, 1.0, 1.0)},
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.dataset_json,
    )
    return torch.from_numpy(np.asarray(data))[:, 0]


@pytest.mark.parametrize("folder", ["source", "model"])
@pytest.mark.parametrize("normalisation", ["zscore", "rgb01"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_logits_of_every_fold_equal_nnunets(tmp_path, predictor_on, network, norm, normalisation, folder):
    trained = make_trained_folder(tmp_path, folds=2, network=network, norm=norm, normalisation=normalisation)
    rgb = np.random.default_rng(3).integers(1, 256, (64, 64, 3), dtype=np.uint8)
    model = load_model(trained.model)
    statistics = StatisticsAccumulator()
    statistics.add(rgb)
    batch = model.normalisation.apply(rgb, statistics.result())[None]
    ours = Ensemble(model, device=CPU).logits(batch)

    predictor = predictor_on(getattr(trained, folder), folds=2)
    case = normalised_by_nnunet(predictor, rgb)
    predictor.network.eval()
    for k, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            theirs = predictor.network(case[None])
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours[k], theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours[0], ours[1], atol=0.1)


def test_logits_do_not_depend_on_the_batch_a_window_is_in(tmp_path):
    ensemble = Ensemble(load_model(make_trained_folder(tmp_path, folds=2).model), device=CPU)
    batch = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together = ensemble.logits(batch)
    assert together.shape == (2, 3, 3, 64, 64)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[:, 1:2], ensemble.logits(batch[1:2]), rtol=1e-5, atol=1e-5)
    assert torch.equal(together, ensemble.logits(batch))


class SmallDevice:
    """An engine with memory for so many windows at a time, whose results are overwritten by the next call."""

    def __init__(self, ensemble: Ensemble, room: int, error: Exception | None = None) -> None:
        self.real, self.room = ensemble._engine, room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.asked, self.released, self.last = [], 0, torch.empty(0)
        ensemble._engine = self

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(batch))
        if len(batch) > self.room:
            raise self.error
        self.last.fill_(torch.nan)
        self.last = self.real.logits(batch).clone()
        return self.last

    def release(self) -> None:
        self.released += 1


def joined(ensemble: Ensemble, batch: torch.Tensor) -> torch.Tensor:
    """Logits of all windows, put together before the next ones are asked for."""
    with torch.inference_mode():
        found = torch.full((len(ensemble), len(batch), 3, 64, 64), torch.nan)
        for part, logits in ensemble.logits_in_parts(batch):
            found[:, part] = logits
        return found


@pytest.mark.parametrize("mirroring", [False, True])
def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(tmp_path, caplog, monkeypatch, mirroring):
    ensemble = Ensemble(load_model(make_trained_folder(tmp_path, folds=2).model), device=CPU, mirroring=mirroring)
    batch = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = ensemble.logits(batch)
    passes = ensemble.passes_per_window // len(ensemble)
    device = SmallDevice(ensemble, room=3)
    torch.testing.assert_close(joined(ensemble, batch), expected, rtol=1e-5, atol=1e-5)
    assert device.asked == [7, *(size for size in (3, 2, 2) for _ in range(passes))]
    assert device.released == 1
    assert [record.levelname for record in caplog.records if "too little memory for 7 windows" in record.message] == [
        "WARNING"
    ]
    device.asked.clear()
    joined(ensemble, batch[:4])
    assert device.asked == [2] * 2 * passes
    assert device.released == 1


def test_a_gpu_gets_batches_until_they_are_too_large_for_it(tmp_path):
    ensemble = Ensemble(load_model(make_trained_folder(tmp_path, folds=2).model), device=CPU)
    assert ensemble.batch_size == 1
    ensemble.device = torch.device("cuda")
    assert ensemble.batch_size == 8
    device = SmallDevice(ensemble, room=2)
    joined(ensemble, torch.rand(8, 3, 64, 64))
    assert (ensemble.batch_size, device.released) == (2, 2)


def test_one_window_that_does_not_fit_and_other_faults_are_raised(tmp_path):
    ensemble = Ensemble(load_model(make_trained_folder(tmp_path, folds=2).model), device=CPU)
    device = SmallDevice(ensemble, room=0)
    with pytest.raises(torch.OutOfMemoryError):
        joined(ensemble, torch.rand(4, 3, 64, 64))
    assert device.asked == [4, 2, 1]
    device = SmallDevice(ensemble, room=0, error=RuntimeError("no such kernel"))
    ensemble._room = 4
    with pytest.raises(RuntimeError, match="no such kernel"):
        joined(ensemble, torch.rand(4, 3, 64, 64))
    assert device.asked == [4]


def test_a_device_that_no_longer_computes_is_told_from_a_full_one(tmp_path, monkeypatch):
    ensemble = Ensemble(load_model(make_trained_folder(tmp_path, folds=2).model), device=CPU)
    ensemble.check_device()

    def fails_with(error):
        def ones(*_args, **_kwargs):
            raise error

        monkeypatch.setattr(torch, "ones", ones)

    fails_with(torch.OutOfMemoryError("CUDA out of memory"))
    ensemble.check_device()
    fails_with(RuntimeError("CUDA error: an illegal memory access was encountered.\nCompile with"))
    with pytest.raises(DeviceError, match=r"^cpu no longer computes \(CUDA error: an illegal .* encountered\); start"):
        ensemble.check_device()


def test_mirroring_is_nnunets(tmp_path, predictor_on):
    trained = make_trained_folder(tmp_path, folds=2, norm="batch")
    model = load_model(trained.model)
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, ours = (Ensemble(model, device=CPU, mirroring=mirroring) for mirroring in (False, True))
    predictor = predictor_on(trained.source, folds=2)
    predictor.use_mirroring = True
    predictor.network.eval()
    for k, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            theirs = predictor._internal_maybe_mirror_and_predict(batch)
        torch.testing.assert_close(ours.logits(batch)[k], theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours.logits(batch), plain.logits(batch), atol=0.1)
    assert (plain.passes_per_window, ours.passes_per_window) == (2, 8)


def test_mirroring_only_along_the_axes_that_training_mirrored(tmp_path):
    model = load_model(make_trained_folder(tmp_path, folds=2, norm="batch").model)
    file = model.path / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=True)
    batch = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.save({**content, "inference_allowed_mirroring_axes": (1,)}, file)
    ours = Ensemble(model, device=CPU, mirroring=True)
    plain = Ensemble(model, device=CPU)
    expected = (plain.logits(batch) + plain.logits(batch.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(ours.logits(batch), expected)
    assert ours.passes_per_window == 4
    torch.save({**content, "inference_allowed_mirroring_axes": None}, file)
    with pytest.raises(ModelError, match="without mirroring"):
        Ensemble(model, device=CPU, mirroring=True)


def test_folds_are_chosen_and_a_single_one_must_be_asked_for(tmp_path):
    model = load_model(make_trained_folder(tmp_path, folds=3).model)
    batch = torch.rand(1, 3, 64, 64)
    every = Ensemble(model, device=CPU).logits(batch)
    two = Ensemble(model, device=CPU, folds=(2, 0))
    assert torch.equal(two.logits(batch), every[[2, 0]])
    with pytest.raises(ModelError, match="two or more"):
        Ensemble(model, device=CPU, folds=(1,))
    assert len(Ensemble(model, device=CPU, folds=(1,), allow_single=True)) == 1
    for folds in ((0, 3), (1, 1)):
        with pytest.raises(ModelError, match="choose among them"):
            Ensemble(model, device=CPU, folds=folds)
    with pytest.raises(ModelError, match="two or more"):
        Ensemble(model, device=CPU, folds=(), allow_single=True)


@pytest.mark.parametrize("change", ["lack", "more", "shape", "dtype", "garbage"])
def test_weights_that_do_not_fit_are_refused(tmp_path, change):
    model = load_model(make_trained_folder(tmp_path, folds=2).model)
    file = model.weights_file(1)
    weights = load_file(file)
    name = min(weights)
    match change:
        case "lack":
            del weights[name]
        case "more":
            weights["encoder.extra"] = torch.zeros(1)
        case "shape":
            weights[name] = torch.zeros(99)
        case "dtype":
            weights[name] = weights[name].double()
    if change == "garbage":
        file.write_bytes(b"not safetensors")
    else:
        save_file(weights, file)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        Ensemble(model, device=CPU)
