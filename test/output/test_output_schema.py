import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from output_helpers import MODEL, UNCERTAINTY, ranked_patch, slide_grid, slide_record
from pydantic import ValidationError

from uga.geometry import GridRegion
from uga.output.files import write_json
from uga.output.schema import InputRecord, OutputRecord, RankedPatch, RankedPatches, RunIdentity
from uga.ranking import Candidate

SLIDE = slide_record()
GRID = slide_grid(SLIDE)
IMAGE = np.zeros((8, 8, 3), np.uint8)


def patches(count, **changes):
    return tuple(ranked_patch(GridRegion(8 * n, 0, 8, 8), GRID, IMAGE, n, **changes) for n in range(1, count + 1))


def ranked(**changes):
    values = {
        "slide": SLIDE,
        "model": MODEL,
        "uncertainty": UNCERTAINTY,
        "patch_size_px": 8,
        "spacing_um": 1.0,
        "patches": patches(3),
    }
    return RankedPatches(**(values | changes))


def test_list_reads_back_and_has_the_documented_fields(tmp_path):
    path = tmp_path / "ranked-patches.json"
    write_json(path, ranked())
    back = RankedPatches.model_validate_json(path.read_bytes())
    assert back.model_dump_json() == ranked().model_dump_json()
    assert (back.slide, back.model) == (SLIDE, MODEL)
    content = json.loads(path.read_bytes())
    assert content["schema_version"] == "1.0"
    assert content["uncertainty"] == {
        "measure": "soft-cross-entropy",
        "unit": "nats",
        "aggregation": "mean",
        "full_scale": 4.0,
    }
    assert set(content["slide"]) == {"id", "file", "width", "height", "mpp_x", "mpp_y", "quickhash"}
    assert set(content["patches"][0]) == {
        *("rank", "x", "y", "width", "height", "x_um", "y_um", "size_um", "score_mean", "score_sum"),
        *("tissue_fraction", "tumor_fraction", "excluded_black_fraction", "excluded_white_fraction", "image_sha256"),
    }
    assert "Research use only" in content["notice"]


@given(mean=st.floats(0, 100, width=32), total=st.floats(0, 2e6, width=32))
def test_scores_read_back_as_the_same_float32(mean, total):
    patch = patches(1, score_mean=mean, score_sum=total)[0]
    back = RankedPatch.model_validate_json(patch.model_dump_json())
    assert np.float32(back.score_mean) == np.float32(mean)
    assert np.float32(back.score_sum) == np.float32(total)


def test_candidate_becomes_level0_pixels_and_micrometres():
    candidate = Candidate("s", "", 1000, 2000, 500, 0.5, 125000.0, 0.9, 0.25, 0.1, 0.2, 7.0)
    patch = RankedPatch.of(candidate, rank=1, grid=GRID, image_sha256="0" * 64)
    # 1 um is 1 / 0.243 and 1 / 0.251 level-0 pixels.
    assert (patch.x, patch.y) == (4115, 7968)
    assert (patch.width, patch.height) == (6173 - 4115, 9960 - 7968)
    assert (patch.x_um, patch.y_um, patch.size_um) == (1000, 2000, 500)
    assert (patch.excluded_black_fraction, patch.excluded_white_fraction, patch.tumor_fraction) == (0.1, 0.2, 0.25)


@pytest.mark.parametrize("ranks", [(2, 1), (1, 1), (1, 3), (2,)])
def test_wrong_ranks_are_refused(ranks):
    with pytest.raises(ValidationError, match="ranked 1, 2, 3"):
        ranked(patches=tuple(patches(1)[0].model_copy(update={"rank": rank}) for rank in ranks))


def test_patches_must_lie_on_listed_slides():
    other = slide_record("other")
    both = ranked(slide=None, slides=(SLIDE, other), patches=patches(1, slide_id="other"))
    assert both.all_slides == (SLIDE, other)
    with pytest.raises(ValidationError, match="not listed"):
        ranked(patches=patches(1, slide_id="other"))
    with pytest.raises(ValidationError, match="not listed"):
        ranked(slide=None, slides=(SLIDE, other), patches=patches(1))


@pytest.mark.parametrize("slides", [{"slide": None}, {"slides": (SLIDE,)}])
def test_one_slide_or_several_never_both_or_none(slides):
    with pytest.raises(ValidationError, match="either slide or slides"):
        ranked(**slides)


@pytest.mark.parametrize("path", ["/data/case.svs", r"C:\data\case.svs", r"\\host\case.svs"])
def test_absolute_paths_are_refused(path):
    with pytest.raises(ValidationError, match="must be a name"):
        type(SLIDE)(**(SLIDE.model_dump() | {"file": path}))
    source = InputRecord(**SLIDE.model_dump(), size_bytes=1)
    with pytest.raises(ValidationError, match="option model must not hold the path"):
        RunIdentity(uga_version="1", input=source, model=MODEL, options={"model": path})


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", r"a\x", r"C:\x"])
def test_outputs_outside_the_folder_are_refused(path):
    with pytest.raises(ValidationError, match="inside the output folder"):
        OutputRecord(path=path, size_bytes=0, sha256="0" * 64)


@pytest.mark.parametrize(
    "change",
    [{"score_mean": float("nan")}, {"tissue_fraction": 1.1}, {"width": 0}, {"image_sha256": "abc"}, {"colour": "red"}],
)
def test_values_that_cannot_be_are_refused(change):
    with pytest.raises(ValidationError):
        patches(1, **change)
