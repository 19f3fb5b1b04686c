import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from training_helpers import tiny_preset, write_cohort

from uga.errors import UserError
from uga.geometry import GridRegion
from uga.slide import open_slide
from uga.training.dataset import Dataset, check_cases, preprocess, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.faults import Faults
from uga.training.labels import DEFAULT_MAPPING, DEMO_MAPPING, LabelMapping


@pytest.fixture(autouse=True)
def _environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def cohort(tmp_path):
    return write_cohort(tmp_path)


def _dataset(tmp_path: Path) -> Dataset:
    folders = NnunetFolders(tmp_path / "work")
    folders.activate()
    return Dataset("Dataset501_Test", folders)


def test_patches_are_the_slides_pixels_and_the_masks_labels(tmp_path, cohort):
    dataset, preset = _dataset(tmp_path), tiny_preset()
    index = write_dataset(dataset, cohort, DEMO_MAPPING, preset)
    assert {record.kind for record in index.patches} >= {"tumour", "benign"}
    case_of = {case.id: case for case in cohort}
    patch_px = preset.notes.sampling.patch_px
    for record in index.patches:
        case = case_of[record.case]
        with open_slide(case.slide) as slide:
            expected = slide.read(slide.grid(1.0), GridRegion(record.x, record.y, patch_px, patch_px))
        image = np.asarray(Image.open(dataset.raw / "imagesTr" / f"{record.name}_0000.png"))
        np.testing.assert_array_equal(image, expected)
        label = np.asarray(Image.open(dataset.raw / "labelsTr" / f"{record.name}.png"))
        if case.annotation is None:
            assert not label.any()
        else:
            mask = tifffile.imread(case.annotation)[record.y : record.y + patch_px, record.x : record.x + patch_px]
            np.testing.assert_array_equal(label, mask == 2)
        assert label.any() == (record.kind == "tumour")


def test_a_finished_dataset_is_kept_and_another_request_replaces_it(tmp_path, cohort):
    dataset, preset = _dataset(tmp_path), tiny_preset()
    first = write_dataset(dataset, cohort, DEMO_MAPPING, preset)
    marker = dataset.raw / "marker"
    marker.touch()
    assert write_dataset(dataset, cohort, DEMO_MAPPING, preset) == first
    assert marker.exists()
    reseeded = preset.with_notes(sampling=preset.notes.sampling.model_copy(update={"seed": 7}))
    assert write_dataset(dataset, cohort, DEMO_MAPPING, reseeded) != first
    assert not marker.exists()


def test_unannotated_area_becomes_the_ignore_label(tmp_path, cohort):
    mapping = LabelMapping.parse("background=1 tumour=2 ignore=0")
    dataset = _dataset(tmp_path)
    index = write_dataset(dataset, cohort, mapping, tiny_preset())
    assert dataset.dataset_json()["labels"]["ignore"] == 2
    case_of = {case.id: case for case in cohort}
    values = set()
    for record in index.patches:
        label = np.asarray(Image.open(dataset.raw / "labelsTr" / f"{record.name}.png"))
        if (mask_file := case_of[record.case].annotation) is not None:
            mask = tifffile.imread(mask_file)[record.y : record.y + 64, record.x : record.x + 64]
            np.testing.assert_array_equal(label == 2, mask == 0)
        values |= set(np.unique(label))
    assert values == {0, 1, 2}


def test_a_cohort_without_tumour_is_refused(tmp_path, cohort):
    with pytest.raises(UserError, match="no annotated tumour"):
        write_dataset(_dataset(tmp_path), cohort[3:], DEMO_MAPPING, tiny_preset())


def _with_shapes(case, tmp_path, *, class_name="Tumor", x=200):
    """The case with one square of 120 um, in level-0 pixels of 0.5 um."""
    ring = [[x, 200], [x + 240, 200], [x + 240, 440], [x, 440], [x, 200]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": class_name}},
    }
    path = tmp_path / f"{case.id}.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return replace(case, annotation=path)


