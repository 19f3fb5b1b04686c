"""Model folders: every way to be incomplete, altered or hostile is one sentence, and nothing runs."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from model_helpers import LABELS, make_trained_folder, write_json

from uga.errors import ModelError
from uga.model.card import CARD_FILE, RESEARCH_USE, file_sha256, read_card
from uga.model.folder import load_model, model_info, verify_model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return make_trained_folder(tmp_path_factory.mktemp("trained"), folds=2, normalisation="zscore").model


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "model")


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def edit_card(folder, change):
    edit_json(folder / CARD_FILE, change)


def edit_plans(folder, change):
    """Change plans.json and its hash, as somebody with bad intent would."""
    edit_json(folder / "plans.json", lambda plans: change(plans["configurations"]["2d"]))
    rehash(folder, "plans.json")


def rehash(folder, name):
    edit_card(folder, lambda card: card["files"].update({name: file_sha256(folder / name)}))


def refusal(folder, words):
    with pytest.raises(ModelError, match=words) as caught:
        verify_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_model_tells_what_it_is(folder):
    model = verify_model(folder)
    assert model.path == folder
    assert model.name == "tiny"
    assert model.labels == LABELS
    assert (model.tumour_label, model.tumour_value) == ("tumour", 2)
    assert model.spacing_um == 1.0
    assert model.window_px == (64, 64)
    assert model.num_classes == 3
    assert model.folds == (0, 1)
    assert model.normalisation.schemes == ("ZScoreNormalization",) * 3
    assert model.card.intended_use == RESEARCH_USE


def test_info_is_json(folder):
    info = json.loads(json.dumps(model_info(folder)))
    assert info["sha256"] == load_model(folder).sha256
    assert info["network"] == "PlainConvUNet"
    assert info["parameters_per_fold"] > 1000
    assert info["labels"] == LABELS


def test_the_model_may_lie_one_folder_down(folder, tmp_path):
    assert load_model(tmp_path).path == folder
    (tmp_path / "lost+found").mkdir()
    assert load_model(tmp_path).path == folder
    shutil.copytree(folder, tmp_path / "other")
    refusal(tmp_path, r"several models \(model, other\)")


def test_a_folder_without_a_card_is_told_about_import(folder):
    (folder / CARD_FILE).unlink()
    refusal(folder, "uga model import")
    refusal(folder.parent, "uga model import")
    shutil.rmtree(folder)
    refusal(folder, "not a folder")
    folder.mkdir()
    refusal(folder, "uga model import")


@pytest.mark.parametrize(
    "name", ["plans.json", "dataset.json", "fold_1/model.safetensors", "fold_0/checkpoint_final.pth"]
)
def test_one_altered_byte_is_found(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert name in refusal(folder, "altered or damaged")


def test_missing_files_and_folds(folder):
    shutil.rmtree(folder / "fold_1")
    assert "fold_1" in refusal(folder, "missing")


def test_a_fold_missing_from_the_card(folder):
    edit_card(folder, lambda card: card.update(folds=[0, 2]))
    refusal(folder, "without gaps")
    edit_card(folder, lambda card: card.update(folds=[0]))
    refusal(folder, "fold_1 is not listed")
    edit_card(folder, lambda card: card.update(folds=[0, 1, 2]))
    refusal(folder, "lacks fold_2/model.safetensors")


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "fold_0/../../secret", "a//b", "./x", "fold_0\\x", "", "C:/x", "fold_0/"]
)
def test_paths_that_leave_the_folder_are_refused(folder, path):
    (folder.parent / "secret").write_bytes(b"")
    edit_card(folder, lambda card: card["files"].update({path: file_sha256(folder.parent / "secret")}))
    refusal(folder, "inside the model folder")


def test_links_that_leave_the_folder_are_refused(folder):
    outside = folder.parent / "outside"
    (folder / "plans.json").rename(outside)
    (folder / "plans.json").symlink_to(outside)
    refusal(folder, "link that leaves")


def test_the_model_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "model"
    link.symlink_to(folder)
    assert load_model(link).sha256 == load_model(folder).sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {"background": 0, "tumour": 1, "tissue": 2}}, "labels"),
        ({"labels": {"background": 0, "tissue": 1, "tumour": 3}}, "labels"),
        ({"labels": {"tissue": 0, "tumour": 1}}, "background"),
        ({"tumour_label": "background"}, "tumour_label"),
        ({"tumour_label": "cancer"}, "tumour_label"),
        ({"spacing_um": 0}, "spacing_um"),
        ({"spacing_um": -1.0}, "spacing_um"),
        ({"window_px": [64, 128]}, "window_px"),
        ({"normalisation": ["RGBTo01Normalization"] * 3}, "normalisation"),
        ({"configuration": "3d_fullres"}, "3d_fullres"),
        ({"schema_version": "9.0"}, "schema_version"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_cards_that_do_not_fit_are_refused(folder, change, words):
    edit_card(folder, lambda card: card.update(change))
    refusal(folder, words)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "list", "binary", "deep"]
)
@pytest.mark.parametrize("name", ["plans.json", "dataset.json", CARD_FILE])
def test_malformed_json_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    if name != CARD_FILE:
        rehash(folder, name)
    refusal(folder, rf"{name} (is not|must)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(patch_size=[16, 64, 64]), "3D configuration"),
        (lambda c: c.update(patch_size=[64, 0]), "patch_size"),
        (lambda c: c.update(patch_size=[66, 66]), "cannot be built"),
        (lambda c: c.update(previous_stage="2d"), "cascade"),
        (lambda c: c.update(inherits_from="2d"), "usable configuration"),
        (lambda c: c.update(normalization_schemes=["ZScoreNormalization"]), "1 image channel"),
        (lambda c: c.update(use_mask_for_norm=[True] * 3), "mask"),
        (lambda c: c.pop("use_mask_for_norm"), "use_mask_for_norm"),
        (lambda c: c["architecture"].update(arch_kwargs=None), "usable configuration"),
        (lambda c: c["architecture"]["arch_kwargs"].update(n_stages=4), "cannot be built"),
        (lambda c: c["architecture"]["arch_kwargs"].update(input_channels=1), "cannot be built"),
        (lambda c: c["architecture"]["arch_kwargs"].update(features_per_stage=[8, 16, 32]), "does not fit"),
        (lambda c: c["architecture"]["arch_kwargs"].update(conv_op="torch.nn.Conv3d"), "cannot be built"),
    ],
    ids=[
        "3d",
        "patch_size",
        "stride",
        "cascade",
        "circular",
        "channels",
        "mask",
        "no mask",
        "no kwargs",
        "stages",
        "extra kwarg",
        "features",
        "conv",
    ],
)
def test_plans_that_do_not_fit_are_refused(folder, change, words):
    edit_plans(folder, change)
    window = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["patch_size"]
    if len(window) == 2 and min(window) > 0:
        edit_card(folder, lambda card: card.update(window_px=window))
    refusal(folder, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(channel_names={"0": "grey"}), "three channels"),
        (
            lambda d: d.update(labels={"background": 0, "all": [1, 2], "tumour": 2}, regions_class_order=[1, 2]),
            "region",
        ),
        (lambda d: d.update(labels={"background": 0, "tissue": 1, "tumour": 3}), "without gaps"),
        (lambda d: d.update(labels={"background": 1, "tissue": 0, "tumour": 2}), "invalid labels"),
        (lambda d: d.update(labels={"background": 0, "tumour": 1, "tissue": 2}), "labels"),
        (lambda d: d.update(labels=None), "no labels"),
    ],
    ids=["channels", "regions", "gap", "no background", "other order", "none"],
)
def test_data_sets_that_do_not_fit_are_refused(folder, change, words):
    edit_json(folder / "dataset.json", change)
    rehash(folder, "dataset.json")
    refusal(folder, words)


@pytest.mark.parametrize("key", ["network_class_name", "nonlin", "norm_op", "conv_op", "block"])
@pytest.mark.parametrize("name", ["hostile.Payload", "os.system", "torch.hub.load", "torch.nn.functional.relu", 7])
def test_plans_cannot_name_code_to_run(folder, tmp_path, monkeypatch, key, name):
    marker = tmp_path / "marker"
    (tmp_path / "hostile.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Payload: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def change(configuration):
        architecture = configuration["architecture"]
        if key == "network_class_name":
            architecture[key] = name
        else:
            architecture["arch_kwargs"][key] = name
            architecture["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin", "block"][-5:]
            architecture["arch_kwargs"].setdefault("block", None)

    edit_plans(folder, change)
    refusal(folder, "which UGA does not load")
    assert not marker.exists()


def test_the_hash_changes_with_what_changes_predictions_only(folder):
    before = load_model(folder).sha256
    edit_card(folder, lambda card: card.update(name="other", description="words", parent="0" * 64))
    assert load_model(folder).sha256 == before
    edit_card(folder, lambda card: card.update(spacing_um=0.5))
    assert load_model(folder).sha256 != before
    edit_card(folder, lambda card: card.update(spacing_um=1.0))
    assert load_model(folder).sha256 == before
    edit_plans(folder, lambda configuration: configuration.update(batch_size=3))
    assert load_model(folder).sha256 != before


def test_the_hash_does_not_depend_on_where_the_model_lies_or_the_order_of_the_card(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    edit_card(copy, lambda card: card.update(files=dict(reversed(card["files"].items()))))
    assert load_model(copy).sha256 == load_model(folder).sha256


def test_every_file_is_in_the_card(folder):
    listed = set(read_card(folder / CARD_FILE).files) | {CARD_FILE}
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_weights_are_named(folder):
    (folder / "fold_0" / "model.safetensors").chmod(0)
    refusal(folder, "permissions")
