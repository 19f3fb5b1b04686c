import shutil
from collections import namedtuple

import pytest
from training_helpers import tiny_preset

from uga.errors import UserError
from uga.training.needs import Needs, check_needs, estimate
from uga.training.presets import load_preset
from uga.training.workers import deal

GPU, CPU = deal(range(5), ["cuda:0"]), deal(range(5), ["cpu"])


def _estimate(name, slots, *, patches=1000, folds=5, loaders=0):
    return estimate(load_preset(name), slots, patches=patches, folds=folds, augmentation_processes=loaders)


def test_disk_grows_with_patches_and_the_model_with_folds():
    thousand, two_thousand = _estimate("paper", GPU), _estimate("paper", GPU, patches=2000)
    # 1024 px patches: a PNG, nnU-Net's compressed floats and its list of places, 4 to 8 MB.
    assert 4e9 < two_thousand.work - thousand.work < 8e9
    assert thousand.output == two_thousand.output
    # 46 million weights, twice in float32.
    assert thousand.output == pytest.approx(5 * 46.3e6 * 8, rel=0.01)
    assert _estimate("paper", GPU, folds=2).output == pytest.approx(2 / 5 * thousand.output)


def test_memory_is_that_of_what_trains_at_the_same_time():
    one = _estimate("pathology", GPU)
    assert 4e9 < one.device < 8e9  # nnU-Net plans this network for 8 GB
    assert _estimate("pathology", CPU).device == 0
    assert _estimate("pathology", CPU).memory > one.memory
    two = _estimate("pathology", deal(range(5), ["cuda:0"], parallel=2))
    assert (two.device, two.memory) == (pytest.approx(2 * one.device), pytest.approx(2 * one.memory))
    spread = _estimate("pathology", deal(range(5), ["cuda:0", "cuda:1"]))
    assert spread.device == pytest.approx(one.device)
    shared = _estimate("pathology", deal(range(5), ["cuda:0", "cuda:1"], devices_per_fold=2))
    assert shared.device == pytest.approx(one.device / 2)
    assert _estimate("pathology", GPU, loaders=4).memory > one.memory


def test_the_demo_fits_a_laptop():
    needs = estimate(load_preset("demo"), CPU, patches=560, folds=5, augmentation_processes=0)
    assert needs.work < 2e9
    assert needs.memory < 4e9
    assert estimate(tiny_preset(), CPU, patches=10, folds=2, augmentation_processes=0).work < 1e8


def test_a_full_disk_is_found_before_the_training(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 0, 5_000_000_000))
    check_needs(Needs(work=3e9, output=1e9, memory=1e9, device=0), work=tmp_path, output=tmp_path)
    with pytest.raises(UserError, match=r"5\.0 GB free, the training needs about 6\.0 GB more"):
        check_needs(Needs(work=5e9, output=1e9, memory=1e9, device=0), work=tmp_path, output=tmp_path)
    # What an earlier run left there is not needed twice.
    with (tmp_path / "patches").open("wb") as file:
        file.truncate(2_000_000_000)
    check_needs(Needs(work=5e9, output=1e9, memory=1e9, device=0), work=tmp_path, output=tmp_path)
