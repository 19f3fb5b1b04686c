import json
import os

import numpy as np
import pytest
from PIL import Image
from training_helpers import tiny_preset, write_synthetic_dataset

from uga.errors import UserError
from uga.training.dataset import preprocess
from uga.training.packs import read_pack, write_pack

LARGE = 10**9


@pytest.fixture
def dataset(tmp_path):
    before = dict(os.environ)
    preset = tiny_preset()
    dataset = write_synthetic_dataset(tmp_path / "work", preset)
    preprocess(dataset, preset, folds=2, seed=0)
    yield dataset
    os.environ.clear()
    os.environ.update(before)


def _write(dataset, target, **changes):
    options = {"purpose": "replay", "patches": 6, "size_px": 48, "max_bytes": LARGE, "quality": None, "seed": 0}
    return write_pack(dataset, target, **options | changes)


def test_a_pack_holds_crops_of_the_datasets_patches(tmp_path, dataset):
    pack = _write(dataset, tmp_path / "replay")
    records = {record.name: record for record in dataset.index().patches}
    assert len(pack.index.items) == 6
    for item in pack.index.items:
        record = records[item.name]
        x, y = item.x - record.x, item.y - record.y
        window = slice(y, y + 48), slice(x, x + 48)
        image = np.asarray(Image.open(dataset.raw / "imagesTr" / f"{item.name}_0000.png"))
        labels = np.asarray(Image.open(dataset.raw / "labelsTr" / f"{item.name}.png"))
        np.testing.assert_array_equal(pack.read_image(item), image[window])
        np.testing.assert_array_equal(pack.read_labels(item), labels[window])
        assert pack.read_labels(item).any() == (item.kind == "tumour")
        assert item.name in dataset.splits()[item.fold]["val"]
    assert {file for file in pack.path.rglob("*") if file.is_file()} == set(pack.files())


def test_kinds_are_balanced_and_slides_take_turns(tmp_path, dataset):
    items = _write(dataset, tmp_path / "replay", patches=4).index.items
    assert [item.kind == "tumour" for item in items].count(True) == 2
    for kind in ("tumour", "benign"):
        cases = [item.case for item in items if item.kind == kind]
        assert len(set(cases)) == len(cases)


def test_same_seed_same_bytes(tmp_path, dataset):
    first, second, other = (
        _write(dataset, tmp_path / name, seed=seed) for name, seed in [("a", 3), ("b", 3), ("c", 4)]
    )
    content = [[file.read_bytes() for file in pack.files()] for pack in (first, second, other)]
    assert content[0] == content[1] != content[2]


def test_jpeg_keeps_full_colour_and_its_quality_is_stated(tmp_path, dataset):
    pack = _write(dataset, tmp_path / "replay", quality=90)
    assert json.loads((pack.path / "pack.json").read_text())["quality"] == 90
    item = pack.index.items[0]
    with Image.open(pack.image_file(item)) as image:
        assert image.format == "JPEG"
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
    lossless = _write(dataset, tmp_path / "png")
    difference = pack.read_image(item).astype(int) - lossless.read_image(item)
    assert 0 < np.abs(difference).mean() < 6


def test_the_limit_on_bytes_holds(tmp_path, dataset):
    unlimited = _write(dataset, tmp_path / "whole")
    whole = sum(file.stat().st_size for file in unlimited.files())
    pack = _write(dataset, tmp_path / "half", max_bytes=whole // 2)
    assert 0 < sum(file.stat().st_size for file in pack.files()) <= whole // 2
    assert (
        _write(dataset, tmp_path / "enough", max_bytes=whole + 500).index.items
        == read_pack(tmp_path / "whole").index.items
    )
    with pytest.raises(UserError, match="allow a larger pack"):
        _write(dataset, tmp_path / "none", max_bytes=100)
    assert not list(tmp_path.glob("none*"))


def test_a_hold_out_pack_belongs_to_no_fold(tmp_path, dataset):
    assert {item.fold for item in _write(dataset, tmp_path / "holdout", purpose="holdout").index.items} == {None}


def test_packs_are_neither_overwritten_nor_larger_than_their_source(tmp_path, dataset):
    _write(dataset, tmp_path / "replay")
    with pytest.raises(UserError, match="exists already"):
        _write(dataset, tmp_path / "replay")
    with pytest.raises(UserError, match="64 px wide"):
        _write(dataset, tmp_path / "other", size_px=65)


def _edit(pack, change):
    content = json.loads((pack.path / "pack.json").read_text())
    change(content)
    (pack.path / "pack.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda pack: (pack.path / "pack.json").unlink(), "cannot be read"),
        (lambda pack: (pack.path / "pack.json").write_text("{}"), "does not describe a pack"),
        (lambda pack: _edit(pack, lambda c: c["items"].append(c["items"][0])), "unique names"),
        (lambda pack: _edit(pack, lambda c: c["items"][0].update(name="../../x")), "does not describe a pack"),
        (lambda pack: pack.image_file(pack.index.items[0]).unlink(), "missing or damaged"),
        (lambda pack: pack.labels_file(pack.index.items[1]).write_bytes(b"png"), "missing or damaged"),
        (lambda pack: Image.new("L", (47, 48)).save(pack.labels_file(pack.index.items[0])), "47 x 48"),
        (lambda pack: Image.new("L", (48, 48)).save(pack.image_file(pack.index.items[0])), "not RGB"),
    ],
    ids=["no-index", "no-fields", "twice", "outside", "no-image", "no-png", "size", "mode"],
)
def test_damaged_packs_are_refused_in_one_sentence(tmp_path, dataset, damage, message):
    pack = _write(dataset, tmp_path / "replay")
    damage(pack)
    with pytest.raises(UserError, match=message) as caught:
        read_pack(pack.path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_are_no_labels_and_cut_images_are_refused(tmp_path, dataset):
    pack = _write(dataset, tmp_path / "replay", quality=90)
    first, second = pack.index.items[:2]
    Image.new("L", (48, 48), 7).save(pack.labels_file(first))
    data = pack.image_file(second).read_bytes()
    pack.image_file(second).write_bytes(data[: len(data) // 2])
    pack = read_pack(pack.path)
    with pytest.raises(UserError, match=r"values \[7\]"):
        pack.read_labels(first)
    with pytest.raises(UserError, match="damaged"):
        pack.read_image(second)
