"""report.html in a real browser, opened as a file: on a screen, without scripts, on paper."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, slide_record, write_packages

from uga.geometry import SpacingUm
from uga.output.report import Provenance, SlideResult, write_slide_report
from uga.output.tiff import PyramidWriter

pytestmark = pytest.mark.browser

WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


@pytest.fixture
def report(tmp_path):
    _, labels, uncertainty = patch_arrays(5, 300)
    for name, picture, kind in (("segmentation", labels, "labels"), ("uncertainty", uncertainty, "gray")):
        size = {"width": 300, "height": 200, "spacing_um": SpacingUm(1, 1), "tile_px": 64}
        with PyramidWriter(tmp_path / f"{name}.tif", kind=kind, **size) as writer:
            writer.append(picture[:200])
    made = SlideResult(
        slide_record(),
        tmp_path / "segmentation.tif",
        tmp_path / "uncertainty.tif",
        write_packages(tmp_path, 3),
        thumbnail=np.full((200, 300, 3), 210, np.uint8),
        facts={"Tissue": "4.2 mm²"},
        scores=[0.5, 0.25, 1 / 6, 0.1, 0.05],
    )
    provenance = Provenance(
        MODEL,
        UNCERTAINTY,
        LABELS,
        "tumor",
        {"overlap": 0.5},
        {"uga": "1.0"},
        datetime(2026, 1, 2, tzinfo=UTC),
        {},
        "cpu",
    )
    write_slide_report(tmp_path / "report.html", made, provenance)
    return (tmp_path / "report.html").as_uri()


def test_overviews_lie_over_the_slide_with_a_slider(report, new_page):
    page = new_page()
    page.goto(report)
    over = page.locator("#stage .over")
    assert over.is_visible()
    assert not page.locator(".overviews").is_visible()
    assert over.evaluate("e => getComputedStyle(e).opacity") == "0.6"
    page.get_by_label("Opacity").fill("25")
    assert over.evaluate("e => getComputedStyle(e).opacity") == "0.25"
    prediction = over.get_attribute("src")
    page.get_by_label("Uncertainty").check()
    assert over.get_attribute("src") != prediction
    assert "Uncertainty overview" in over.get_attribute("alt")
    base = page.locator("#stage img").first
    assert base.bounding_box() == over.bounding_box()
    frames = page.locator("#stage svg")
    assert frames.is_visible()
    page.get_by_label("ranked patches").uncheck()
    assert not frames.is_visible()


def test_without_scripts_and_on_paper_they_lie_side_by_side(report, new_page):
    plain = new_page(java_script_enabled=False)
    plain.goto(report)
    assert [figure.is_visible() for figure in plain.locator(".overviews figure").all()] == [True] * 3
    assert not plain.locator("#stage").is_visible()
    page = new_page()
    page.goto(report)
    page.emulate_media(media="print")
    assert [figure.is_visible() for figure in page.locator(".overviews figure").all()] == [True] * 3
    tops = {round(figure.bounding_box()["y"]) for figure in page.locator(".overviews figure").all()}
    assert len(tops) == 1
    assert not page.locator("#stage").is_visible()
    for text in ("Research use only", MODEL.sha256, "Patch scores", "4.2 mm²"):
        assert page.get_by_text(text).first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("width", [1280, 600])
def test_accessible_by_axe_and_nothing_sticks_out(report, new_page, width):
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    page = new_page(width)
    page.goto(report)
    found = Axe().run(page, options={"runOnly": [*WCAG_AA, "best-practice"]})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
