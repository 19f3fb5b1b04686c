"""The expectations of test.sh belong to the shipped ensemble and to the committed input."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from container.compare import differences

from uga.inputs import find_slides
from uga.model.folder import load_model
from uga.slide import open_slide

ROOT = Path(__file__).parents[2]
EXPECTED = json.loads((Path(__file__).parent / "expected.json").read_text())


def test_expectations_are_those_of_the_shipped_model() -> None:
    assert EXPECTED["model_sha256"] == load_model(ROOT / "weights").sha256, (
        "weights/ has changed: python process.py --input test/input/interf0 --output NEW && "
        "PYTHONPATH=. python test/container/compare.py NEW - --update > test/container/expected.json"
    )


def test_expectations_are_those_of_the_committed_job() -> None:
    (source,) = find_slides(ROOT / "test" / "input" / "interf0")
    assert source.tissue_mask is not None
    with open_slide(source.path) as slide:
        facts = {
            "id": source.slide_id,
            "width": slide.width_px,
            "height": slide.height_px,
            "quickhash": slide.quickhash,
        }
    assert EXPECTED["slide"] == facts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("slide", "width"), 1),
        (("images", "segmentation", "largest"), 2),
        (("images", "uncertainty", "levels"), []),
        (("label_areas",), [0.5, 0.5]),
        (("mean_grey",), 99.0),
        (("patches",), []),
        (("patches", 0, "score_mean"), 3.0),
    ],
)
def test_the_comparison_can_fail(path: tuple[str | int, ...], value: object) -> None:
    found = copy.deepcopy(EXPECTED)
    assert differences(found, EXPECTED) == []
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert len(differences(found, EXPECTED)) == 1
