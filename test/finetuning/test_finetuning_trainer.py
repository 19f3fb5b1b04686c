"""What the trainer starts from, sees and keeps, with a parent of a few thousand weights."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from finetuning_helpers import CPU, PATCH_PX, draw_foreign
from model_helpers import make_trained_folder
from torch import nn

from uga.finetuning.dataset import DATASET_NAME, prepare, work_plans
from uga.finetuning.options import TrainingOptions
from uga.finetuning.patches import LearningPatch, pack_patches
from uga.finetuning.splits import deal
from uga.model.folder import load_model
from uga.model.network import load_network
from uga.output.schema import NOT_JUDGED
from uga.training.dataset import Dataset
from uga.training.environment import NnunetFolders
from uga.training.packs import model_pack

OPTIONS = TrainingOptions(epochs=2, iterations=3, lr=1e-2, variants=5)


def corrections(count: int = 3, size: int = PATCH_PX) -> list[LearningPatch]:
    """Patches of two slides; the left edge was not judged."""
    rng, patches = np.random.default_rng(0), []
    for number in range(count):
        image, label = draw_foreign(rng, size)
        label[:, :4] = NOT_JUDGED
        patches.append(
            LearningPatch(
                f"correction_{number:03d}",
                f"s{number % 2}",
                f"s{number % 2}",
                f"centre{number % 2}",
                label.size,
                None,
                lambda image=image: image,
                lambda label=label: label,
            )
        )
    return patches


def prepared(work, model, *, with_replay=True, options=OPTIONS, patches=None) -> Dataset:
    patches = patches or corrections()
    replay = pack_patches(model_pack(model, "replay"), model) if with_replay else ()
    dataset = Dataset(DATASET_NAME, NnunetFolders(work))
    dataset.folders.activate()
    held_out = deal(patches, replay, earlier={}, folds=len(model.folds), seed=0)
    preset = work_plans(dataset, model, patches, replay, options)
    prepare(dataset, model, preset, patches, replay, held_out)
    return dataset


def trainer_of(dataset, model, fold=0, *, warm=True):
    import os  # noqa: PLC0415

    from uga.finetuning.trainer import FinetuneTrainer  # noqa: PLC0415

    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    trainer = FinetuneTrainer({**dataset.plans(), "continue_training": False}, "2d", fold, dataset.dataset_json(), CPU)
    trainer.initialize()
    if warm:
        trainer.warm_start(load_network(model.plan, model.weights_file(fold)).state_dict())
    return trainer


def parent_loss(trainer, model, fold, batch) -> float:
    """The loss of the parent's fold as nnU-Net itself loads it from checkpoint_final.pth."""
    checkpoint = torch.load(model.path / f"fold_{fold}" / "checkpoint_final.pth", weights_only=True)
    network = trainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 3, trainer.label_manager.num_segmentation_heads, True
    )
    network.load_state_dict(checkpoint["network_weights"])
    network.eval()
    with torch.no_grad():
        return float(trainer.loss(network(batch["data"]), batch["target"]))


def first_loss(trainer, batch) -> float:
    """The loss of the very first training step."""
    trainer.on_train_epoch_start()
    return float(trainer.train_step(batch)["loss"])


def test_the_first_loss_is_the_parents_and_is_not_with_a_new_head(tmp_path, parent):
    dataset = prepared(tmp_path, parent)
    for fold in parent.folds:
        trainer = trainer_of(dataset, parent, fold)
        batch = next(trainer.get_dataloaders()[0])
        expected = parent_loss(trainer, parent, fold, batch)
        assert first_loss(trainer, batch) == pytest.approx(expected, abs=1e-6)

    # What nnU-Net's own -pretrained_weights does: everything but the heads. The same check must see it.
    trainer = trainer_of(dataset, parent)
    torch.manual_seed(1)
    for head in trainer.network.decoder.seg_layers:
        head.reset_parameters()
    batch = next(trainer.get_dataloaders()[0])
    expected = parent_loss(trainer, parent, 0, batch)
    assert abs(first_loss(trainer, batch) - expected) > 0.05


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_bf16_computes_nearly_the_same_and_keeps_weights_in_fp32(tmp_path, norm):
    model = load_model(make_trained_folder(tmp_path / "m", folds=2, norm=norm, window=(PATCH_PX, PATCH_PX)).model)
    patches = corrections(size=2 * PATCH_PX)
    losses, states = {}, {}
    for precision in ("fp32", "bf16"):
        options = OPTIONS.model_copy(update={"precision": precision, "lr": 1e-4})
        dataset = prepared(tmp_path / precision, model, with_replay=False, options=options, patches=patches)
        trainer = trainer_of(dataset, model)
        batch = next(trainer.get_dataloaders()[0])
        outputs = trainer.network(batch["data"])
        assert {output.dtype for output in outputs} == {torch.float32}
        losses[precision] = [first_loss(trainer, batch) for _ in range(2)]
        states[precision] = trainer.network.state_dict()
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]
    assert all(tensor.dtype != torch.bfloat16 for tensor in states["bf16"].values())
    assert any(not torch.equal(states["bf16"][name], states["fp32"][name]) for name in states["fp32"])


