import json

import numpy as np
import pytest
from output_helpers import MODEL, UNCERTAINTY, ranked_patch, slide_grid, slide_record

from uga.geometry import GridRegion
from uga.output.boxes import to_boxes
from uga.output.files import write_json
from uga.output.schema import RankedPatches

SLIDE = slide_record()
GRID = slide_grid(SLIDE)
IMAGE = np.zeros((8, 8, 3), np.uint8)

POINT = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
# grand-challenge.org, components/schemas.py, "Multiple 2D bounding boxes".
PLATFORM_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "type": {"enum": ["Multiple 2D bounding boxes"]},
        "boxes": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "type": {"enum": ["2D bounding box"]},
                    "corners": {"type": "array", "items": POINT, "minItems": 4, "maxItems": 4},
                    "probability": {"type": "number", "minimum": 0, "maximum": 1},
                },
                "required": ["corners"],
            },
        },
        "version": {
            "type": "object",
            "properties": {"major": {"type": "number", "minimum": 0}, "minor": {"type": "number", "minimum": 0}},
            "required": ["major", "minor"],
        },
    },
    "required": ["version", "type", "boxes"],
}


def check(value, schema, where="$"):
    """The part of JSON Schema that the platform's schema uses; all its objects forbid additional properties."""
    if "enum" in schema:
        assert value in schema["enum"], where
        return
    kind = {"object": dict, "array": list, "string": str, "number": int | float}[schema["type"]]
    assert isinstance(value, kind), where
    assert not isinstance(value, bool), where
    if kind is dict:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), where
        for name, item in value.items():
            check(item, schema["properties"][name], f"{where}.{name}")
    elif kind is list:
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), where
        for index, item in enumerate(value):
            check(item, schema["items"], f"{where}[{index}]")
    elif schema["type"] == "number":
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), where


def written(tmp_path, scores, **changes):
    patches = [
        ranked_patch(GridRegion(100 * n, 50 * n, 8, 8), GRID, IMAGE, n, score_mean=score, **changes)
        for n, score in enumerate(scores, start=1)
    ]
    ranked = RankedPatches(
        slide=SLIDE, model=MODEL, uncertainty=UNCERTAINTY, patch_size_px=8, spacing_um=1.0, patches=tuple(patches)
    )
    write_json(tmp_path / "boxes.json", to_boxes(ranked))
    return json.loads((tmp_path / "boxes.json").read_bytes()), patches


@pytest.mark.parametrize("scores", [(), (0.5,), (5.0, 2.0, 0.0)])
def test_platform_schema_is_met(tmp_path, scores):
    content, _ = written(tmp_path, scores)
    check(content, PLATFORM_SCHEMA)
    assert len(content["boxes"]) == len(scores)


@pytest.mark.parametrize("wrong", [{"rank": 1}, {"corners": [[0, 0]] * 4}, {"probability": 1.5}])
def test_the_check_itself_refuses_what_the_platform_refuses(tmp_path, wrong):
    content, _ = written(tmp_path, (0.5,))
    content["boxes"][0] |= wrong
    with pytest.raises(AssertionError):
        check(content, PLATFORM_SCHEMA)


def test_boxes_are_in_order_in_mm_with_the_score_as_probability(tmp_path):
    content, patches = written(tmp_path, (5.0, 2.0, 0.0))
    assert [box["probability"] for box in content["boxes"]] == [1.0, 0.5, 0.0]
    for rank, (box, patch) in enumerate(zip(content["boxes"], patches, strict=True), start=1):
        assert box["name"].startswith(f"rank {rank}: x {patch.x}, y {patch.y},")
        left, right = patch.x * 0.243e-3, (patch.x + patch.width) * 0.243e-3
        top, bottom = patch.y * 0.251e-3, (patch.y + patch.height) * 0.251e-3
        expected = [[right, bottom, 0.5], [left, bottom, 0.5], [left, top, 0.5], [right, top, 0.5]]
        np.testing.assert_allclose(box["corners"], expected, atol=1e-6)


def test_list_over_several_slides_is_refused():
    ranked = RankedPatches(
        slides=(SLIDE,), model=MODEL, uncertainty=UNCERTAINTY, patch_size_px=8, spacing_um=1.0, patches=()
    )
    with pytest.raises(ValueError, match="one slide only"):
        to_boxes(ranked)
