"""The shipped model on a virtual slide, reviewed: what the documentation shows is made here.

``UGA_SCREENSHOTS=docs/images`` says where the pictures go; otherwise they are thrown away.
"""

from __future__ import annotations

import pytest
from browser_helpers import ROOT, Place, drag, enter, screenshot_folder, wait_for_patch, wait_until_saved

from uga.cli.console import execute
from uga.cli.main import app
from uga.corrections import read_corrections
from uga.model.folder import load_model

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def uga(*arguments):
    assert execute(app, [str(argument) for argument in arguments]) == 0


def test_screenshots(tmp_path, serve, new_page):
    pictures = screenshot_folder(tmp_path / "pictures")
    slides, out = tmp_path / "slides", tmp_path / "output"
    uga("demo", slides, "--centre", 2, "--centre", 3, "--lesion", "micro", "--seed", 42, "--size", 3000, "--node", 2200)
    uga("infer", "--input", slides, "--output", out, "--model", ROOT / "weights", "--stride", 512)
    page = new_page()

    def shoot(name):
        page.screenshot(path=pictures / f"review-{name}.jpg", type="jpeg", quality=88)

    enter(page, serve(out, "--slides", slides).address, "Dr A. Example")
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    place = Place.of(page, 1024)
    drag(page, [place.window(*point) for point in ((560, 690), (640, 760), (690, 860))])
    page.keyboard.press("p")
    page.keyboard.press("x")
    for corner in ((90, 60), (330, 90), (300, 240), (110, 260)):
        page.mouse.click(*place.window(*corner))
    page.keyboard.press("Enter")
    wait_until_saved(page)
    page.keyboard.press("1")
    page.keyboard.press("b")
    page.mouse.move(*place.window(620, 560))
    page.wait_for_timeout(1500)
    shoot("editor")
    page.keyboard.press("u")
    page.keyboard.press("g")
    page.wait_for_timeout(1500)
    shoot("uncertainty")
    page.keyboard.press("u")
    page.keyboard.press("Enter")
    wait_for_patch(page, 2)
    page.keyboard.press("Enter")
    wait_for_patch(page, 3)
    page.keyboard.press("s")
    wait_for_patch(page, 4)
    drag(page, [place.window(500, 500), place.window(520, 560)])
    wait_until_saved(page)
    page.keyboard.press("q")
    page.locator(".card").first.wait_for()
    page.locator(".toast").wait_for(state="detached")
    page.mouse.move(640, 130)
    page.wait_for_timeout(1500)
    shoot("queue")
    corrections = read_corrections(out, load_model(ROOT / "weights"))
    assert corrections.summary().startswith("2 used, ")
    assert corrections.summary().endswith(" 1 refused")

    report = next(out.glob("centre2*/report.html"))
    page.goto(report.as_uri())
    page.wait_for_timeout(500)
    top = {"x": 0, "y": 0, "width": 1280, "height": 1500}
    page.screenshot(path=pictures / "review-report.jpg", type="jpeg", quality=88, full_page=True, clip=top)
    assert {path.name for path in pictures.glob("review-*.jpg")} == {
        f"review-{name}.jpg" for name in ("editor", "uncertainty", "queue", "report")
    }
