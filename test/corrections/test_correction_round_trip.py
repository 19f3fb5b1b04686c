import numpy as np
import pytest
from correction_helpers import (
    ENSEMBLE,
    REGION,
    SIZE,
    SLIDE,
    WAYS,
    corrected,
    draw,
    feature,
    grid_of,
    make_model,
    predicted,
    read,
    review,
    square,
    write_features,
    write_package,
    write_png,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from uga.corrections.export import painted
from uga.corrections.picture import read_label_map
from uga.geometry import GridRegion

LABEL_MAPS = hnp.arrays(np.uint8, (9, 9), elements=st.integers(0, 2))


@settings(max_examples=60)
@given(
    way=st.sampled_from(sorted(WAYS)),
    before=LABEL_MAPS,
    after=st.none() | LABEL_MAPS,
    mpp=st.tuples(st.floats(0.1, 1.3), st.floats(0.1, 1.3)),
    overhang=st.booleans(),
)
def test_any_label_map_survives_every_way(tmp_path_factory, way, before, after, mpp, overhang):
    """Drawn unchanged, a package is unchanged; drawn otherwise, the labels are those drawn, to the pixel."""
    folder = tmp_path_factory.mktemp("round")
    slide = SLIDE.model_copy(update={"mpp_x": mpp[0], "mpp_y": mpp[1], "width": 60_000, "height": 50_000})
    grid = grid_of(slide)
    region = GridRegion(grid.width - 5, grid.height - 7, 9, 9) if overhang else GridRegion(3001, 777, 9, 9)
    labels = before if after is None else after
    for array in (before, labels):
        array[grid.height - region.y :], array[:, grid.width - region.x :] = 0, 0
    package = write_package(folder, slide=slide, region=region, prediction=before)
    draw(way, package, labels, slide, region)
    found = read(folder)
    assert found.refused == ()
    if (labels == before).all():
        assert (found.used, found.unchanged) == ((), (package,))
        return
    (correction,) = found.used
    np.testing.assert_array_equal(correction.labels, labels)
    np.testing.assert_array_equal(correction.prediction, before)
    assert correction.kind == WAYS[way]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_used(tmp_path, way):
    package = write_package(tmp_path)
    file = draw(way, package, corrected())
    found = read(tmp_path)
    assert found.summary() == "1 used, 0 unchanged, 0 refused"
    (correction,) = found.used
    assert (correction.name, correction.slide_id, correction.centre) == (package.name, "s1", "home")
    assert (correction.source, correction.kind) == (file, WAYS[way])
    np.testing.assert_array_equal(correction.labels, corrected())
    np.testing.assert_array_equal(correction.prediction, predicted())
    assert correction.read_image().shape == (SIZE, SIZE, 3)
    assert not correction.labels.flags.writeable


def test_all_ways_at_once_agree(tmp_path):
    package = write_package(tmp_path)
    for way in WAYS:
        if way != "prediction.png":  # with both of its forms changed the prediction would be lost
            draw(way, package, corrected())
    assert read(tmp_path).summary() == "1 used, 0 unchanged, 0 refused"


def test_one_file_on_the_slide_corrects_the_packages_it_touches(tmp_path):
    regions = [GridRegion(300 + 50 * number, 200, SIZE, SIZE) for number in range(3)]
    packages = [write_package(tmp_path, rank=n + 1, region=region) for n, region in enumerate(regions)]
    shapes = [feature(square(r.x + 5, r.y + 5, 8)) for r in regions[:2]]
    write_features(tmp_path / "s1.geojson", *shapes)
    found = read(tmp_path)
    assert [c.name for c in found.used] == [p.name for p in packages[:2]]
    assert found.unchanged == (packages[2],)
    assert found.refused == ()


def test_what_uncovered_area_means(tmp_path):
    """Background inside frames, the exported one among them; not judged elsewhere."""
    package = write_package(tmp_path)
    shape = feature(square(REGION.x + 4, REGION.y + 4, 8))
    inside = np.zeros((SIZE, SIZE), bool)
    inside[4:12, 4:12] = True

    file = write_features(tmp_path / "s1.geojson", shape)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, np.where(inside, 2, 255))

    left_half = feature(square(REGION.x - SIZE / 2, REGION.y, SIZE), "Region*")
    write_features(file, shape, left_half)  # the frame comes last in the file, and lies below all the same
    expected = np.where(np.arange(SIZE) < SIZE / 2, 0, 255) * np.ones((SIZE, 1))
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, np.where(inside, 2, expected))

    frame = feature(square(REGION.x, REGION.y, SIZE), "region*")
    write_features(file, shape, frame)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, np.where(inside, 2, 0))
    file.unlink()

    write_features(package / "annotation.geojson", shape, frame)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, np.where(inside, 2, 0))
    write_features(package / "annotation.geojson", shape)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, np.where(inside, 2, 255))


