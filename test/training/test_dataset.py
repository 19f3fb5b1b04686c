import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from training_helpers import draw_patch, tiny_preset

from uga.errors import UserError
from uga.geometry import GridRegion
from uga.slide import open_slide
from uga.training.cases import read_cohort
from uga.training.dataset import Dataset, write_dataset
from uga.training.environment import NnunetFolders
from uga.training.labels import DEMO_MAPPING, LabelMapping

SIZE = 320


@pytest.fixture(autouse=True)
def _environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def _write_tiff(path: Path, pixels: np.ndarray, um_per_px: float) -> None:
    resolution = (1e4 / um_per_px, 1e4 / um_per_px)
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric=photometric, resolution=resolution, resolutionunit="CENTIMETER"
    )


@pytest.fixture
def cohort(tmp_path):
    """Four slides at 0.5 um/px with masks (0 glass, 1 benign, 2 tumour) at 1 um/px; the last is benign without one."""
    rng = np.random.default_rng(1)
    lines = ["slide,mask,centre,patient,class"]
    for number in range(4):
        tumour = number < 3
        rgb, label = draw_patch(rng, SIZE, tumour=tumour)
        rgb[:, :60] = 245
        mask = label + 1
        mask[:, :60] = 0
        _write_tiff(tmp_path / f"s{number}.tif", np.kron(rgb, np.ones((2, 2, 1), np.uint8)), 0.5)
        if tumour:
            _write_tiff(tmp_path / f"m{number}.tif", mask, 1.0)
        lines.append(
            f"s{number}.tif,{f'm{number}.tif' if tumour else ''},1,p{number},{'macro' if tumour else 'negative'}"
        )
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(lines))
    return read_cohort(path)


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
