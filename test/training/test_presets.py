import json

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from uga.errors import UserError
from uga.training.presets import load_preset


@pytest.mark.parametrize(
    ("name", "window", "batch", "scheme", "norm", "ratio"),
    [
        ("demo", 256, 4, "RGBTo01Normalization", "BatchNorm2d", 1.0),
        ("paper", 1024, 2, "ZScoreNormalization", "InstanceNorm2d", 4.0),
        ("pathology", 512, 8, "RGBTo01Normalization", "BatchNorm2d", 4.0),
    ],
)
def test_presets_say_what_their_sources_say(name, window, batch, scheme, norm, ratio):
    preset = load_preset(name)
    configuration = preset.plans["configurations"]["2d"]
    assert configuration["patch_size"] == [window, window]
    assert configuration["batch_size"] == batch
    assert set(configuration["normalization_schemes"]) == {scheme}
    assert configuration["architecture"]["arch_kwargs"]["norm_op"].endswith(norm)
    assert preset.notes.sampling.benign_per_tumour == ratio


@pytest.mark.parametrize("name", ["demo", "paper", "pathology"])
def test_networks_of_the_presets_are_nnunets(name):
    configuration = load_preset(name).plans["configurations"]["2d"]
    architecture = configuration["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        3,
        2,
        deep_supervision=False,
    ).eval()
    # The smallest image that the strides divide; the window must be a multiple of it.
    side = 2 ** (architecture["arch_kwargs"]["n_stages"] - 1)
    assert configuration["patch_size"][0] % side == 0
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 2 * side, 2 * side)).shape == (1, 2, 2 * side, 2 * side)


def test_demo_network_is_small_enough_to_ship_five_times_twice():
    architecture = load_preset("demo").plans["configurations"]["2d"]["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 3, 2
    )
    assert 2 * 5 * 4 * sum(p.numel() for p in network.parameters() if isinstance(p, torch.nn.Parameter)) < 22e6


def test_a_users_own_preset_is_a_copied_file(tmp_path):
    preset = load_preset("demo")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**preset.plans, "uga": preset.notes.model_dump(mode="json")}))
    assert load_preset(str(path)) == preset


def test_faults_are_named(tmp_path):
    with pytest.raises(UserError, match="no preset 'huge'; use one of demo, paper, pathology"):
        load_preset("huge")
    preset = load_preset("demo")
    notes = preset.notes.model_dump(mode="json")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**preset.plans, "uga": {**notes, "sampling": {"patch_px": 128}}}))
    with pytest.raises(UserError, match="patches of 128 px for windows of 256 px"):
        load_preset(str(path))
    path.write_text(json.dumps(preset.plans))
    with pytest.raises(UserError, match="not valid"):
        load_preset(str(path))
