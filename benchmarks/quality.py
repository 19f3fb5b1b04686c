"""What profiles and shortcuts cost in labels, Dice and ranking; the time they save stands beside it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import tifffile

from benchmarks.material import DEMO
from benchmarks.measure import Run, worker
from uga.evaluation.groups import group_slides
from uga.evaluation.slides import evaluate_slides
from uga.training.cases import read_cohort
from uga.training.labels import DEMO_MAPPING
from uga.virtual.slide import MANIFEST_NAME, make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from pathlib import Path

_TOP = 20
_RANKING = ("--top", _TOP, "--patch", 512)
_CERTAIN_SHARES = (1.0, 0.99, 0.95)


def profiles(work: Path, _: int) -> dict[str, Any]:
    """Every profile and precision on ten slides of five centres, against fp32 in torch with half overlap."""
    slides = work / "slides" / "ten"
    make_cohort(slides, _specs())
    outputs = work / "ten"
    reference = _run(slides, outputs, "reference fp32", "--engine", "torch", "--precision", "fp32")
    cases = {
        "reference": (),
        "fast": ("--profile", "fast"),
        "thorough": ("--profile", "thorough"),
    }
    rows = [_row("torch fp32, reference", slides, outputs, "reference fp32", reference, reference)]
    for name, options in cases.items():
        found = _run(slides, outputs, name, *options)
        rows.append(_row(f"auto, {name}", slides, outputs, name, found, reference))
    return {"rows": rows}


def cascade(work: Path, _: int) -> dict[str, Any]:
    """Two folds everywhere, five in windows that are not certain; against five everywhere in the same arithmetic."""
    slides = work / "slides" / "ten"
    make_cohort(slides, _specs())
    outputs = work / "ten"
    all_five = _run(slides, outputs, "five", "--engine", "openvino")
    rows = [_row("five folds", slides, outputs, "five", all_five, all_five, against="five")]
    for share in _CERTAIN_SHARES:
        name = f"cascade {share:g}"
        output = outputs / name
        shutil.rmtree(output, ignore_errors=True)
        found = worker("cascade", slides, output, DEMO, share, *_RANKING)
        row = _row(f"cascade, {100 * share:g} % certain", slides, outputs, name, found, all_five, against="five")
        rows.append({**row, "passes_share": found.said["passes"] / (5 * found.said["windows"])})
    return {"rows": rows}


def _specs() -> list[SlideSpec]:
    return [
        SlideSpec(
            seed=3_000_000 + number, centre_id=centre, lesion=lesion, width_um=1600.0, height_um=1600.0, node_um=1200.0
        )
        for centre in range(1, 6)
        for number, lesion in enumerate((LesionClass.MACRO, LesionClass.MICRO))
    ]


def _run(slides: Path, outputs: Path, name: str, *options: str) -> Run:
    print(f"quality: {name}", flush=True)
    output = outputs / name
    shutil.rmtree(output, ignore_errors=True)
    return worker("infer_all", slides, output, DEMO, *_RANKING, *options)


def _row(
    name: str, slides: Path, outputs: Path, folder: str, found: Run, reference: Run, against: str = "reference fp32"
) -> dict[str, Any]:
    ours, theirs = outputs / folder, outputs / against
    evaluations = evaluate_slides([ours], read_cohort(slides / MANIFEST_NAME), DEMO_MAPPING)
    groups = [group for group in group_slides(evaluations) if group.lesion is None]
    return {
        "name": name,
        "seconds": found.wall_s,
        "times": reference.wall_s / found.wall_s,
        "labels_equal": _labels_equal(ours, theirs),
        "dice": {group.centre or "all": group.dice for group in groups},
        "top_equal": len(_top(ours) & _top(theirs)) / _TOP,
    }


def _labels_equal(ours: Path, theirs: Path) -> float:
    """Over the pixels of tissue: those with a label or some uncertainty in either run."""
    same = total = 0
    for path in sorted(theirs.glob("*/images/segmentation/*.tif")):
        other = ours / path.relative_to(theirs)
        one, two = tifffile.imread(path, key=0), tifffile.imread(other, key=0)
        unsure = path.parents[1] / "uncertainty" / path.name
        tissue = (one > 0) | (two > 0) | (tifffile.imread(unsure, key=0) > 0)
        same += int(((one == two) & tissue).sum())
        total += int(tissue.sum())
    return same / total


def _top(output: Path) -> set[tuple[str, float, float]]:
    patches = json.loads((output / "ranked-patches.json").read_text())["patches"]
    return {(patch["slide_id"], patch["x_um"], patch["y_um"]) for patch in patches}
