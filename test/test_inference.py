"""Our streamed maps against nnU-Net's own predictor and against the same sums over a whole image."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from model_helpers import make_trained_folder
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from numpy.typing import NDArray

from uga import blending
from uga.errors import SlideError
from uga.inference import InferenceSettings, Rows, SlideInference, ensemble_maps
from uga.measures import Measure
from uga.model.arithmetic import REFERENCE, Arithmetic, has_openvino
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.slide import open_slide
from uga.statistics import slide_statistics
from uga.tissue import TissueMask
from uga.windows import WindowPlan, gaussian_weight

CPU = torch.device("cpu")
WINDOW = 64


def write_slide(path: Path, rgb: NDArray[np.uint8], mpp: float = 1.0) -> Path:
    per_cm = 10_000 / mpp
    tifffile.imwrite(
        path, rgb, photometric="rgb", tile=(64, 64), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER"
    )
    return path


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blobs over noise, so that neighbouring windows see different things."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 255, (height // 16 + 2, width // 16 + 2, 3)).repeat(16, 0).repeat(16, 1)[:height, :width]
    return np.clip(coarse + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def all_tissue(slide, grid) -> TissueMask:
    cell = 8
    return TissueMask(
        cells=np.ones((-(-grid.height // cell), -(-grid.width // cell)), dtype=bool), cell_px=cell, grid=grid
    )


def join(bands: list[Rows]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    rows = [(b.labels, b.uncertainty, b.rgb(slice(0, len(b.labels)))) for b in bands]
    labels, uncertainty, rgb = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return labels, uncertainty, rgb


def run(slide, grid, tissue, ensemble, **settings) -> list[Rows]:
    return whole(inference_of(slide, grid, tissue, ensemble, **settings))


def whole(inference: SlideInference) -> list[Rows]:
    return [band.rows(band.region.y, band.region.y_end) for band in inference.bands()]


def inference_of(slide, grid, tissue, ensemble, **settings) -> SlideInference:
    needs = ensemble.model.normalisation.needs_statistics
    statistics = slide_statistics(slide, grid, all_tissue(slide, grid)) if needs else None
    settings = InferenceSettings(**{"measure": Measure.SOFT_CROSS_ENTROPY, **settings})
    return SlideInference(slide, grid, tissue, ensemble, statistics, settings)


def nnunet_fold_probabilities(folder: Path, rgb: NDArray[np.uint8], monkeypatch) -> torch.Tensor:
    """(K, C, h, w) from nnU-Net's preprocessing and predictor; its half-precision sums are raised to float32."""
    monkeypatch.setattr(torch, "half", torch.float32)
    monkeypatch.setattr(predict_from_raw_data, "compute_gaussian", partial(compute_gaussian, dtype=torch.float32))
    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    image = rgb.transpose(2, 0, 1)[:, None].astype(np.float32)
    data, _, _ = preprocessor.run_case_npy(
        image, None, {"spacing": (999, 1, 1)}, predictor.plans_manager, predictor.configuration_manager,
        predictor.dataset_json,
    )  # fmt: skip
    folds = []
    for parameters in predictor.list_of_parameters:
        predictor.network.load_state_dict(parameters)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(data)))
        folds.append(predictor.label_manager.apply_inference_nonlin(logits)[:, 0])
    return torch.stack(folds)


