"""Compares what a container wrote for test/input/interf0 with what is expected; runs inside the image.

``python compare.py OUTPUT expected.json`` checks; ``python compare.py OUTPUT - --update`` prints new expectations, and
``--structure-only`` leaves out what only this input has. Structure always has to fit: one image per socket, its
geometry and tags, the lists, the manifest. Scores and areas are compared, with a tolerance for other processors, if the
model is the one of the expectations.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from uga.output.boxes import Boxes
from uga.output.finished import FinishedSlide
from uga.output.manifest import read_manifest

_SCORE_TOLERANCE = 0.02
_AREA_TOLERANCE = 0.005


def main(arguments: list[str]) -> int:
    """Compares or updates; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("expected")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--structure-only", action="store_true")
    options = parser.parse_args(arguments)
    found = describe(options.output)
    if options.update:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    expected = found if options.structure_only else json.loads(Path(options.expected).read_text())
    problems = [*differences(found, expected), *structure_problems(options.output, found)]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if found["model_sha256"] != expected["model_sha256"]:
        sys.stdout.write("Another model than that of the expectations: scores and areas were not compared.\n")
    sys.stdout.write(f"{options.output}: {'differs' if problems else 'as expected'}\n")
    return 1 if problems else 0


def describe(output: Path) -> dict[str, Any]:
    """What the expectations say of an output folder."""
    manifest = read_manifest(output)
    if manifest is None:
        raise SystemExit(f"{output} holds no manifest.json, so the run did not end well.")
    slide = FinishedSlide(output, manifest)
    ranked = slide.ranked()
    labels, uncertainty = slide.segmentation, slide.uncertainty
    with tifffile.TiffFile(labels) as tiff:
        areas = np.bincount(tiff.pages[0].asarray().ravel()) / tiff.pages[0].asarray().size
    with tifffile.TiffFile(uncertainty) as tiff:
        mean_grey = float(tiff.pages[0].asarray().mean())
    return {
        "model_sha256": manifest.model.sha256,
        "slide": manifest.input.model_dump(include={"id", "width", "height", "quickhash"}),
        "images": {name: _image(path) for name, path in (("segmentation", labels), ("uncertainty", uncertainty))},
        "label_areas": [round(float(area), 4) for area in areas],
        "mean_grey": round(mean_grey, 2),
        "patches": [{"x": patch.x, "y": patch.y, "score_mean": round(patch.score_mean, 4)} for patch in ranked.patches],
    }


def _image(path: Path) -> dict[str, Any]:
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages[0]
        tags = {tag.code: tag.value for tag in first.tags.values()}
        return {
            "levels": [list(page.shape) for page in tiff.pages],
            "tile_px": first.tilewidth,
            "smallest": tags[340][0],
            "largest": tags[341][0],
        }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Where the outputs are not what was expected; scores only for the same model."""
    problems = [
        f"{name}: expected {expected[name]}, found {found[name]}"
        for name in ("slide", "images")
        if found[name] != expected[name]
    ]
    places = [[(patch["x"], patch["y"]) for patch in side["patches"]] for side in (found, expected)]
    if sorted(places[0]) != sorted(places[1]) and found["model_sha256"] == expected["model_sha256"]:
        problems.append(f"patches: expected {places[1]}, found {places[0]}")
    if problems or found["model_sha256"] != expected["model_sha256"]:
        return problems
    scores = [{(p["x"], p["y"]): p["score_mean"] for p in side["patches"]} for side in (found, expected)]
    for place, score in scores[1].items():
        if abs(scores[0][place] - score) > _SCORE_TOLERANCE * max(score, 0.05):
            problems.append(f"patch {place}: expected a score of {score}, found {scores[0][place]}")
    areas = [np.array(side["label_areas"]) for side in (found, expected)]
    if areas[0].shape != areas[1].shape or np.abs(areas[0] - areas[1]).max() > _AREA_TOLERANCE:
        problems.append(f"label_areas: expected {areas[1].tolist()}, found {areas[0].tolist()}")
    if abs(found["mean_grey"] - expected["mean_grey"]) > _SCORE_TOLERANCE * max(expected["mean_grey"], 1):
        problems.append(f"mean_grey: expected {expected['mean_grey']}, found {found['mean_grey']}")
    return problems


def structure_problems(output: Path, found: dict[str, Any]) -> list[str]:
    """What no output may show, whatever the input: two images in a socket, lists that do not fit, leftovers."""
    problems = []
    slide = FinishedSlide(output, read_manifest(output))  # type: ignore[arg-type] # describe() has seen it
    for path in (slide.segmentation, slide.uncertainty):
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        if files != [path]:
            problems.append(f"{path.parent} must hold one image and holds {len(files)} files")
    boxes = Boxes.model_validate_json((output / slide.layout.boxes).read_bytes())
    if len(boxes.boxes) != len(found["patches"]):
        problems.append(f"{slide.layout.boxes} has {len(boxes.boxes)} boxes for {len(found['patches'])} patches")
    missing = [record.path for record in slide.manifest.outputs if not (output / record.path).is_file()]
    problems += [f"{path} is in the manifest but not there" for path in missing]
    problems += [f"{path} was left" for path in output.rglob("*.partial")]
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