@pytest.mark.parametrize(("name", "value"), [("Tumor", 2), ("TUMOUR", 2), ("Ignore*", 255), ("background", 0)])
def test_classes_of_drawing_tools(tmp_path, name, value):
    package = write_package(tmp_path, prediction=np.ones((SIZE, SIZE), np.uint8))
    whole, part = square(REGION.x, REGION.y, SIZE), square(REGION.x + 2, REGION.y + 3, 5)
    write_features(package / "annotation.geojson", feature(whole, "tissue"), feature(part, name))
    labels = read(tmp_path).used[0].labels
    expected = np.ones((SIZE, SIZE), np.uint8)
    expected[3:8, 2:7] = value
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("form", ["grey", "palette", "rgb", "rgba", "colours"])
def test_label_maps_as_paint_programs_save_them(tmp_path, form):
    package = write_package(tmp_path)
    labels = corrected()
    labels[0, 0] = 255
    rgb = np.repeat(labels[..., None], 3, axis=2)
    image = {
        "grey": Image.fromarray(labels),
        "palette": Image.fromarray(painted(labels, ENSEMBLE)).quantize(8),
        "rgb": Image.fromarray(rgb),
        "rgba": Image.fromarray(rgb).convert("RGBA"),
        "colours": Image.fromarray(painted(labels, ENSEMBLE)),
    }[form]
    image.save(package / "correction.png")
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, labels)


def test_labels_whose_colours_repeat_are_painted_grey(tmp_path):
    model = make_model(labels={"background": 0} | {f"label {value}": value for value in range(1, 12)} | {"tumor": 12})
    labels = np.arange(169, dtype=np.uint8).reshape(13, 13) % 13
    file = write_png(tmp_path / "x.png", painted(labels, model))
    np.testing.assert_array_equal(read_label_map(file, 13, 13, model.labels, "tumor"), labels)
    assert {tuple(c) for c in painted(labels, model).reshape(-1, 3).tolist()} > {(0, 158, 115), (1, 1, 1)}


def test_a_review_decides_about_unchanged_packages(tmp_path):
    packages = {state: write_package(tmp_path, rank=n, seed=n, region=GridRegion(300 * n, 200, SIZE, SIZE))
                for n, state in enumerate(("confirmed", "skipped", "corrected"), start=1)}  # fmt: skip
    write_png(packages["skipped"] / "correction.png", corrected(2))
    for state, package in packages.items():
        review(package, state)
    found = read(tmp_path)
    (confirmed,) = found.used
    assert confirmed.name == packages["confirmed"].name
    np.testing.assert_array_equal(confirmed.labels, predicted(1))
    assert found.unchanged == (packages["skipped"],)
    (refusal,) = found.refused
    assert refusal.source == packages["corrected"]
    assert "reviewed as corrected, but nothing in it is changed; save it again." in refusal.reason


def test_identity_is_of_labels_and_picture(tmp_path):
    cases = {"a": (1, corrected()), "b": (1, corrected()), "c": (2, corrected()), "d": (1, 2 - corrected())}
    found = {}
    for folder, (seed, labels) in cases.items():
        write_png(write_package(tmp_path / folder, seed=seed) / "correction.png", labels)
        found[folder] = read(tmp_path / folder).used[0].sha256
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3


def test_a_file_on_the_slide_may_leave_area_out_a_correction_does_so_on_purpose(tmp_path):
    package = write_package(tmp_path, prediction=np.zeros((SIZE, SIZE), np.uint8))
    file = write_features(tmp_path / "s1.geojson", feature(square(REGION.x - SIZE / 2, REGION.y, SIZE), "Region*"))
    assert read(tmp_path).unchanged == (package,)
    file.unlink()
    half = np.repeat(np.array([0, 255], np.uint8), SIZE // 2) * np.ones((SIZE, 1), np.uint8)
    half[0, 0] = 1
    write_png(package / "correction.png", half)
    np.testing.assert_array_equal(read(tmp_path).used[0].labels, half)


def test_only_the_pixels_of_the_picture_count_not_its_encoding(tmp_path):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    Image.open(package / "image.png").convert("RGBA").save(package / "image.png", compress_level=0)
    assert read(tmp_path).summary() == "1 used, 0 unchanged, 0 refused"


def test_packages_may_lie_at_any_depth(tmp_path):
    for name, quickhash in (("x", "q1"), ("y/z", "q2")):
        slide = SLIDE.model_copy(update={"quickhash": quickhash})
        write_png(write_package(tmp_path / name, slide=slide) / "correction.png", corrected())
    (tmp_path / ".trash").mkdir()
    write_package(tmp_path / ".trash")
    assert read(tmp_path).summary() == "2 used, 0 unchanged, 0 refused"
    assert read(next((tmp_path / "x" / "patches").iterdir())).summary() == "1 used, 0 unchanged, 0 refused"
