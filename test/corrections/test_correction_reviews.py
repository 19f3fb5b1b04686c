"""What a reviewer's decision in patch.json does to the files beside it."""

import hashlib

import numpy as np
import pytest
from correction_helpers import (
    SIZE,
    change_record,
    corrected,
    draw,
    predicted,
    read,
    write_package,
    write_png,
)

from uga.corrections.predictor import RecordedPredictor
from uga.output.schema import PatchRecord


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def accept(package, state="corrected", *superseded):
    """Note a review as `uga review` does."""
    file = package / "correction.png"
    review = {"state": state, "reviewer": "A. B.", "at": "2031-02-03T04:05:06Z"}
    review |= {"correction_sha256": sha256(file)} if file.exists() else {}
    change_record(package, review=review | {"superseded": {path.name: sha256(path) for path in superseded}})


def only_refusal(folder):
    found = read(folder)
    assert found.summary() == "0 used, 0 unchanged, 1 refused"
    return found.refused[0].reason


def test_work_that_was_begun_is_not_learnt_but_told(tmp_path):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    accept(package, "started")
    assert "was begun by A. B. but not accepted; accept or skip it in `uga review`." in only_refusal(tmp_path)


@pytest.mark.parametrize("change", ["painted over", "removed"])
@pytest.mark.parametrize("state", ["corrected", "confirmed"])
def test_a_label_map_that_changed_after_it_was_accepted_is_refused(tmp_path, state, change):
    package = write_package(tmp_path)
    file = write_png(package / "correction.png", predicted() if state == "confirmed" else corrected())
    accept(package, state)
    assert read(tmp_path).summary() == "1 used, 0 unchanged, 0 refused"
    if change == "removed":
        file.unlink()
    else:
        write_png(file, 2 - corrected())
    assert "correction.png is not what A. B. accepted any more; open the patch" in only_refusal(tmp_path)


@pytest.mark.parametrize("way", ["annotation.geojson", "image.geojson", "beside.geojson", "beside.png"])
def test_an_accepted_label_map_takes_the_place_of_the_files_it_supersedes(tmp_path, way):
    package = write_package(tmp_path)
    drawn = draw(way, package, corrected())
    final = corrected()
    final[0:3, 0:5] = 1
    write_png(package / "correction.png", final)
    accept(package)
    assert "which differ; keep the one that counts" in only_refusal(tmp_path)
    accept(package, "corrected", drawn)
    (correction,) = read(tmp_path).used
    np.testing.assert_array_equal(correction.labels, final)
    draw(way, package, 2 - corrected())
    assert "which differ" in only_refusal(tmp_path), "it was drawn anew after the review"


def test_a_confirmed_prediction_takes_the_place_of_outlines_it_supersedes(tmp_path):
    package = write_package(tmp_path)
    drawn = draw("annotation.geojson", package, corrected())
    accept(package, "confirmed", drawn)
    (correction,) = read(tmp_path).used
    np.testing.assert_array_equal(correction.labels, predicted())
    draw("annotation.geojson", package, 2 - corrected())
    assert "was confirmed as predicted, but patches/" in only_refusal(tmp_path)


def test_background_and_not_judged_alone_are_meant_where_a_reviewer_accepted_them(tmp_path):
    package = write_package(tmp_path)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:, 20:] = 255
    write_png(package / "correction.png", labels)
    assert "black and white only" in only_refusal(tmp_path)
    accept(package)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, labels)


def test_the_model_as_a_record_names_it(tmp_path):
    package = write_package(tmp_path)
    record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
    predictor = RecordedPredictor(record)
    assert (predictor.name, predictor.sha256) == (record.model.name, record.model.sha256)
    assert (predictor.tumour_label, predictor.tumour_value, predictor.spacing_um) == ("tumor", 2, 1.0)
    write_png(package / "correction.png", corrected())
    assert read(tmp_path, predictor).summary() == "1 used, 0 unchanged, 0 refused"
    change_record(package, tumour_label="stroma")
    with pytest.raises(ValueError, match="tumour_label 'stroma' is none of the labels"):
        PatchRecord.model_validate_json((package / "patch.json").read_bytes())


def test_a_confirmed_package_without_a_label_map_teaches_its_prediction(tmp_path):
    package = write_package(tmp_path)
    accept(package, "confirmed")
    (correction,) = read(tmp_path).used
    np.testing.assert_array_equal(correction.labels, predicted())
    assert correction.kind == "png"
