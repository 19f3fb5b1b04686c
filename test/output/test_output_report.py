import base64
import hashlib
import html.parser
import re
from datetime import UTC, datetime

import imagecodecs
import numpy as np
import pytest
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, slide_record, write_packages

from uga.geometry import SpacingUm
from uga.output import pictures
from uga.output.histogram import Histogram
from uga.output.report import Failure, Provenance, SlideResult, write_cohort_report, write_slide_report
from uga.output.tiff import PyramidWriter

HOSTILE = "<script>alert('x')</script>\"&"
# Elements without an end tag.
VOID = {"meta", "img", "br", "input"}


class Page(html.parser.HTMLParser):
    """Collects attributes and text, and refuses unbalanced tags."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.attributes, self.open, self.ids, self.text = [], [], [], ""
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] not in (["style"], ["script"]) else ""

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


def provenance(**changes):
    values = {
        "model": MODEL,
        "uncertainty": UNCERTAINTY,
        "labels": LABELS,
        "tumour_label": "tumor",
        "options": {"overlap": 0.5, "mpp": None},
        "versions": {"uga": "1.0"},
        "started": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "timings_s": {"inference": 12.34},
        "device": "cpu",
    }
    return Provenance(**(values | changes))


def result(folder, count, *, slide=None, **changes):
    _, labels, uncertainty = patch_arrays(5, 300)
    for name, picture, kind in (("segmentation", labels, "labels"), ("uncertainty", uncertainty, "gray")):
        size = {"width": 300, "height": 200, "spacing_um": SpacingUm(1, 1), "tile_px": 64}
        with PyramidWriter(folder / f"{name}.tif", kind=kind, **size) as writer:
            writer.append(picture[:200])
    slide = slide or slide_record()
    packages = write_packages(folder, count, slide=slide)
    return SlideResult(slide, folder / "segmentation.tif", folder / "uncertainty.tif", packages, **changes)


def check_self_contained(page):
    for value in page.values("src", "href", "srcset", "data", "action"):
        assert re.match(r"data:image/|#|[\w.%/-]+\Z", value), value
    assert not re.search(r"url\(|@import|<link|<iframe|<object|<form", page.source)
    scripts = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert page.source.count("<script") == len(scripts) <= 1
    allowed = re.search(r"script-src '(.*?)'", page.source)[1]
    for script in scripts:  # the one of ours, which the policy names by its hash
        assert allowed == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "unsafe-eval" not in page.source
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[\w+/=]+", "", page.source))
    assert "default-src 'none'" in page.source
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert len(page.ids) == len(set(page.ids))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(page.ids)


def pictures_of(page):
    sources = [value for value in page.values("src") if value.startswith("data:")]
    return [imagecodecs.jpeg8_decode(base64.b64decode(value.partition("base64,")[2])) for value in sources]


def test_page_of_a_slide_is_self_contained_and_shows_everything(tmp_path):
    thumbnail = np.full((70, 90, 3), 200, np.uint8)
    write_slide_report(
        tmp_path / "report.html", result(tmp_path, 3, thumbnail=thumbnail, facts={"Tissue": "4.2 mm²"}), provenance()
    )
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    embedded = pictures_of(page)
    assert len(embedded) == 3 + 3 * 3
    assert [picture.shape for picture in embedded[:3]] == [(200, 300, 3)] * 3
    assert [picture.shape for picture in embedded[3:]] == [(64, 64, 3)] * 9
    assert [i for i in page.ids if i.startswith("patch-")] == ["patch-1", "patch-2", "patch-3"]
    for text in ("Research use only", MODEL.sha256, "4.2 mm²", "soft-cross-entropy", "12.3 s", "0.5000", "2026-01-02"):
        assert text in page.text
    for name in (path.name for path in (tmp_path / "patches").iterdir()):
        assert f"patches/{name}" in page.text


def test_hostile_names_are_text(tmp_path):
    slide = slide_record().model_copy(update={"id": HOSTILE, "file": HOSTILE, "quickhash": HOSTILE})
    model = MODEL.model_copy(update={"name": HOSTILE})
    labels = {"background": 0, "tissue": 1, HOSTILE: 2}
    made_by = provenance(model=model, labels=labels, tumour_label=HOSTILE, options={HOSTILE: HOSTILE}, device=HOSTILE)
    write_slide_report(tmp_path / "report.html", result(tmp_path, 1, slide=slide, facts={HOSTILE: HOSTILE}), made_by)
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert page.text.count(HOSTILE) > 5
    assert "<script>alert" not in page.source


def test_page_without_patches_and_thumbnail(tmp_path):
    write_slide_report(tmp_path / "report.html", result(tmp_path, 0), provenance(timings_s={}, options={}))
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert "No patch was ranked" in page.text
    assert len(pictures_of(page)) == 2


def test_slide_without_any_finding(tmp_path):
    size = {"width": 40, "height": 30, "spacing_um": SpacingUm(1, 1)}
    for name, kind in (("s", "labels"), ("u", "gray")):
        with PyramidWriter(tmp_path / f"{name}.tif", kind=kind, **size) as writer:
            writer.append_blank(30, 0)
    empty = SlideResult(slide_record(), tmp_path / "s.tif", tmp_path / "u.tif")
    write_slide_report(tmp_path / "report.html", empty, provenance())
    prediction, uncertainty = pictures_of(Page(tmp_path / "report.html"))
    assert prediction.std() < 1
    assert uncertainty.max() < 8


def test_cohort_page_ranks_over_slides_links_them_and_names_failures(tmp_path):
    folders = [tmp_path / name for name in ("case a#1", "b")]
    results = []
    for folder in folders:
        slide = slide_record(folder.name)
        results.append(result(folder, 2, slide=slide, report=folder / "report.html", facts={"Tissue": "1 mm²"}))
    best = [results[1].packages[1], results[0].packages[0], results[1].packages[0]]
    failures = [Failure(HOSTILE, "The slide cannot be opened; copy it again.")]
    write_cohort_report(tmp_path / "report.html", results, provenance(), packages=best, failures=failures)
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert "case%20a%231/report.html" in page.values("href")
    assert HOSTILE in page.text
    assert "copy it again" in page.text
    # Ranks are those of this list, not those the patches have on their own slides.
    assert [i for i in page.ids if i.startswith("patch-")] == ["patch-1", "patch-2", "patch-3"]
    places = [page.text.index(f"{p.parent.parent.name}/patches/{p.name}") for p in best]
    assert places == sorted(places)


def test_histogram_shows_all_scores_and_the_ranked_ones(tmp_path):
    scores = [0.5, 0.25, 0.1, 0.01, 0.4, 0.02]  # two of them are the ranked packages'
    write_slide_report(tmp_path / "report.html", result(tmp_path, 2, scores=scores), provenance())
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert "Histogram of the scores of 6 patches; 2 of them are ranked" in page.values("aria-label")
    bars = [kind for kind in page.values("class") if kind in ("all", "ranked")]
    assert bars.count("ranked") == 2
    for text in ("Highest score", "0.5000 nats", "Median", "0.1750 nats"):
        assert text in page.text


def test_a_cohort_has_one_histogram_over_all_slides(tmp_path):
    results = [result(tmp_path / n, 1, slide=slide_record(n), scores=[0.5, 0.1]) for n in ("a", "b")]
    write_cohort_report(tmp_path / "report.html", results, provenance(), packages=[results[0].packages[0]])
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert "Histogram of the scores of 4 patches; 1 of them are ranked" in page.values("aria-label")
    assert "<script" not in page.source


@pytest.mark.parametrize("scores", [[], [0.0], [0.0, 0.0]])
def test_no_histogram_of_nothing(tmp_path, scores):
    write_slide_report(tmp_path / "report.html", result(tmp_path, 0, scores=scores), provenance())
    assert "Patch scores" not in Page(tmp_path / "report.html").text


@pytest.mark.parametrize(
    ("scores", "ranked"),
    [([1.0], [1.0]), ([0.1, 0.2, 0.3], []), ([0.3] * 50, [0.3] * 50), ([1e-9, 5.0], [5.0]), ([0.2], [0.9])],
)
def test_bars_stand_for_counts_and_stay_inside(scores, ranked):
    histogram = Histogram.of(scores, ranked)
    tall = histogram.base - histogram.top
    assert sum(round(bar.height / tall * histogram.highest) for bar in histogram.bars) == len(scores)
    for bar in histogram.bars:
        assert histogram.left <= bar.x
        assert bar.x + bar.width <= histogram.width
        assert histogram.top - 1e-9 <= bar.y
        assert bar.y + bar.height <= histogram.base + 1e-9
    assert histogram.ticks[-1].text == f"{max(scores):.3g}"
    assert (histogram.count, histogram.ranked) == (len(scores), len(ranked))


def test_cohort_of_failures_only(tmp_path):
    write_cohort_report(tmp_path / "report.html", [], provenance(), failures=[Failure("a", "no"), Failure("b", "no")])
    page = Page(tmp_path / "report.html")
    check_self_contained(page)
    assert "0 slides" in page.text
    assert "Not processed (2)" in page.text


@pytest.mark.parametrize(("size", "expected"), [(60, (60, 40)), (120, (120, 80)), (1000, (300, 200))])
def test_overview_is_the_map_reduced(tmp_path, size, expected):
    shown = pictures.read_overview(result(tmp_path, 0).segmentation, size, nearest=True)
    assert shown.shape == expected[::-1]
    assert set(np.unique(shown)) <= {0, 1, 2}


def test_uncertainty_scale_ends_where_almost_all_values_lie():
    values = np.zeros((100, 100), np.uint8)
    values[:50] = 100
    values[0, 0] = 250
    assert pictures.display_max([values]) == 100
    assert pictures.display_max([np.full((4, 4), 3, np.uint8)]) == 16
    assert pictures.display_max([np.zeros((4, 4), np.uint8)]) == pictures.display_max([]) == 255


def test_outline_lies_inside_the_label_and_labels_keep_their_colours():
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 2
    tissue = np.full((20, 20, 3), 200, np.uint8)
    colours = provenance().colours
    shown = pictures.outlined(tissue, labels, LABELS, colours, width=2)
    changed = (shown != tissue).any(axis=-1)
    expected = labels == 2
    expected[7:13, 7:13] = False
    np.testing.assert_array_equal(changed, expected)
    assert (shown[changed] == colours["tumor"]).all()
    assert set(colours) == {"tissue", "tumor"}
    assert len(set(colours.values())) == 2
