import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from training_helpers import tiny_preset, write_cohort

from uga.errors import UserError
from uga.geometry import GridRegion
from uga.slide import open_slide
from uga.training.dataset import Dataset, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.labels import DEMO_MAPPING, LabelMapping


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
        if case.mask is None:
            assert not label.any()
        else:
            mask = tifffile.imread(case.mask)[record.y : record.y + patch_px, record.x : record.x + patch_px]
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
        if (mask_file := case_of[record.case].mask) is not None:
            mask = tifffile.imread(mask_file)[record.y : record.y + 64, record.x : record.x + 64]
            np.testing.assert_array_equal(label == 2, mask == 0)
        values |= set(np.unique(label))
    assert values == {0, 1, 2}


def test_a_cohort_without_tumour_is_refused(tmp_path, cohort):
    with pytest.raises(UserError, match="no annotated tumour"):
        write_dataset(_dataset(tmp_path), cohort[3:], DEMO_MAPPING, tiny_preset())
