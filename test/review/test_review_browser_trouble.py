"""The page in a real browser when things come at the wrong moment, or do not come."""

from __future__ import annotations

import io
import json
import re

import imagecodecs
import numpy as np
import pytest
from browser_helpers import (
    BRUSH,
    SIZE,
    Place,
    check_labels,
    enter,
    flood,
    paint,
    predicted,
    review_of,
    stroke,
    touching,
    wait_for_labels,
    wait_for_patch,
)
from output_helpers import UNCERTAINTY, patch_arrays, ranked_patch, record_of_file
from PIL import Image
from slide_files import write_tiff

from uga.geometry import GridRegion
from uga.output.package import PackageWriter
from uga.output.schema import ModelRecord
from uga.slide import open_slide

pytestmark = pytest.mark.browser

NOT_JUDGED = 255


@pytest.fixture
def opened(made, new_page):
    """Opens the first patch; gives the page and where the patch lies."""

    def start(**options):
        page = new_page(**options)
        enter(page, made.server.address)
        page.locator(".card").first.click()
        wait_for_patch(page, 1)
        return page, Place.of(page, SIZE)

    return start


def actions(made):
    return [json.loads(line)["action"] for line in (made.out / "reviews.jsonl").read_text().splitlines()]


def hold(page, pattern):
    """Keeps requests from being answered; gives them, and what lets them go."""
    held, is_released = [], []

    def keep(route):
        held.append(route)
        if is_released:
            route.continue_()

    page.route(pattern, keep)
    page.wait_for_timeout(300)  # the first route of a page is not in force at once, and a request may pass by it

    def release():
        is_released.append(True)
        for route in held:
            route.continue_()

    return held, release


def wait_for_held(page, held, count):
    for _ in range(100):
        if len(held) >= count:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{len(held)} of {count} requests came")


# --- keys in the middle of something ---


def test_a_key_in_the_middle_of_a_stroke_ends_and_saves_it(made, opened):
    page, place = opened()
    package = made.packages[0]
    prediction = predicted(package)
    expected = prediction
    # A tool; then a label, which takes the eraser away.
    for tool, key, value, y in (("b", "e", 1, 200), ("e", "x", prediction, 210)):
        page.keyboard.press(tool)
        window = [place.window(x, y) for x in (200, 300, 400)]
        page.mouse.move(*window[0])
        page.mouse.down()
        page.mouse.move(*window[1])
        page.keyboard.press(key)
        page.mouse.move(*window[2])
        page.mouse.up()
        expected = stroke(expected, [place.on_lattice(*point) for point in window[:2]], BRUSH, value)
        wait_for_labels(page, package, expected)
    assert actions(made) == ["edit", "edit"]
    page.keyboard.press("Enter")
    wait_for_patch(page, 2)
    assert review_of(package).state == "corrected"
    check_labels(package, expected)


