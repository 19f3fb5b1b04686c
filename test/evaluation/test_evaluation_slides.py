import tracemalloc

import numpy as np
import pytest
from annotation_helpers import asap_annotation, asap_xml, collection, feature, polygon_item, polygons_json
from finished_helpers import MODEL, candidate, tiles, write_finished, write_reference

from uga.errors import SlideError, UserError
from uga.evaluation import slides as module
from uga.evaluation.slides import SlideFailure, evaluate_each, evaluate_slides
from uga.training.cases import Case
from uga.training.labels import LabelMapping

MAPPING = LabelMapping.parse("background=0,1 tumour=2 ignore=7")


def case(tmp_path, name, reference, centre="A", lesion="macro"):
    annotation = None if reference is None else write_reference(tmp_path / "masks" / f"{name}.tif", reference)
    return Case(name, tmp_path / f"{name}.tif", annotation, centre, name, lesion)


def evaluated(folder, *cases, **options):
    return evaluate_slides([folder], cases, MAPPING, tissue="patches", **options)


@pytest.fixture
def tall():
    """Predicted and reference maps taller than a band: 300 px agree, 20 are false, 100 missed, 50 not judged."""
    predicted, reference = np.zeros((1300, 200), np.uint8), np.zeros((1300, 200), np.uint8)
    predicted[505:520, 10:30], reference[505:520, 10:30] = 1, 2
    predicted[1200:1201, 0:20] = 1
    reference[1290:1300, 190:200] = 2
    predicted[0:5, 0:10], reference[0:5, 0:10] = 1, 7
    return predicted, reference


def test_counts_run_across_bands_and_leave_out_what_is_not_judged(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [candidate("s", 0.25), candidate("s", 9.0, white=0.8)])
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]))
    assert one.labels["tumour"].counts == (300, 20, 100)
    assert one.patch_scores == (0.25,), "white patches are not ranked, so they do not count"
    assert len(one.patches) == 2


def test_patches_add_up_to_the_slide(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], tiles("s", tall[0]))
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]))
    assert sum(patch.judged_px for patch in one.patches) == 1300 * 200 - 50
    assert sum(patch.wrong_px for patch in one.patches) == 120
    counts = np.sum([patch.labels["tumour"].counts for patch in one.patches], axis=0)
    assert tuple(counts) == one.labels["tumour"].counts
    worst = max(one.patches, key=lambda patch: patch.wrong_px)
    assert (worst.candidate.x, worst.candidate.y, worst.labels["tumour"].dice) == (192, 1280, 0)
    assert worst.error_rate == 80 / (20 * 8), "what overhangs the slide is not judged"


@pytest.mark.parametrize("rows", [1, 7, 512, 4000])
def test_the_height_of_bands_changes_nothing(tmp_path, tall, monkeypatch, rows):
    rng = np.random.default_rng(0)
    predicted = (rng.random((90, 200)) < 0.4).astype(np.uint8)
    reference = rng.choice([0, 2, 7], (90, 200)).astype(np.uint8)
    grey = rng.integers(0, 256, (90, 200)).astype(np.uint8)
    write_finished(tmp_path / "out", "s", predicted, tiles("s", predicted)[1:], uncertainty=grey)
    monkeypatch.setattr(module, "_BAND_ROWS", rows)
    monkeypatch.setattr(module, "_PART_COLUMNS", 67)
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", reference))
    judged = reference != 7
    tissue = np.ones_like(judged)
    tissue[:64, :64] = False
    wrong = (predicted == 1) != (reference == 2)
    for row, errors in enumerate((~wrong, wrong)):
        expected = np.bincount(grey[errors & judged & tissue], minlength=256)
        np.testing.assert_array_equal(one.errors[row], expected)
    assert one.missed_outside_tissue["tumour"] == ((reference == 2) & ~tissue & (predicted == 0)).sum()
    assert one.surfaces["tumour"].predicted_px > 0


def test_memory_does_not_grow_with_the_height(tmp_path):
    def peak(height):
        name = f"s{height}"
        labels = np.zeros((height, 600), np.uint8)
        labels[10:200, 10:200] = 1
        write_finished(tmp_path / name, name, labels, [candidate(name, 0.1)])
        one = case(tmp_path, name, labels * 2)
        del labels
        tracemalloc.start()
        try:
            evaluated(tmp_path / name, one)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1000)  # what is loaded once
    assert peak(20000) < 2 * peak(2000), "ten times the height; how the reading threads coincide varies a little"


def test_without_outlines_there_are_no_surfaces(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [])
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]), tolerance_um=None)
    assert one.surfaces == {}
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]), tolerance_um=5)
    assert 0 < one.surfaces["tumour"].nsd < 1


def test_a_slide_without_patches_has_no_tissue(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [])
    (one,) = evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]))
    assert (one.tissue_px, one.patches, one.missed_outside_tissue["tumour"]) == (0, (), 100)


def test_nothing_judged_and_one_pixel_slides(tmp_path):
    one_pixel = np.ones((1, 1), np.uint8)
    for name, reference in (("ignored", one_pixel * 7), ("right", one_pixel * 2), ("wrong", one_pixel * 0)):
        write_finished(tmp_path / "out" / name, name, one_pixel, [candidate(name, 0.5)])
        (one,) = evaluated(tmp_path / "out" / name, case(tmp_path, name, reference))
        counts = {"ignored": (0, 0, 0), "right": (1, 0, 0), "wrong": (0, 1, 0)}[name]
        assert one.labels["tumour"].counts == counts
        assert one.patches[0].judged_px == one.tissue_px == sum(counts)
    assert one.patches[0].error_rate == 1


