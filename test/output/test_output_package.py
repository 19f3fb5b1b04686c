import dataclasses
import hashlib
import json

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, ranked_patch, slide_grid, slide_record

from uga.errors import UserError
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.outline import fill
from uga.output.package import PackageWriter, holds_correction, package_name
from uga.output.schema import PatchRecord

SIZE = 48
SLIDE = slide_record()
REGION = GridRegion(301, 200, SIZE, SIZE)


def writer(folder, grid=None):
    return PackageWriter(folder, SLIDE, MODEL, UNCERTAINTY, LABELS, "tumor", grid or slide_grid(SLIDE))


def export(folder, *, grid=None, arrays=None, region=REGION, **changes):
    grid = grid or slide_grid(SLIDE)
    image, labels, uncertainty = arrays or patch_arrays(1, SIZE)
    patch = ranked_patch(region, grid, image, **changes)
    return writer(folder, grid).write(patch, region, image=image, prediction=labels, uncertainty=uncertainty)


def rasterised(package):
    """The label map that annotation.geojson describes, by what patch.json says about its place."""
    record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
    labels = np.zeros((record.size_px, record.size_px), np.uint8)
    features = json.loads((package / "annotation.geojson").read_bytes())["features"]
    for feature in features:
        name = feature["properties"]["classification"]["name"]
        if name == "Region*":
            continue
        rings = [
            np.array(ring) / (record.scale_x, record.scale_y) - (record.grid_x, record.grid_y)
            for ring in feature["geometry"]["coordinates"]
        ]
        inside = fill(rings, labels.shape)
        assert not labels[inside].any(), "polygons overlap"
        labels[inside] = record.labels[name]
    return labels


def test_files_and_checksums(tmp_path):
    image, labels, uncertainty = patch_arrays(1, SIZE)
    package = export(tmp_path)
    assert package == tmp_path / "patches" / f"001_slide-1-ü_{round(301 / 0.243)}_{round(200 / 0.251)}"
    names = {"image.png", "prediction.png", "uncertainty.png", "annotation.geojson", "patch.json"}
    assert {path.name for path in package.iterdir()} == names
    assert list(package.parent.iterdir()) == [package]
    for name, array in (("image", image), ("prediction", labels), ("uncertainty", uncertainty)):
        stored = imagecodecs.png_decode((package / f"{name}.png").read_bytes())
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, array)
    record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
    for file in (record.files.image, record.files.prediction, record.files.uncertainty, record.files.annotation):
        assert hashlib.sha256((package / file.name).read_bytes()).hexdigest() == file.sha256
    assert record.patch.image_sha256 == hashlib.sha256(image.tobytes()).hexdigest()
    assert (record.grid_x, record.grid_y, record.size_px, record.labels) == (301, 200, SIZE, LABELS)
    assert (record.not_judged, record.files.correction) == (255, "correction.png")


def test_the_same_patch_makes_the_same_files(tmp_path):
    first, second = export(tmp_path / "a"), export(tmp_path / "b")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


@pytest.mark.parametrize("mpp", [(0.5, 0.5), (1.0, 1.0), (0.243, 0.251), (0.2431, 0.9), (1 / 3, 0.7)])
def test_annotation_is_the_prediction(tmp_path, mpp):
    grid = Grid.over(400_000, 300_000, SpacingUm(*mpp), 1.0)
    region = GridRegion(81_234, 60_001, SIZE, SIZE)
    package = export(tmp_path, grid=grid, region=region)
    np.testing.assert_array_equal(rasterised(package), patch_arrays(1, SIZE)[1])


@settings(max_examples=25)
@given(labels=hnp.arrays(np.uint8, (9, 9), elements=st.integers(0, 2)), mpp=st.floats(0.1, 1.0))
def test_annotation_is_any_prediction(tmp_path_factory, labels, mpp):
    folder = tmp_path_factory.mktemp("package")
    grid = Grid.over(90_000, 90_000, SpacingUm(mpp, mpp), 1.0)
    arrays = (np.zeros((9, 9, 3), np.uint8), labels, np.zeros((9, 9), np.uint8))
    package = export(folder, grid=grid, arrays=arrays, region=GridRegion(5001, 777, 9, 9))
    np.testing.assert_array_equal(rasterised(package), labels)


def test_annotation_is_what_qupath_reads(tmp_path):
    features = json.loads((export(tmp_path) / "annotation.geojson").read_text("utf-8"))["features"]
    frame, *others = features
    assert frame["properties"]["isLocked"]
    assert frame["properties"]["name"] == "patch 1 of slide <1> ü"
    corner = frame["geometry"]["coordinates"][0][0]
    assert corner == pytest.approx([301 / 0.243, 200 / 0.251], abs=1e-3)
    assert {feature["properties"]["classification"]["name"] for feature in others} == {"tissue", "tumor"}
    assert len({feature["id"] for feature in features}) == len(features)
    for feature in features:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert feature["properties"]["objectType"] == "annotation"
        assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in feature["geometry"]["coordinates"])


def test_fresh_package_holds_no_correction(tmp_path):
    package = export(tmp_path)
    assert not holds_correction(package)
    (package / ".DS_Store").write_bytes(b"")
    (package / "annotation.geojson").touch()
    assert not holds_correction(package)


@pytest.mark.parametrize(
    "name", ["correction.png", "annotation.geojson", "prediction.png", "image.png", "notes.txt", "patch.json"]
)
def test_corrections_are_seen_and_never_overwritten(tmp_path, name):
    package = export(tmp_path)
    (package / name).write_bytes(b"{}")
    assert holds_correction(package)
    with pytest.raises(UserError, match="holds a correction"):
        export(tmp_path)
    assert (package / name).read_bytes() == b"{}"


def test_untouched_package_is_replaced(tmp_path):
    package = export(tmp_path)
    _, labels, uncertainty = patch_arrays(2, SIZE)
    assert export(tmp_path, arrays=(patch_arrays(1, SIZE)[0], labels, uncertainty)) == package
    np.testing.assert_array_equal(imagecodecs.png_decode((package / "prediction.png").read_bytes()), labels)
    assert list(package.parent.iterdir()) == [package]


def test_arrays_that_do_not_fit_are_refused_and_leave_nothing(tmp_path):
    image, labels, uncertainty = patch_arrays(1, SIZE)
    with pytest.raises(ValueError, match="not 48 x 48"):
        export(tmp_path, arrays=(image, labels[:-1], uncertainty))
    with pytest.raises(ValueError, match="not the one named"):
        export(tmp_path, arrays=(image, labels, uncertainty), image_sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_failure_half_way_leaves_nothing(tmp_path):
    broken = dataclasses.replace(writer(tmp_path), labels={"background": 0, "tumor": 999})
    image, labels, uncertainty = patch_arrays(1, SIZE)
    patch = ranked_patch(REGION, broken.grid, image)
    with pytest.raises(ValueError, match="labels"):
        broken.write(patch, REGION, image=image, prediction=labels, uncertainty=uncertainty)
    assert list((tmp_path / "patches").iterdir()) == []


@pytest.mark.parametrize("slide_id", ["a/b", "../../etc", "..", "", "a\0b", "x" * 300, "naïve case:1*?"])
def test_package_names_stay_inside_the_folder(slide_id):
    image = patch_arrays(1, SIZE)[0]
    name = package_name(ranked_patch(REGION, slide_grid(SLIDE), image), slide_id)
    assert name.startswith("001_")
    assert not set(name) & set('/\\\0:*?"<>|')
    assert len(name) < 100