def test_two_fingers_fill_nothing_and_one_does(made, opened):
    page, place = opened(width=1024, height=768, has_touch=True)
    fingers = touching(page)
    page.keyboard.press("f")
    page.keyboard.press("x")
    x, y = place.window(512, 512)
    fingers("touchStart", (x - 40, y))
    fingers("touchStart", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 42, y), (x + 42, y))
    fingers("touchMove", (x - 40, y), (x + 40, y))
    fingers("touchEnd")
    page.wait_for_timeout(300)
    assert not (made.packages[0] / "correction.png").exists(), "they moved the slide"
    fingers("touchStart", (x, y))
    fingers("touchEnd")
    prediction = predicted(made.packages[0])
    column, row = (value // 4 for value in place.on_lattice(x, y))
    wait_for_labels(page, made.packages[0], flood(prediction, column, row, NOT_JUDGED))


# --- two addresses at once ---


def test_of_two_patches_asked_for_at_once_only_the_last_is_there(made, new_page):
    page = new_page()
    held, release = hold(page, "**/static/editor.js")
    enter(page, made.server.address)
    first, second = (page.locator(".card").nth(place).get_attribute("data-id") for place in (0, 1))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for identity in (first, second):
        page.evaluate("(id) => document.querySelector(`[data-id='${id}']`).click()", identity)
    wait_for_held(page, held, 1)
    release()
    wait_for_patch(page, 2)
    assert not [url for url in asked if re.search(f"/api/patches/{first}(/labels)?$", url)]
    page.keyboard.press("s")
    wait_for_patch(page, 3)
    assert actions(made) == ["skip"]
    assert review_of(made.packages[1]).state == "skipped"
    assert review_of(made.packages[0]) is None, "no editor that nobody sees obeys keys"


def test_a_queue_that_was_left_before_it_came_obeys_no_keys(opened):
    page, _ = opened()
    held, release = hold(page, "**/api/patches")
    page.keyboard.press("q")
    wait_for_held(page, held, 1)
    page.evaluate("history.back()")
    wait_for_held(page, held, 2)
    release()
    wait_for_patch(page, 1)
    page.keyboard.press("f")
    page.locator(".rail button[aria-pressed=true][title^=Fill]").wait_for()
    page.wait_for_timeout(300)
    assert page.locator("dialog").count() == 0, "f finishes in the queue"


def test_who_goes_elsewhere_while_a_decision_is_saved_is_not_taken_on(made, opened):
    page, _ = opened()
    held, release = hold(page, "**/review")
    page.keyboard.press("s")
    wait_for_held(page, held, 1)
    page.keyboard.press("q")
    release()
    page.locator(".card").first.wait_for()
    page.wait_for_timeout(500)
    assert page.locator(".card").count() == len(made.packages)
    assert review_of(made.packages[0]).state == "skipped"


# --- answers ---


@pytest.mark.parametrize("kind", ["a page", "cut off", "lost"])
def test_a_stroke_outlives_an_answer_that_is_none(made, opened, kind):
    """A proxy's page comes instead of the server's answer, or the answer to what was saved does not arrive."""
    page, place = opened(quiet=("ERR_CONNECTION_RESET",))
    answer_once(page, "**/labels?*", kind)
    expected = paint(page, place, [(200, 200), (300, 300)], value=1, labels=predicted(made.packages[0]))
    page.locator(".status-offline").wait_for()
    wait_for_labels(page, made.packages[0], expected)
    expected = paint(page, place, [(600, 200), (700, 300)], value=1, labels=expected)
    wait_for_labels(page, made.packages[0], expected)
    assert page.locator("dialog").count() == 0, "nobody else has saved it"
    assert actions(made) == ["edit", "edit"]


@pytest.mark.parametrize("kind", ["cut off", "lost"])
def test_a_decision_outlives_an_answer_that_is_lost(made, opened, kind):
    page, _ = opened(quiet=("ERR_CONNECTION_RESET",))
    answer_once(page, "**/review", kind)
    page.keyboard.press("Enter")
    wait_for_patch(page, 2)
    assert page.locator("dialog").count() == 0
    assert actions(made) == ["accept"]


def answer_once(page, pattern, kind):
    """Answers the first request otherwise than the server."""
    answered = []

    def answer(route):
        answered.append(kind)
        if len(answered) > 1:
            route.continue_()
        elif kind == "a page":
            route.fulfill(status=200, content_type="text/html", body="<!doctype html><h1>Log in</h1>")
        else:
            response = route.fetch()
            assert response.status == 200
            if kind == "cut off":
                route.fulfill(response=response, body=response.text()[:30])
            else:
                route.abort("connectionreset")

    page.route(pattern, answer)


def test_what_cannot_be_sent_is_said_to_be_unsaved_and_tried_again(made, opened):
    page, place = opened(quiet=("no memory",))
    page.evaluate(
        """() => {
          globalThis.kept = CompressionStream;
          globalThis.CompressionStream = class { constructor() { throw new Error("no memory"); } };
        }"""
    )
    expected = paint(page, place, [(200, 200), (300, 300)], value=1, labels=predicted(made.packages[0]))
    page.locator(".status-broken").wait_for()
    assert "this page cannot send it" in page.get_by_role("alert").text_content()
    paint(page, place, [(600, 200), (700, 300)], value=1, labels=expected)
    page.get_by_text("Painting waits until the last change is saved.").wait_for()
    assert would_warn(page)
    page.evaluate("() => { globalThis.CompressionStream = kept; }")
    wait_for_labels(page, made.packages[0], expected)
    assert not would_warn(page)


def test_a_browser_that_cannot_save_opens_no_patch(made, new_page):
    page = new_page(quiet=("EditorView.show",))
    page.add_init_script("delete globalThis.CompressionStream")
    enter(page, made.server.address)
    page.locator(".card").first.click()
    page.get_by_text("This browser cannot save label maps. Open the page in a newer one").wait_for()
    page.get_by_role("link", name="To the queue").click()
    page.locator(".card").first.wait_for()


def would_warn(page):
    """Whether the browser would ask before the page is closed."""
    return page.evaluate(
        """() => {
          const event = new Event("beforeunload", {cancelable: true});
          dispatchEvent(event);
          return event.defaultPrevented;
        }"""
    )


def test_closing_the_page_is_warned_of_until_all_is_saved_also_on_the_way_to_the_queue(made, opened):
    page, place = opened()
    assert not would_warn(page)
    held, release = hold(page, "**/labels?*")
    expected = paint(page, place, [(200, 200), (300, 300)], value=1, labels=predicted(made.packages[0]))
    wait_for_held(page, held, 1)
    assert would_warn(page)
    page.keyboard.press("q")
    page.wait_for_timeout(200)
    assert would_warn(page), "it is not saved yet"
    release()
    page.locator(".card").first.wait_for()
    assert not would_warn(page)
    check_labels(made.packages[0], expected)


# --- the slide ---


def test_tissue_and_picture_agree_where_pixels_are_not_quite_square(tmp_path, serve, new_page):
    """Far down a slide, where a thousandth is pixels: with the slide and without, the patch looks the same."""
    size, left, top, mpp = 256, 60, 2600, (0.5, 0.5004)
    blocks = np.random.default_rng(1).integers(60, 220, (730, 110, 3)).astype(np.uint8)
    path = tmp_path / "slides" / "s.tif"
    path.parent.mkdir()
    write_tiff(path, blocks.repeat(8, axis=0).repeat(8, axis=1), resolution=tuple(10_000 / each for each in mpp))
    with open_slide(path) as slide:
        assert slide.mpp.y / slide.mpp.x == pytest.approx(1.0008, abs=1e-5)
        record = record_of_file(slide)
        grid = slide.grid(1.0)
        image = slide.read(grid, region := GridRegion(left, top, size, size))
    labels, model = {"background": 0, "tumour": 1}, ModelRecord(name="m", sha256="0" * 64, folds=(0,))
    writer = PackageWriter(tmp_path / "out", record, model, UNCERTAINTY, labels, "tumour", grid)
    prediction, uncertainty = np.zeros((size, size), np.uint8), patch_arrays(1, size)[2]
    patch = ranked_patch(region, grid, image, 1)
    writer.write(patch, region, image=image, prediction=prediction, uncertainty=uncertainty)

    black = bytes(imagecodecs.png_encode(np.zeros_like(image)))

    def look(*arguments):
        page, tiles = new_page(), []
        if arguments:  # what is seen then is the slide alone
            page.route("**/image.png?*", lambda route: route.fulfill(body=black, content_type="image/png"))
        page.on("request", lambda request: tiles.append(request.url) if "/tiles/" in request.url else None)
        enter(page, serve(tmp_path / "out", *arguments).address)
        page.keyboard.press("Enter")
        wait_for_patch(page, 1)
        page.keyboard.press("a")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)
        place = Place.of(page, size)
        side = size * place.scale
        assert place.scale > 2
        picture = page.screenshot(clip={"x": place.x, "y": place.y, "width": side, "height": side})
        return np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(float), tiles

    (tissue, tiles), (picture, none) = look("--slides", path.parent), look()
    assert tiles
    assert none == []
    assert all(url.endswith(f"?v={record.quickhash[:12]}") for url in tiles)
    shifts = best_shift(tissue, picture), best_shift(tissue.T, picture.T)
    assert np.abs(tissue - picture)[20:-20, 20:-20].mean() < 12
    assert max(map(abs, shifts)) <= 1, "pixels of the screen, which are less than half of the patch's"


def best_shift(one, other, largest=12):
    """By how many rows one picture has to be moved to look most like another."""
    inner = slice(largest, -largest)
    errors = {rows: np.abs(np.roll(one, rows, axis=0) - other)[inner].mean() for rows in range(-largest, largest + 1)}
    return min(errors, key=errors.get)