CORNERS = ((0, 0), (40, 0), (40, 40), (0, 40))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("s.geojson", collection(feature(CORNERS))),
        ("s.xml", asap_xml(asap_annotation(CORNERS))),
        ("s.json", polygons_json(polygon_item([(x / 1000, y / 1000) for x, y in CORNERS], "Tumor"))),
    ],
)
@pytest.mark.parametrize(("unannotated", "false"), [("ignore", 0), ("background", 80 * 80 - 1600)])
def test_shapes_leave_the_rest_unjudged_unless_asked(tmp_path, file, content, unannotated, false):
    predicted = np.ones((80, 80), np.uint8)
    write_finished(tmp_path / "out", "s", predicted, tiles("s", predicted))
    (tmp_path / file).write_text(content)
    shapes = Case("s", tmp_path / "s.tif", tmp_path / file, "A", "p", "macro")
    mapping = LabelMapping.parse("background=0 tumour=2,tumor")
    (one,) = evaluate_slides([tmp_path / "out"], [shapes], mapping, unannotated=unannotated, tissue="patches")
    assert one.labels["tumour"].counts == (1600, false, 0)


def test_a_slide_without_reference_is_named_before_any_work(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [])
    with pytest.raises(UserError, match=r"The slide s\.tif .* has no reference"):
        evaluated(tmp_path / "out", case(tmp_path, "t", tall[1]))


def test_a_model_with_more_labels_than_the_mapping_is_refused(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0] * 2, [])
    with pytest.raises(UserError, match="holds the label 2"):
        evaluated(tmp_path / "out", case(tmp_path, "s", tall[1]))


@pytest.mark.parametrize(
    "labels", ["background=0 benign=1 tumour=2", "background=0 tumour=1 benign=2", "background=0,1 tumour=2"]
)
@pytest.mark.parametrize("names", [("background", "tumour"), ("background", "normal", "tumour")])
def test_labels_that_are_not_the_models_are_refused_though_no_value_shows_it(tmp_path, tall, labels, names):
    mapping = LabelMapping.parse(labels)
    write_finished(tmp_path / "out", "s", np.minimum(tall[0], 1), [], names=names)
    cases = [case(tmp_path, "s", np.minimum(tall[1], 2))]
    if names.index("tumour") == list(mapping.labels).index("tumour") and len(names) == len(mapping.labels):
        assert evaluate_slides([tmp_path / "out"], cases, mapping, tissue="patches")
    else:
        with pytest.raises(UserError, match=r"s\.tif holds the labels background, .*--labels"):
            list(evaluate_each([tmp_path / "out"], cases, mapping, tissue="patches"))


def test_tumour_on_a_negative_slide_is_a_contradiction(tmp_path, tall):
    write_finished(tmp_path / "out", "s", tall[0], [])
    with pytest.raises(UserError, match=r"masks/s\.tif marks tumour on a slide of class negative"):
        evaluated(tmp_path / "out", case(tmp_path, "s", tall[1], lesion="negative"))


def test_slides_of_two_models_are_not_pooled(tmp_path, tall):
    other = MODEL.model_copy(update={"sha256": "1" * 64})
    for name, model in (("s", MODEL), ("t", other)):
        write_finished(tmp_path / "out" / name, name, tall[0], [], model=model)
    with pytest.raises(UserError, match="differ in their model; evaluate them apart"):
        evaluated(tmp_path / "out", *(case(tmp_path, name, tall[1]) for name in "st"))


def test_one_broken_slide_does_not_stop_the_others(tmp_path, tall):
    cases = []
    for name in "abcd":
        write_finished(tmp_path / "out" / name, name, tall[0], tiles(name, tall[0]))
        cases.append(case(tmp_path, name, tall[1]))
    (tmp_path / "masks" / "b.tif").write_bytes(b"no TIFF")
    damaged = tmp_path / "masks" / "d.tif"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 3])
    map_file = next((tmp_path / "out" / "c" / "images" / "segmentation").glob("*.tif"))
    map_file.write_bytes(map_file.read_bytes()[:700])
    results = list(evaluate_each([tmp_path / "out"], cases, MAPPING, tissue="patches"))
    failures = {one.slide: one.error for one in results if isinstance(one, SlideFailure)}
    assert [one.case.id for one in results if not isinstance(one, SlideFailure)] == ["a"]
    assert sorted(failures) == ["b.tif", "c.tif", "d.tif"]
    assert "masks/b.tif cannot be read as a TIFF" in str(failures["b.tif"])
    assert "masks/d.tif" in str(failures["d.tif"])
    assert isinstance(failures["c.tif"], SlideError)
    assert str(map_file) in str(failures["c.tif"])
    assert "run the slide again" in str(failures["c.tif"])
    with pytest.raises(UserError, match=r"b\.tif"):
        evaluated(tmp_path / "out", *cases[:2], *cases[3:], cases[2])


def test_damaged_tiles_of_a_reference_are_told_as_such(tmp_path, tall):
    rng = np.random.default_rng(0)
    write_finished(tmp_path / "out", "s", tall[0], [])
    noisy = case(tmp_path, "s", rng.integers(0, 3, tall[0].shape).astype(np.uint8))
    content = bytearray(noisy.annotation.read_bytes())
    noisy.annotation.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"masks/s\.tif is damaged .*; copy or export it again"):
        evaluated(tmp_path / "out", noisy)
