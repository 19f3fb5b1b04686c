"""Import: genuine checkpoints come through unchanged, hostile ones not at all."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import pickle
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from model_helpers import BATCH_NORM, make_trained_folder, write_json, write_nnunet_folder
from safetensors.torch import load_file

from uga.errors import ModelError
from uga.model.card import RESEARCH_USE, About, Training
from uga.model.checkpoint import read_checkpoint
from uga.model.folder import load_model, verify_model
from uga.model.importer import import_model
from uga.model.network import build_network, full_state


def do_import(source, target, **options):
    return import_model(source, target, **{"name": "m", "tumour_label": "tumour", "spacing_um": 1.0} | options)


def refused(source, words, **options):
    """The import fails with one sentence and leaves nothing behind."""
    target = source.parent / "target" / "model"
    with pytest.raises(ModelError, match=words) as caught:
        do_import(source, target, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not (target.parent.exists() and list(target.parent.iterdir()))
    return str(caught.value)


def checkpoint_file(source, fold=0):
    return source / f"fold_{fold}" / "checkpoint_final.pth"


def edit_checkpoint(source, change, fold=0):
    file = checkpoint_file(source, fold)
    content = torch.load(file, weights_only=False)
    change(content)
    torch.save(content, file)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


@pytest.fixture
def source(tmp_path):
    return write_nnunet_folder(tmp_path / "trained", folds=2)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_weights_come_through_bit_for_bit(tmp_path, network, norm):
    trained = make_trained_folder(tmp_path, folds=2, network=network, norm=norm)
    model = load_model(trained.model)
    for fold in (0, 1):
        before = torch.load(checkpoint_file(trained.source, fold), weights_only=False)["network_weights"]
        after = full_state(build_network(model.plan), load_file(model.weights_file(fold)))
        stripped = torch.load(checkpoint_file(trained.model, fold), weights_only=True)
        for found in (after, stripped["network_weights"]):
            assert list(found) == list(before)
            assert all(torch.equal(found[name], before[name]) for name in before)
        assert "optimizer_state" not in stripped
        assert stripped["inference_allowed_mirroring_axes"] == (0, 1)
    assert checkpoint_file(trained.model).stat().st_size < 0.8 * checkpoint_file(trained.source).stat().st_size
    assert sum(t.numel() for t in load_file(model.weights_file(0)).values()) < sum(t.numel() for t in before.values())


def test_every_user_may_read_the_model_and_the_source_is_untouched(source, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.rglob("*")}
    do_import(source, tmp_path / "model")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.rglob("*")} == before
    for path in (tmp_path / "model").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_importing_twice_gives_the_same_hash(source, tmp_path):
    assert do_import(source, tmp_path / "a").sha256 == do_import(source, tmp_path / "b", name="other").sha256


def test_an_imported_folder_can_be_imported(source, tmp_path):
    first = do_import(source, tmp_path / "a")
    again = do_import(first.path, tmp_path / "b", about=About(parent=first.sha256))
    assert again.sha256 == first.sha256
    assert again.card.parent == first.sha256


def test_batch_norm_of_the_trainer_is_stated_in_the_plans(tmp_path):
    trained = make_trained_folder(tmp_path, folds=2, norm="batch")
    kwargs = json.loads((trained.model / "plans.json").read_text())["configurations"]["2d"]["architecture"][
        "arch_kwargs"
    ]
    assert kwargs["norm_op"] == BATCH_NORM
    assert kwargs["norm_op_kwargs"] == {"eps": 1e-5, "affine": True}


def test_batch_norm_of_an_unknown_trainer_must_be_stated(tmp_path):
    source = write_nnunet_folder(tmp_path / "trained", folds=2, norm="batch")
    for fold in (0, 1):
        edit_checkpoint(source, lambda content: content.update(trainer_name="OurTrainer"), fold)
    assert "OurTrainer" in refused(source, "BatchNorm2d")
    edit_json(
        source / "plans.json",
        lambda plans: plans["configurations"]["2d"]["architecture"]["arch_kwargs"].update(norm_op=BATCH_NORM),
    )
    model = do_import(source, tmp_path / "model")
    assert model.card.training.trainer == "OurTrainer"
    assert torch.load(checkpoint_file(model.path), weights_only=True)["trainer_name"] == "nnUNetTrainer"


def test_old_plans_without_architecture(source, tmp_path):
    """Plans of nnU-Net 2.0 to 2.4 describe the network by other keys, and name the class alone."""

    def old(plans):
        configuration = plans["configurations"]["2d"]
        kwargs = configuration.pop("architecture")["arch_kwargs"]
        configuration.update(
            UNet_class_name="PlainConvUNet",
            UNet_base_num_features=8,
            unet_max_num_features=16,
            n_conv_per_stage_encoder=kwargs["n_conv_per_stage"],
            n_conv_per_stage_decoder=kwargs["n_conv_per_stage_decoder"],
            num_pool_per_axis=[2, 2],
            pool_op_kernel_sizes=kwargs["strides"],
            conv_kernel_sizes=kwargs["kernel_sizes"],
        )

    expected = do_import(source, tmp_path / "new")
    edit_json(source / "plans.json", old)
    found = verify_model(do_import(source, tmp_path / "old").path)
    assert load_file(found.weights_file(1)).keys() == load_file(expected.weights_file(1)).keys()


def test_the_ignore_label_is_not_predicted(tmp_path):
    labels = {"background": 0, "tumour": 1, "ignore": 2}
    source = write_nnunet_folder(tmp_path / "trained", folds=2, labels=labels)
    model = do_import(source, tmp_path / "model")
    assert model.labels == {"background": 0, "tumour": 1}
    assert model.num_classes == 2


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_compiled_and_distributed_training_are_stripped(source, tmp_path, prefix):
    expected = do_import(source, tmp_path / "a").sha256
    for fold in (0, 1):
        edit_checkpoint(
            source,
            lambda c: c.update(network_weights={prefix + name: t for name, t in c["network_weights"].items()}),
            fold,
        )
    assert do_import(source, tmp_path / "b").sha256 == expected


def test_half_weights_are_widened_exactly(source, tmp_path):
    def halve(content):
        content["network_weights"] = {name: t.half() for name, t in content["network_weights"].items()}

    edit_checkpoint(source, halve)
    model = do_import(source, tmp_path / "model")
    halved = torch.load(checkpoint_file(source), weights_only=False)["network_weights"]
    found = load_file(model.weights_file(0))
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], halved[name].float()) for name in found)


def test_numpy_1_names_are_known(source, tmp_path):
    """The same pickle as numpy 1 writes it: numpy.core instead of numpy._core."""
    file = checkpoint_file(source)
    rewritten = tmp_path / "numpy1.pth"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(rewritten, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
                assert b"numpy._core" not in content
            new.writestr(entry.filename, content)
    expected = read_checkpoint(file)
    found = read_checkpoint(rewritten)
    assert all(torch.equal(found.weights[name], expected.weights[name]) for name in expected.weights)


class Payload:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["weights", "logging", "top", "dtype"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_hostile_checkpoints_run_nothing(source, tmp_path, where, kind):
    marker = tmp_path / "marker"
    payload = Payload(os.system, f"touch {marker}")
    content = torch.load(checkpoint_file(source), weights_only=False)
    match where:
        case "weights":
            content["network_weights"]["encoder.extra"] = payload
        case "logging":
            content["logging"]["epochs"] = [payload]
        case "top":
            content = payload
        case "dtype":
            content["logging"] = Payload(np.dtype, payload)
    file = checkpoint_file(source)
    if kind == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    assert str(file) in refused(source, "not opened")
    assert not marker.exists()
    # the payload is live: whoever opens the file without care runs it
    if kind == "zip":
        with contextlib.suppress(TypeError):
            torch.load(file, weights_only=False)
        assert marker.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, collections.namedtuple, np.load, np.frombuffer])
def test_no_other_function_may_be_called(source, function):
    torch.save({"network_weights": Payload(function, "1")}, checkpoint_file(source))
    refused(source, "not opened")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"weights", b"\x80\x02}q\x00."], ids=["empty", "zip", "text", "pickle"]
)
def test_damaged_checkpoints(source, content):
    checkpoint_file(source, 1).write_bytes(content)
    assert "fold_1" in refused(source, "not opened|lacks")


def test_a_truncated_checkpoint(source):
    file = checkpoint_file(source, 1)
    file.write_bytes(file.read_bytes()[:-2000])
    assert "fold_1" in refused(source, "not opened")


def without(key):
    return lambda content: content.pop(key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("network_weights"), "lacks network_weights"),
        (without("init_args"), "init_args"),
        (without("trainer_name"), "trainer_name"),
        (lambda c: c.update(inference_allowed_mirroring_axes="all"), "mirroring axes"),
        (lambda c: c["network_weights"].update(extra=1), "plain tensors"),
        (lambda c: c["network_weights"].update(extra=torch.eye(2).to_sparse()), "plain tensors"),
        (lambda c: c["network_weights"].update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda c: c["network_weights"].popitem(), "lacks"),
        (lambda c: c["init_args"].update(configuration="3d_fullres"), "3d_fullres"),
    ],
    ids=["weights", "init_args", "trainer", "axes", "number", "sparse", "extra", "short", "configuration"],
)
def test_checkpoints_that_do_not_fit(source, change, words):
    edit_checkpoint(source, change)
    refused(source, words)


def test_weights_must_be_finite_and_consistent(source):
    def spoil(content, value, *, alias):
        weights = content["network_weights"]
        name = "decoder.encoder.stages.0.0.convs.0.conv.weight" if alias else "decoder.seg_layers.1.bias"
        weights[name] = weights[name].clone().fill_(value)

    edit_checkpoint(source, lambda content: spoil(content, 7.0, alias=True))
    refused(source, "two different values")
    write_nnunet_folder(source.parent / "fresh", folds=2)
    edit_checkpoint(source.parent / "fresh", lambda content: spoil(content, float("nan"), alias=False))
    refused(source.parent / "fresh", "not finite")


def test_folds_must_be_whole(source, tmp_path):
    assert do_import(source, tmp_path / "one", folds=(0,)).folds == (0,)
    refused(source, "without gaps", folds=(1,))
    refused(source, "without gaps", folds=())
    (source / "fold_2").mkdir()
    assert "fold_2" in refused(source, "does not exist")
    (source / "fold_2").rename(source / "fold_4")
    refused(source, "without gaps")


def test_folds_of_different_trainings_are_refused(source):
    edit_checkpoint(source, lambda content: content.update(trainer_name="nnUNetTrainer_10epochs"), fold=1)
    refused(source, "one training only")


def test_other_checkpoints_can_be_named(source, tmp_path):
    for fold in (0, 1):
        checkpoint_file(source, fold).rename(source / f"fold_{fold}" / "checkpoint_best.pth")
    refused(source, "checkpoint_final.pth does not exist")
    model = do_import(source, tmp_path / "model", checkpoint="checkpoint_best.pth")
    assert checkpoint_file(model.path).is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tumour_label": "cancer"}, "tumour_label"),
        ({"tumour_label": "background"}, "tumour_label"),
        ({"spacing_um": 0.0}, "spacing_um"),
        ({"spacing_um": float("nan")}, "spacing_um"),
        ({"name": ""}, "name"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense(source, options, words):
    refused(source, words, **options)


def test_sources_that_are_none(tmp_path):
    (tmp_path / "trained").mkdir()
    refused(tmp_path / "trained", "no fold_0")
    refused(tmp_path / "nothing", "no fold_0")


def test_an_existing_target_is_kept(source, tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    do_import(source, target)
    before = (target / "model.json").read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        do_import(source, target)
    assert (target / "model.json").read_bytes() == before


def test_companions_travel_and_are_hashed_but_links_do_not(source, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (source / "sockets.json").write_text("{}")
    (source / "replay" / "images").mkdir(parents=True)
    (source / "replay" / "images" / "a.png").write_bytes(b"png")
    (source / "replay" / "link").symlink_to(tmp_path / "secret")
    (source / "README.md").symlink_to(tmp_path / "secret")
    (source / "notes.txt").write_text("not ours")
    model = do_import(source, tmp_path / "model")
    assert {"sockets.json", "replay/images/a.png"} <= model.card.files.keys()
    assert not {"replay/link", "README.md", "notes.txt"} & {p.name for p in model.path.rglob("*")}
    (model.path / "replay" / "images" / "a.png").write_bytes(b"gnp")
    with pytest.raises(ModelError, match="altered"):
        load_model(model.path)


def test_provenance_is_kept(source, tmp_path):
    training = Training(
        data="virtual slides of centre A",
        seed=7,
        trainer="nnUNetTrainer",
        versions={"torch": "2.13.0"},
        created=datetime(2026, 1, 2, tzinfo=UTC),
        details={"epochs": 100, "learning_rate": 0.01},
    )
    do_import(source, tmp_path / "model", about=About(description="A demo.", training=training))
    card = load_model(tmp_path / "model").card
    assert card.training == training
    assert card.description == "A demo."
    assert card.intended_use == RESEARCH_USE


def test_reading_a_checkpoint_leaves_no_name_allowed(source):
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(checkpoint_file(source))
    assert set(torch.serialization.get_safe_globals()) == before
    buffer = io.BytesIO()
    torch.save({"loss": np.float64(1.0)}, buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(buffer, weights_only=True)