def test_each_fold_starts_from_its_own_parent(tmp_path, parent):
    dataset = prepared(tmp_path, parent)
    states = [trainer_of(dataset, parent, fold).network.state_dict() for fold in (0, 1)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_batch_norm_keeps_its_statistics_while_the_weights_move(tmp_path, parent):
    trainer = trainer_of(prepared(tmp_path, parent), parent)
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    loader = trainer.get_dataloaders()[0]
    trainer.on_train_epoch_start()
    for _ in range(2):
        trainer.train_step(next(loader))
    after = trainer.network.state_dict()
    statistics = [name for name in after if "running" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert all(not torch.equal(before[name], after[name]) for name in after if name.endswith("conv.weight"))


def test_batches_hold_the_stated_share_of_corrections(tmp_path, parent):
    for mix, expected in ((0.5, {1}), (1.0, {2}), (0.25, {0, 1})):
        dataset = prepared(tmp_path / str(mix), parent, options=OPTIONS.model_copy(update={"mix": mix}))
        trainer = trainer_of(dataset, parent)
        trainer._seed(1)
        loader = trainer.get_dataloaders()[0].data_loader
        counts = [sum(name.startswith("correction") for name in loader.get_indices()) for _ in range(60)]
        assert set(counts) == expected
        assert np.mean(counts) == pytest.approx(2 * mix, abs=0.2)
        held_out = json.loads((dataset.preprocessed / "splits_final.json").read_text())[0]["val"]
        assert not {*held_out} & {name for _ in range(60) for name in loader.get_indices()}


def test_outside_a_patch_nothing_is_judged_and_crops_do_not_overhang(tmp_path, parent):
    trainer = trainer_of(prepared(tmp_path, parent), parent)
    trainer._seed(1)
    loader = trainer.get_dataloaders()[0].data_loader
    ignore = trainer.label_manager.ignore_label
    margin = (np.array(loader.patch_size) - loader.final_patch_size)[1:]
    locations = {loader.annotated_classes_key: [(0, 0, PATCH_PX - 1, PATCH_PX - 1)], 1: [(0, 0, 63, 63)]}
    for forced in (False, True):
        starts, ends = loader.get_bbox((1, PATCH_PX, PATCH_PX), forced, locations)
        assert all(start >= -m for start, m in zip(starts[1:], margin, strict=True))
        assert all(end <= PATCH_PX + m for end, m in zip(ends[1:], margin, strict=True))
    loader.transforms = lambda **sample: sample
    for _ in range(20):
        sample = loader._sample("correction_000", force_foreground=False)
        black = (sample["image"] == 0).all(0)
        assert (sample["segmentation"][0][black] == ignore).all()
    assert not (sample["segmentation"] == NOT_JUDGED).any()
    assert (sample["segmentation"] == 1).any()


def test_old_patches_are_shown_in_the_colours_of_the_corrections(tmp_path, parent):
    def darker(image):
        return (255 * (image / 255) ** 1.6).astype(np.uint8)

    def tinted(patch):
        return dataclasses.replace(patch, read_image=lambda: darker(patch.read_image()), centre="dark")

    old = pack_patches(model_pack(parent, "replay"), parent)
    patches = [tinted(patch) for patch in old[:3]]
    dataset = prepared(tmp_path, parent, patches=patches, options=OPTIONS.model_copy(update={"recolour": 0.5}))
    trainer = trainer_of(dataset, parent)
    trainer._seed(1)
    loader = trainer.get_dataloaders()[0].data_loader
    name = loader._replay[0]
    (gain,) = trainer.finetuning.recolouring.gains[name]
    assert gain == pytest.approx((1.6, 1.6, 1.6), abs=0.1)
    loader.transforms = lambda **sample: sample
    plain = torch.from_numpy(np.array(loader._data.load_case(name)[0][:]))[:, 0]
    shown = [loader._recoloured(plain, name) for _ in range(60)]
    changed = [image for image in shown if not torch.equal(image, plain)]
    assert 15 < len(changed) < 45
    rgb = next(patch for patch in old if patch.name == name).read_image()
    expected = torch.from_numpy(darker(rgb)).permute(2, 0, 1)
    there = torch.tensor(loader._recolouring.points.white)[:, None, None]
    assert (changed[0] / there * 255 - expected).abs().max() < 12
    assert loader._recoloured(plain, "correction_000") is plain
    by_default = trainer_of(prepared(tmp_path / "default", parent, patches=patches), parent)
    assert by_default.finetuning.recolouring is None


def test_what_a_turned_crop_lacks_is_not_judged(tmp_path, parent):
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform  # noqa: PLC0415

    trainer = trainer_of(prepared(tmp_path, parent), parent)
    transforms = trainer.get_dataloaders()[0].data_loader.transforms.transforms
    (spatial,) = [transform for transform in transforms if isinstance(transform, SpatialTransform)]
    spatial.p_rotation, spatial.rotation, spatial.p_scaling = 1.0, (0.7, 0.7), 0.0
    side = trainer.configuration_manager.patch_size[0]
    turned = spatial(image=torch.ones(3, side, side), segmentation=torch.ones(1, side, side, dtype=torch.int16))
    corners = turned["segmentation"][0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [trainer.label_manager.ignore_label] * 4


def test_no_more_variants_are_drawn_than_asked_for(tmp_path, parent):
    trainer = trainer_of(prepared(tmp_path, parent), parent)
    loader = trainer.get_dataloaders()[0].data_loader
    drawn = {loader._draw("correction_000") for _ in range(200)}
    assert len(drawn) == OPTIONS.variants
    other = trainer_of(Dataset(DATASET_NAME, NnunetFolders(tmp_path)), parent, 1).get_dataloaders()[0].data_loader
    assert len(drawn & {other._draw("correction_000") for _ in range(200)}) == 1, "only the unchanged one is common"


def test_without_replay_the_weights_are_held_back(tmp_path, parent):
    dataset = prepared(tmp_path, parent, with_replay=False)

    def moved(pull: float) -> float:
        trainer = trainer_of(dataset, parent)
        trainer.finetuning = trainer.finetuning.model_copy(update={"pull": pull})
        trainer._seed(1)
        loader = trainer.get_dataloaders()[0]
        assert all(name.startswith("correction") for name in loader.data_loader.get_indices())
        trainer.on_train_epoch_start()
        for _ in range(4):
            trainer.train_step(next(loader))
        anchors = trainer._anchor
        pairs = zip(trainer._bare_network().parameters(), anchors, strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs)

    free, held = moved(0.0), moved(dataset.plans()["uga_finetuning"]["pull"])
    assert 0 < held < free


@pytest.mark.parametrize(("normalisation", "norm"), [("zscore", "instance"), ("none", "batch"), ("rescale", "batch")])
def test_colours_are_shifted_in_rgb_whatever_the_normalisation(tmp_path, normalisation, norm):
    model = load_model(make_trained_folder(tmp_path / "m", folds=2, norm=norm, normalisation=normalisation).model)
    patches = corrections(2)
    dataset = prepared(tmp_path / "w", model, with_replay=False, patches=patches)
    trainer = trainer_of(dataset, model)
    loader = trainer.get_dataloaders()[0].data_loader
    name = loader.indices[0]
    points = loader._points[name]
    stored = np.array(loader._data.load_case(name)[0][:])[:, 0]
    black, white = (np.array(point)[:, None, None] for point in (points.black, points.white))
    rgb = patches[int(name[-1])].read_image().transpose(2, 0, 1) / 255
    np.testing.assert_allclose((stored - black) / (white - black), rgb, atol=1e-4)
    assert trainer.train_step(next(trainer.get_dataloaders()[0]))["loss"] < 10
    assert not [m for m in trainer.network.modules() if isinstance(m, nn.BatchNorm2d)] or norm == "batch"


def test_only_the_work_dataset_knows_the_ignore_label(tmp_path, parent):
    dataset = prepared(tmp_path, parent)
    assert dataset.dataset_json()["labels"] == {"background": 0, "tumour": 1, "ignore": 2}
    assert "ignore" not in json.loads((parent.path / "dataset.json").read_text())["labels"]
    plans, old = dataset.plans(), json.loads((parent.path / "plans.json").read_text())
    new_configuration, old_configuration = plans["configurations"]["2d"], old["configurations"]["2d"]
    for key in ("architecture", "patch_size", "batch_size", "normalization_schemes"):
        assert new_configuration[key] == old_configuration[key]
