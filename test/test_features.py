from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from model_helpers import make_trained_folder
from ranking_helpers import make_candidate

from uga.features import PatchEncoder, features_of
from uga.geometry import Grid
from uga.model.folder import Model, load_model
from uga.model.network import load_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["plain", "residual"])
def model(request, tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp(request.param)
    return load_model(make_trained_folder(folder, folds=2, network=request.param, norm="batch").model)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_a_patch_of_one_window_has_the_pooled_bottleneck(model: Model) -> None:
    rgb = picture(64, 64)
    network = load_network(model.plan, model.weights_file(0))
    with torch.inference_mode():
        stages = network.encoder(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)
    expected = stages[-1].mean(dim=(0, 2, 3)).numpy()
    features = PatchEncoder(model, CPU).encode(rgb)
    assert features.shape == (16,)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_a_larger_patch_has_the_mean_of_its_windows(model: Model) -> None:
    encoder, quarters = PatchEncoder(model, CPU), [picture(64, 64, seed) for seed in range(4)]
    whole = np.concatenate([np.concatenate(quarters[:2], axis=1), np.concatenate(quarters[2:], axis=1)])
    mean = np.mean([encoder.encode(quarter) for quarter in quarters], axis=0)
    np.testing.assert_allclose(encoder.encode(whole), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 40), (100, 70)])
def test_patches_of_any_size_are_encoded(model: Model, size: tuple[int, int]) -> None:
    assert np.isfinite(PatchEncoder(model, CPU).encode(picture(*size))).all()


def test_features_are_in_the_order_of_the_candidates(model: Model) -> None:
    class Slide:
        def __init__(self, seed: int) -> None:
            self.seed = seed

        def read(self, grid: Grid, region) -> np.ndarray:
            return picture(64, 64, self.seed + region.x)

    opened = []

    @contextmanager
    def open_slide(slide_id: str):
        opened.append(slide_id)
        yield Slide({"a": 0, "b": 1000}[slide_id]), Grid(1.0, 1.0, 1.0, 500, 500)

    encoder = PatchEncoder(model, CPU)
    places = [("b", 64), ("a", 0), ("b", 0), ("a", 64)]
    found = features_of([make_candidate(slide_id=s, x=x) for s, x in places], encoder, open_slide)
    for vector, (slide, x) in zip(found, places, strict=True):
        np.testing.assert_array_equal(vector, encoder.encode(picture(64, 64, {"a": 0, "b": 1000}[slide] + x)))
    assert opened == ["a", "b"]


def test_z_scored_patches_are_normalised_by_themselves(tmp_path: Path) -> None:
    model = load_model(make_trained_folder(tmp_path, folds=2, normalisation="zscore").model)
    encoder, dim = PatchEncoder(model, CPU), picture(64, 64) // 3
    np.testing.assert_allclose(encoder.encode(dim), encoder.encode(dim + 40), rtol=1e-3, atol=1e-4)