@pytest.mark.parametrize(
    ("network", "norm", "normalisation", "shape"),
    [
        ("plain", "instance", "zscore", (150, 217)),
        ("plain", "batch", "rgb01", (150, 217)),
        ("residual", "instance", "rgb01", (130, 64)),
        ("residual", "batch", "zscore", (64, 100)),
        ("plain", "batch", "rgb01", (51, 37)),
        ("plain", "instance", "zscore", (51, 130)),
    ],
)
def test_maps_equal_nnunets_own_predictor(tmp_path, monkeypatch, network, norm, normalisation, shape) -> None:
    trained = make_trained_folder(
        tmp_path, folds=5, network=network, norm=norm, normalisation=normalisation, window=(WINDOW, WINDOW)
    )
    rgb = picture(*shape)
    theirs = nnunet_fold_probabilities(trained.model, rgb, monkeypatch)
    monkeypatch.undo()
    model = load_model(trained.model)
    ensemble = Ensemble(model, device=CPU)
    with open_slide(write_slide(tmp_path / "s.tif", rgb), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        tissue = all_tissue(slide, grid)
        bands = run(slide, grid, tissue, ensemble)
        labels, uncertainty, read = join(bands)
    np.testing.assert_array_equal(read, rgb)
    expected = theirs.mean(0).argmax(0).numpy()
    assert len(np.unique(expected)) > 1, "the test needs a model that predicts more than one label"
    assert (labels == expected).mean() >= 0.999
    np.testing.assert_allclose(uncertainty, Measure.SOFT_CROSS_ENTROPY.of(theirs).numpy(), atol=1e-4)


def whole_image_logits(ensemble: Ensemble, image: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
    """The same blending with accumulators of the whole image, (K, C, h, w)."""
    weight = gaussian_weight(ensemble.model.window_px)
    sums = torch.zeros((len(ensemble), ensemble.model.num_classes, *image.shape[1:]))
    weights = torch.zeros(image.shape[1:])
    for index in range(len(plan.ys)):
        for w in plan.row(index):
            area = np.s_[..., w.y : w.y_end, w.x : w.x_end]
            sums[area] += ensemble.logits(image[area][None])[:, 0] * weight
            weights[area] += weight
    return sums / weights


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Ensemble:
    trained = make_trained_folder(tmp_path_factory.mktemp("model"), folds=3, norm="batch", window=(WINDOW, WINDOW))
    return Ensemble(load_model(trained.model), device=CPU)


@pytest.mark.parametrize("block", [blending._BLOCK_COLUMNS, 50, 7])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_streamed_equals_whole_image_bit_for_bit(tmp_path, ensemble, monkeypatch, overlap, block) -> None:
    monkeypatch.setattr(blending, "_BLOCK_COLUMNS", block)
    rgb = picture(333, 180, seed=2)
    with open_slide(write_slide(tmp_path / "s.tif", rgb), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        labels, uncertainty, _ = join(run(slide, grid, all_tissue(slide, grid), ensemble, overlap=overlap))
        image = ensemble.model.normalisation.apply(slide.read(grid, grid.region))
    whole = whole_image_logits(ensemble, image, WindowPlan.over(grid, (WINDOW, WINDOW), overlap))
    expected_labels, (expected_uncertainty,) = ensemble_maps(whole, [Measure.SOFT_CROSS_ENTROPY.of])
    np.testing.assert_array_equal(labels, expected_labels.numpy())
    np.testing.assert_array_equal(uncertainty, expected_uncertainty.numpy())


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
@pytest.mark.parametrize("mirroring", [False, True])
def test_blending_beside_the_next_window_changes_nothing(tmp_path, ensemble, monkeypatch, mirroring) -> None:
    beside = Ensemble(ensemble.model, device=CPU, choices=[Arithmetic("openvino", "fp32")], mirroring=mirroring)
    assert beside.leaves_room
    add = blending.BlendedLogits.add

    def slowly(*args) -> None:
        time.sleep(0.01)  # the next window's logits are there before
        add(*args)

    monkeypatch.setattr(blending.BlendedLogits, "add", slowly)
    with open_slide(write_slide(tmp_path / "s.tif", picture(150, 200, seed=2)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        labels, uncertainty, _ = join(run(slide, grid, all_tissue(slide, grid), beside))
        image = beside.model.normalisation.apply(slide.read(grid, grid.region))
    whole = whole_image_logits(beside, image, WindowPlan.over(grid, (WINDOW, WINDOW), 0.5))
    expected_labels, (expected_uncertainty,) = ensemble_maps(whole, [Measure.SOFT_CROSS_ENTROPY.of])
    np.testing.assert_array_equal(labels, expected_labels.numpy())
    np.testing.assert_array_equal(uncertainty, expected_uncertainty.numpy())


def test_blocks_that_lie_in_the_padding_alone_hold_nothing(tmp_path, ensemble, monkeypatch) -> None:
    with open_slide(write_slide(tmp_path / "s.tif", picture(90, 20)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        expected = join(run(slide, grid, all_tissue(slide, grid), ensemble))
        monkeypatch.setattr(blending, "_BLOCK_COLUMNS", 7)
        found = join(run(slide, grid, all_tissue(slide, grid), ensemble))
    for ours, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, reference)


def test_the_parts_of_a_band_are_the_band(tmp_path, ensemble, monkeypatch) -> None:
    extra = {"entropy": Measure.ENTROPY.of}
    with open_slide(write_slide(tmp_path / "s.tif", picture(100, 90)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        band = list(inference_of(slide, grid, all_tissue(slide, grid), ensemble, extra=extra).bands())[1]
    rows = band.rows(band.region.y, band.region.y_end)
    monkeypatch.setattr("uga.inference._PART_PX", 7 * 90 + 80)
    parts = list(band.parts())
    assert [len(part.labels) for part in parts[:-1]] == [7] * (len(parts) - 1)
    assert [part.y for part in parts] == [rows.y + 7 * number for number in range(len(parts))]
    for whole, joined in zip(join([rows]), join(parts), strict=True):
        np.testing.assert_array_equal(joined, whole)
    np.testing.assert_array_equal(np.concatenate([part.tissue for part in parts]), rows.tissue)
    np.testing.assert_array_equal(np.concatenate([part.extra["entropy"] for part in parts]), rows.extra["entropy"])


def test_extra_maps_come_beside_the_measure(tmp_path, ensemble) -> None:
    rgb = picture(200, 180, seed=2)
    extra = {measure.value: measure.of for measure in (Measure.ENTROPY, Measure.DISAGREEMENT)}
    with open_slide(write_slide(tmp_path / "s.tif", rgb), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        tissue = all_tissue(slide, grid)
        cells = np.arange(tissue.cells.shape[1]) % 5 * np.ones_like(tissue.cells) > 1
        tissue = TissueMask(cells=cells, cell_px=8, grid=grid)
        alone = join(run(slide, grid, tissue, ensemble))
        bands = run(slide, grid, tissue, ensemble, extra=extra)
        entropy = join(run(slide, grid, tissue, ensemble, measure=Measure.ENTROPY))[1]
        keep = tissue.expand(grid.region)
    for ours, expected in zip(join(bands), alone, strict=True):
        np.testing.assert_array_equal(ours, expected)
    maps = {name: np.concatenate([band.extra[name] for band in bands]) for name in extra}
    np.testing.assert_array_equal(maps["entropy"], entropy)
    np.testing.assert_allclose(maps["entropy"] + maps["disagreement"], alone[1], atol=1e-5)
    assert not maps["disagreement"][~keep].any()
    assert maps["disagreement"][keep].any()


def test_a_batch_changes_nothing_but_rounding(tmp_path, ensemble) -> None:
    with open_slide(write_slide(tmp_path / "s.tif", picture(150, 200)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        one = join(run(slide, grid, all_tissue(slide, grid), ensemble))
        many = join(run(slide, grid, all_tissue(slide, grid), ensemble, batch_size=3))
    assert (one[0] == many[0]).mean() > 0.999
    np.testing.assert_allclose(one[1], many[1], atol=1e-4)


def test_a_batch_that_does_not_fit_changes_nothing_but_rounding(tmp_path, ensemble, monkeypatch) -> None:
    small = Ensemble(ensemble.model, device=CPU)
    logits, asked = small._engine.logits, []

    def as_on_a_small_gpu(batch: torch.Tensor) -> torch.Tensor:
        asked.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(batch)

    monkeypatch.setattr(small._engine, "logits", as_on_a_small_gpu)
    with open_slide(write_slide(tmp_path / "s.tif", picture(150, 300)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        one = join(run(slide, grid, all_tissue(slide, grid), ensemble))
        work = inference_of(slide, grid, all_tissue(slide, grid), small, batch_size=5)
        seen = []
        parts = join(
            [band.rows(band.region.y, band.region.y_end) for band in work.bands(lambda *now: seen.append(now))]
        )
    assert [size for size in asked if size > 2] == [asked[0]]
    assert sum(asked[1:]) == work.window_count == seen[-1][0]
    assert (one[0] == parts[0]).mean() > 0.999
    np.testing.assert_allclose(one[1], parts[1], atol=1e-4)


@pytest.mark.parametrize("block", [blending._BLOCK_COLUMNS, 50])
def test_a_tissue_mask_only_skips(tmp_path, ensemble, monkeypatch, block) -> None:
    monkeypatch.setattr(blending, "_BLOCK_COLUMNS", block)
    rng = np.random.default_rng(5)
    with open_slide(write_slide(tmp_path / "s.tif", picture(400, 310)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        everything = all_tissue(slide, grid)
        cells = np.zeros_like(everything.cells)
        cells[3:9, 20:25] = True
        cells[40, 2] = True
        cells[rng.random(cells.shape) < 0.002] = True
        some = TissueMask(cells=cells, cell_px=everything.cell_px, grid=grid)
        full = join(run(slide, grid, everything, ensemble))
        work = SlideInference(slide, grid, some, ensemble, None, InferenceSettings(measure=Measure.SOFT_CROSS_ENTROPY))
        part = join(whole(work))
        keep = some.expand(grid.region)
    assert 0 < work.window_count < len(work.plan.xs) * len(work.plan.ys)
    for ours, reference in zip(part[:2], full[:2], strict=True):
        np.testing.assert_array_equal(ours[keep], reference[keep])
        assert not ours[~keep].any()


def test_no_tissue_gives_empty_maps_without_running_the_network(tmp_path, ensemble) -> None:
    with open_slide(write_slide(tmp_path / "s.tif", picture(100, 90)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        none = TissueMask(cells=np.zeros_like(all_tissue(slide, grid).cells), cell_px=8, grid=grid)
        work = SlideInference(slide, grid, none, ensemble, None, InferenceSettings(measure=Measure.SOFT_CROSS_ENTROPY))
        labels, uncertainty, _ = join(whole(work))
    assert work.window_count == 0
    assert labels.shape == (100, 90)
    assert not labels.any()
    assert not uncertainty.any()


def test_a_constant_field_gives_a_constant_field(tmp_path, ensemble, monkeypatch) -> None:
    constant = torch.tensor([[0.2, 1.3, -0.4], [2.0, 0.1, 0.0], [0.0, 0.0, 1.0]])[:, None, :, None, None]
    monkeypatch.setattr(
        ensemble, "logits", lambda batch: constant.expand(3, len(batch), 3, WINDOW, WINDOW).clone(), raising=True
    )
    with open_slide(write_slide(tmp_path / "s.tif", picture(170, 140)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        labels, uncertainty, _ = join(run(slide, grid, all_tissue(slide, grid), ensemble))
    p_f = torch.softmax(constant[:, 0], dim=1)
    np.testing.assert_array_equal(labels, int(p_f.mean(0).argmax(0)))
    np.testing.assert_allclose(uncertainty, Measure.SOFT_CROSS_ENTROPY.of(p_f).item(), rtol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("arithmetic", "remedy"),
    [(Arithmetic("torch", "fp16"), "run again with --precision fp32"), (REFERENCE, "even in fp32")],
    ids=["fp16", "fp32"],
)
def test_an_overflow_is_no_certain_background(tmp_path, ensemble, monkeypatch, value, arithmetic, remedy) -> None:
    logits = ensemble.logits

    def overflowing(batch: torch.Tensor) -> torch.Tensor:
        found = logits(batch)
        found[1, :, 2, 20, 30] = value
        return found

    monkeypatch.setattr(ensemble, "logits", overflowing)
    monkeypatch.setattr(ensemble, "arithmetic", arithmetic)
    with open_slide(write_slide(tmp_path / "s.tif", picture(100, 90)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        with pytest.raises(SlideError, match=f"s.tif: .*{remedy}"):
            run(slide, grid, all_tissue(slide, grid), ensemble)


def test_progress_counts_the_windows_that_are_run(tmp_path, ensemble) -> None:
    seen = []
    with open_slide(write_slide(tmp_path / "s.tif", picture(150, 200)), mpp=1.0) as slide:
        grid = slide.grid(1.0)
        settings = InferenceSettings(measure=Measure.ENTROPY, batch_size=2)
        work = SlideInference(slide, grid, all_tissue(slide, grid), ensemble, None, settings)
        list(work.bands(lambda done, total: seen.append((done, total))))
    assert seen[-1] == (work.window_count, work.window_count)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
