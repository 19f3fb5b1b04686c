"""Camelyon's layouts and file formats, in miniature."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from camelyon_helpers import virtual_slide
from training_helpers import write_tiny_preset

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import ExitCode, UserError
from uga.model.folder import verify_model
from uga.training.camelyon import find_camelyon, main
from uga.training.cases import read_cohort, write_cohort
from uga.training.dataset import Dataset
from uga.training.environment import NnunetFolders
from uga.virtual.spec import LesionClass

STAGES = """patient,stage,center
patient_000.zip,pN1,0
patient_000_node_0.tif,negative,0
patient_000_node_1.tif,macro,0
patient_021_node_3.tif,itc,1
patient_021_node_4.tif,micro,1
"""


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def _tree(root: Path) -> Path:
    """As in the public bucket."""
    _touch(
        root / "CAMELYON16",
        *(f"images/normal_{n:03d}.tif" for n in (1, 86, 100, 101)),
        *(f"images/tumor_{n:03d}.tif" for n in (1, 10, 70, 71, 72, 111)),
        *(f"images/test_{n:03d}.tif" for n in (1, 2, 49)),
        *(f"annotations/tumor_{n:03d}.xml" for n in (1, 10, 70, 71, 111)),
        "annotations/test_001.xml",
        "background_tissue/tumor_072.xml",
        *(f"masks/tumor_{n:03d}_mask.tif" for n in (1, 10)),
    )
    (root / "CAMELYON16" / "evaluation").mkdir()
    (root / "CAMELYON16" / "evaluation" / "reference.csv").write_text(
        "test_001,Tumor,IDC,Micro\ntest_002,Normal,None,None\n"
    )
    _touch(
        root / "CAMELYON17",
        *(f"images/patient_{name}.tif" for name in ("000_node_0", "000_node_1", "021_node_3", "021_node_4")),
        "images/patient_100_node_0.tif",
        "annotations/patient_000_node_1.xml",
        "annotations/patient_021_node_3.xml",
    )
    (root / "CAMELYON17" / "stages.csv").write_text(STAGES)
    return root


def test_centre_class_and_extent_of_annotation_are_known(tmp_path):
    slides = {slide.slide.stem: slide for slide in find_camelyon(_tree(tmp_path), with_test=True)}
    assert {
        name: (s.centre, s.lesion, s.subset, s.unannotated, s.annotation and s.annotation.name)
        for name, s in slides.items()
    } == {
        "normal_001": ("RUMC", "negative", "train", "background", None),
        "normal_100": ("RUMC", "negative", "train", "background", None),
        "normal_101": ("UMCU", "negative", "train", "background", None),
        "tumor_001": ("RUMC", "unknown", "train", "background", "tumor_001.xml"),
        "tumor_010": ("RUMC", "unknown", "train", "ignore", "tumor_010.xml"),
        "tumor_070": ("RUMC", "unknown", "train", "background", "tumor_070.xml"),
        "tumor_071": ("UMCU", "unknown", "train", "background", "tumor_071.xml"),
        "tumor_111": ("RUMC", "unknown", "train", "background", "tumor_111.xml"),
        "test_001": ("unknown", "micro", "holdout", "background", "test_001.xml"),
        "test_002": ("unknown", "negative", "holdout", "background", None),
        "patient_000_node_0": ("center_0", "negative", "train", "background", None),
        "patient_000_node_1": ("center_0", "macro", "train", "background", "patient_000_node_1.xml"),
        "patient_021_node_3": ("center_1", "itc", "train", "ignore", "patient_021_node_3.xml"),
    }
    assert slides["patient_000_node_0"].patient == slides["patient_000_node_1"].patient == "patient_000"


def test_the_challenges_own_layout_and_capitals(tmp_path):
    _touch(
        tmp_path,
        "CAMELYON16/training/normal/Normal_001.tif",
        "CAMELYON16/training/tumor/Tumor_001.tif",
        "CAMELYON16/training/lesion_annotations/Tumor_001.xml",
        "CAMELYON17/training/center_1/patient_021_node_4.tif",
        "CAMELYON17/training/lesion_annotations/patient_021_node_4.xml",
    )
    (tmp_path / "CAMELYON17" / "stage_labels.csv").write_text(
        "\n".join(line.rpartition(",")[0] for line in STAGES.splitlines())
    )
    slides = find_camelyon(tmp_path)
    assert [(s.slide.name, s.centre, s.lesion) for s in slides] == [
        ("Normal_001.tif", "RUMC", "negative"),
        ("patient_021_node_4.tif", "center_1", "micro"),
        ("Tumor_001.tif", "RUMC", "unknown"),
    ]


def test_one_centre_is_chosen_and_the_cohort_is_readable(tmp_path):
    slides = find_camelyon(_tree(tmp_path / "data"), centres=["RUMC"])
    write_cohort(slides, tmp_path / "lists" / "rumc.csv")
    cases = read_cohort(tmp_path / "lists" / "rumc.csv")
    assert len(cases) == len(slides) == 6
    assert {case.centre for case in cases} == {"RUMC"}
    assert all(case.slide.exists() for case in cases)
    assert {case.id: case.unannotated for case in cases}["tumor-010"] == "ignore"


def test_nothing_usable_and_doubled_files_are_told(tmp_path):
    root = _tree(tmp_path)
    with pytest.raises(UserError, match=r"no usable slide of Camelyon from LPON; the centres found are RUMC, UMCU"):
        find_camelyon(root, centres=["LPON"])
    (root / "CAMELYON17" / "stages.csv").unlink()
    with pytest.raises(UserError, match=r"needs its stages\.csv"):
        find_camelyon(root / "CAMELYON17")
    _touch(root, "copy/tumor_001.tif")
    with pytest.raises(UserError, match="same name; keep one"):
        find_camelyon(root)


@pytest.mark.slow
def test_a_miniature_camelyon_becomes_a_model(tmp_path):
    c16, c17 = tmp_path / "camelyon" / "CAMELYON16", tmp_path / "camelyon" / "CAMELYON17"
    for number, stem in enumerate(("tumor_001", "tumor_010", "tumor_071", "test_001")):
        virtual_slide(c16, stem, 100 + number, 2 if stem == "tumor_071" else 1, LesionClass.MICRO)
    for number, stem in enumerate(("normal_001", "normal_101")):
        virtual_slide(c16, stem, 200 + number, 1 + number, LesionClass.NEGATIVE)
    (c16 / "evaluation").mkdir()
    (c16 / "evaluation" / "reference.csv").write_text("test_001,Tumor,IDC,Micro\n")
    virtual_slide(c17, "patient_000_node_0", 300, 3, LesionClass.NEGATIVE)
    virtual_slide(c17, "patient_000_node_1", 301, 3, LesionClass.MICRO)
    virtual_slide(c17, "patient_021_node_3", 302, 4, LesionClass.ITC)
    (c17 / "stages.csv").write_text(STAGES)

    cohort = tmp_path / "cohort.csv"
    assert main([str(tmp_path / "camelyon"), str(cohort), "--test"]) == 0
    cases = read_cohort(cohort)
    assert len(cases) == 9

    write_tiny_preset(tmp_path / "tiny.json", epochs=2, iterations=2)
    before, threads = dict(os.environ), torch.get_num_threads()
    code = execute(
        app,
        [
            "train", str(cohort), "--output", str(tmp_path / "out"), "--preset", str(tmp_path / "tiny.json"),
            "--folds", "2", "--max-tumour-per-slide", "4", "--max-benign-per-slide", "4", "--threads", "1",
            "--replay-patches", "6", "--holdout-patches", "4", "--devices", "cpu",
        ],
    )  # fmt: skip
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)
    assert code == ExitCode.OK
    model = verify_model(tmp_path / "out" / "model")
    assert model.card.labels == {"background": 0, "tumour": 1}
    assert "center_0" in model.card.training.data

    labels = {path.name: _pixels(path) for path in (tmp_path / "out" / "work" / "raw").rglob("labelsTr/*.png")}
    exhaustive = [label for name, label in labels.items() if name.startswith("tumor-001")]
    partial = [label for name, label in labels.items() if name.startswith(("tumor-010", "patient-021-node-3"))]
    assert set(np.unique(exhaustive)) == {0, 1}
    assert 2 in np.unique(partial)
    # The outlines give back what the label map says, to the outlines' half pixel.
    for case in cases:
        if case.has_shapes and case.unannotated == "background":
            _compare_with_mask(case, tmp_path / "out" / "work")


def _pixels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _compare_with_mask(case, work: Path) -> None:
    mask = tifffile.imread(case.slide.parents[1] / "masks" / f"{case.slide.stem}_mask.tif") == 2
    for name in ("Dataset501_Training", "Dataset502_Holdout"):
        dataset = Dataset(name, NnunetFolders(work))
        for record in dataset.index().patches:
            if record.case == case.id:
                label = _pixels(dataset.raw / "labelsTr" / f"{record.name}.png") == 1
                wanted = mask[record.y : record.y + 64, record.x : record.x + 64]
                label = label[: wanted.shape[0], : wanted.shape[1]]
                inner = cv2.erode(wanted.astype(np.uint8), np.ones((3, 3))) > 0
                outer = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3))) > 0
                border = np.zeros_like(inner)
                border[1:-1, 1:-1] = True
                assert (label[inner & border]).all()
                assert not label[~outer & border].any()