def test_area_outside_shapes_is_ignored_unless_the_slide_is_benign_or_annotated_exhaustively(tmp_path, cohort):
    cases = [
        _with_shapes(cohort[0], tmp_path),
        replace(_with_shapes(cohort[1], tmp_path), unannotated="background"),
        replace(_with_shapes(cohort[2], tmp_path, class_name="normal"), lesion="negative"),
        cohort[3],
    ]
    dataset = _dataset(tmp_path)
    index = write_dataset(dataset, cases, DEFAULT_MAPPING, tiny_preset())
    assert dataset.dataset_json()["labels"] == {"background": 0, "tumour": 1, "ignore": 2}
    found = {case.id: set() for case in cases}
    for record in index.patches:
        found[record.case] |= set(np.unique(Image.open(dataset.raw / "labelsTr" / f"{record.name}.png")))
        if record.case == cases[0].id and record.kind == "tumour":
            label = np.asarray(Image.open(dataset.raw / "labelsTr" / f"{record.name}.png"))
            xs, ys = np.meshgrid(record.x + np.arange(64), record.y + np.arange(64))
            inside = (xs >= 100) & (xs < 220) & (ys >= 100) & (ys < 220)
            np.testing.assert_array_equal(label, np.where(inside, 1, 2))
    assert found == {cases[0].id: {1, 2}, cases[1].id: {0, 1}, cases[2].id: {0}, cases[3].id: {0}}

    preprocess(dataset, tiny_preset(), folds=2, seed=0)
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    manager = PlansManager(dataset.plans()).get_label_manager(dataset.dataset_json())
    assert manager.ignore_label == 2
    assert manager.num_segmentation_heads == 2


def test_a_mended_annotation_is_read_anew(tmp_path, cohort):
    dataset, preset = _dataset(tmp_path), tiny_preset()
    cases = [_with_shapes(cohort[0], tmp_path), cohort[3]]
    first = write_dataset(dataset, cases, DEFAULT_MAPPING, preset)
    write_dataset(dataset, [_with_shapes(cohort[0], tmp_path, x=300), cohort[3]], DEFAULT_MAPPING, preset)
    assert dataset.index() != first


def test_a_killed_sampling_goes_on(tmp_path, cohort):
    dataset, preset = _dataset(tmp_path), tiny_preset()
    told = []
    index = write_dataset(dataset, cohort, DEMO_MAPPING, preset, announce=told.append)
    label = dataset.raw / "labelsTr" / f"{index.patches[0].name}.png"
    kept = dataset.raw / "labelsTr" / f"{index.patches[1].name}.png"
    before, stamp = label.read_bytes(), kept.stat().st_mtime_ns
    label.unlink()
    (dataset.raw / "patches.json").unlink()
    assert write_dataset(dataset, cohort, DEMO_MAPPING, preset, announce=told.append) == index
    assert (label.read_bytes(), kept.stat().st_mtime_ns) == (before, stamp)
    assert told == [len(index.patches)] * 2


def test_tissue_comes_from_the_users_mask(tmp_path, cohort):
    mask = np.zeros((320, 320), np.uint8)
    mask[200:, 60:] = 1
    tifffile.imwrite(tmp_path / "tissue.tif", mask, photometric="minisblack", metadata=None)
    cases = [cohort[0], replace(cohort[3], tissue=tmp_path / "tissue.tif")]
    index = write_dataset(_dataset(tmp_path), cases, DEMO_MAPPING, tiny_preset())
    benign = [record for record in index.patches if record.case == cohort[3].id]
    assert benign
    assert all(record.y + 64 > 200 for record in benign)


def test_tumour_on_a_benign_slide_is_a_contradiction(tmp_path, cohort):
    cases = [cohort[0], replace(_with_shapes(cohort[1], tmp_path), lesion="negative")]
    with pytest.raises(UserError, match="marks tumour on a slide of class negative"):
        write_dataset(_dataset(tmp_path), cases, LabelMapping.parse("background=0,1 tumour=2,tumor"), tiny_preset())


def test_a_quick_look_finds_every_annotation_that_cannot_be_used(tmp_path, cohort, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)
    (tmp_path / "bad.xml").write_text("<html/>")
    (tmp_path / "bad.tif").write_text("no slide")
    cases = [
        _with_shapes(cohort[0], tmp_path, class_name="Stroma"),
        _with_shapes(cohort[1], tmp_path, x=5000),
        replace(cohort[2], annotation=tmp_path / "bad.xml"),
        replace(cohort[3], slide=tmp_path / "bad.tif"),
    ]
    faults = Faults("The cohort")
    check_cases(cases, DEFAULT_MAPPING, tiny_preset(), faults)
    with pytest.raises(UserError, match="The cohort has 4 faults"):
        faults.raise_if_any()
    errors = {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR}
    assert len(errors) == 4
    assert all(any(text in error for error in errors) for text in ("Stroma", "outside the slide", "bad.xml", "bad.tif"))
