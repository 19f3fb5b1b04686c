"""The whole round trip with the shipped ensemble: segment, correct what is least sure, fine-tune, segment again.

By default the code of this checkout runs; with ``UGA_FINETUNE_IMAGE`` set, the fine-tuning runs in that container image
as a hospital would run it, with the engine named by ``DOCKER`` (docker if unset).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from uga.geometry import GridRegion
from uga.output.schema import PatchRecord
from uga.slide import open_slide
from uga.training.labels import DEMO_MAPPING
from uga.training.reference import MaskReference
from uga.virtual.slide import make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "weights" / "demo"
HOME, ABROAD = 1, 4
CORRECTED_PATCHES = 5
TUMOUR_IN_MASK = 2


def query_spec() -> SlideSpec:
    """The slide that is corrected."""
    return SlideSpec(
        seed=31_000, centre_id=ABROAD, lesion=LesionClass.MICRO, width_um=3000.0, height_um=3000.0, node_um=2200.0
    )


def unseen_specs() -> list[SlideSpec]:
    """Slides that nobody corrects: the same tissues at home and abroad."""
    return [
        SlideSpec(
            seed=32_000 + number, centre_id=centre, lesion=lesion, width_um=1800.0, height_um=1800.0, node_um=1350.0
        )
        for centre in (HOME, ABROAD)
        for number, lesion in enumerate((LesionClass.MACRO, LesionClass.MICRO))
    ]


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def infer(slides: Path, output: Path, model: Path, *options: object) -> None:
    command = [sys.executable, ROOT / "process.py", "--input", slides, "--output", output, "--model", model]
    run(*command, *options)


def correct(package: Path, slide: Path, mask: Path) -> None:
    """What a perfect pathologist saves: the reference of the patch."""
    record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
    with open_slide(slide) as opened:
        grid = opened.grid(record.spacing_um)
    region = GridRegion(record.grid_x, record.grid_y, record.size_px, record.size_px)
    with MaskReference(mask, grid, DEMO_MAPPING) as reference:
        Image.fromarray(reference.read(region)).save(package / "correction.png")


def finetune(corrections: Path, output: Path, *options: object) -> None:
    image = os.environ.get("UGA_FINETUNE_IMAGE")
    if image is None:
        run(
            sys.executable, ROOT / "finetune.py", "--input", corrections, "--output", output, "--model", MODEL, *options
        )
        return
    output.mkdir()
    output.chmod(0o777)
    run(
        os.environ.get("DOCKER", "docker"), "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp",  # noqa: S108
        "--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--volume", f"{corrections}:/input:ro", "--volume", f"{output}:/output", image, *options,
    )  # fmt: skip


def tumour_dice(outputs: Path, masks: Path, centre: int) -> float:
    """Pooled over the slides of a centre, from the written label maps."""
    both = either = 0
    for path in sorted(outputs.glob(f"centre{centre}_*/images/segmentation/*.tif")):
        predicted, reference = tifffile.imread(path, key=0) == 1, tifffile.imread(masks / path.name, key=0)
        reference = reference[: predicted.shape[0], : predicted.shape[1]] == TUMOUR_IN_MASK
        both += int((predicted & reference).sum())
        either += int(predicted.sum()) + int(reference.sum())
    assert either
    return 2 * both / either


@pytest.mark.slow
def test_five_corrected_patches_teach_the_ensemble_a_centre(tmp_path: Path) -> None:
    started = time.monotonic()
    query, tests = tmp_path / "query", tmp_path / "tests"
    make_cohort(query, [query_spec()])
    make_cohort(tests, unseen_specs())
    slide = query / f"{query_spec().name}.tif"

    infer(slide.parent, tmp_path / "segmented", MODEL, "--top", CORRECTED_PATCHES)
    packages = sorted((tmp_path / "segmented" / "patches").iterdir())
    assert len(packages) == CORRECTED_PATCHES
    for package in packages:
        correct(package, slide, query / "masks" / slide.name)

    before_training = time.monotonic()
    finetune(tmp_path / "segmented", tmp_path / "tuned")
    training_s = time.monotonic() - before_training

    dice = {}
    for moment, model in (("before", MODEL), ("after", tmp_path / "tuned" / "model")):
        infer(tests, tmp_path / moment, model, "--top", 0)
        dice[moment] = {centre: tumour_dice(tmp_path / moment, tests / "masks", centre) for centre in (HOME, ABROAD)}
    result = {"dice": dice, "training_s": round(training_s), "all_s": round(time.monotonic() - started)}
    print(json.dumps(result))  # noqa: T201 - the figures of docs/finetuning.md
    assert dice["after"][ABROAD] >= dice["before"][ABROAD] + 0.05, result
    assert dice["after"][HOME] >= dice["before"][HOME] - 0.02, result
