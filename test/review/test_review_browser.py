"""The reviewer's page in a real browser, from the first look to what finetune takes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser_helpers import (
    BRUSH,
    FLAGS,
    NAME,
    PATCHES,
    SIZE,
    Place,
    check_labels,
    drag,
    enter,
    find_chromium,
    flood,
    paint,
    polygon,
    predicted,
    read_png,
    review_of,
    stroke,
    touching,
    wait_for_labels,
    wait_for_patch,
    wait_until_saved,
    wait_until_undone,
)
from finetuning_helpers import own_environment, trained_parent
from output_helpers import UNCERTAINTY, patch_arrays, ranked_patch

from uga.cli.console import execute
from uga.cli.main import app
from uga.corrections import read_corrections
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter
from uga.output.schema import ModelRecord, SlideRecord

pytestmark = pytest.mark.browser

NOT_JUDGED = 255
WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


def test_from_the_queue_to_finetuning(made, new_page, tmp_path):  # noqa: PLR0915 - one review from end to end
    page = new_page()
    enter(page, made.server.address)
    assert "token" not in page.url
    assert page.locator(".card").count() == PATCHES
    page.get_by_role("button", name="New 4", pressed=False).click()
    assert page.get_by_role("button", name="New 4", pressed=True).count() == 1
    page.get_by_role("button", name="Skipped 0").click()
    page.get_by_text("No patch is in this state.").wait_for()
    page.get_by_role("button", name="All 4").click()
    page.mouse.click(5, 400)
    page.keyboard.press("Enter")
    wait_for_patch(page, 1)
    package = made.packages[0]
    prediction = predicted(package)
    place = Place.of(page, SIZE)

    # Paint, and take it back.
    kept = paint(page, place, [(200, 150), (420, 300), (431, 520), (150, 700)], value=1, labels=prediction)
    wait_until_saved(page)
    check_labels(package, kept)
    assert review_of(package).state == "started"
    assert review_of(package).reviewer == NAME
    paint(page, place, [(800, 100), (820, 900)], value=1, labels=kept)
    page.get_by_role("button", name="Undo").wait_for()
    page.keyboard.press("Control+z")
    wait_until_undone(page)
    check_labels(package, kept)

    # A polygon of what is not judged, by clicks; another one drawn by hand.
    page.keyboard.press("p")
    page.keyboard.press("x")
    corners = [place.window(*corner) for corner in ((600, 200), (900, 240), (700, 330), (880, 500), (610, 470))]
    for corner in corners:
        page.mouse.click(*corner)
    page.keyboard.press("Enter")
    expected = polygon(kept, [place.on_lattice(*corner) for corner in corners], NOT_JUDGED)
    wait_for_labels(page, package, expected)
    page.keyboard.press("1")
    loop = [place.window(*corner) for corner in ((100, 800), (300, 760), (340, 960), (90, 990))]
    drag(page, loop)
    page.get_by_role("button", name="Close").click()
    expected = polygon(expected, [place.on_lattice(*corner) for corner in loop], 1)
    wait_for_labels(page, package, expected)

    # A fill, a small brush of background, and the eraser, which restores the prediction.
    page.keyboard.press("f")
    page.keyboard.press("0")
    spot = place.window(200, 880)
    page.mouse.click(*spot)
    x, y = (value // 4 for value in place.on_lattice(*spot))
    assert expected[y, x] == 1
    expected = flood(expected, x, y, 0)
    wait_for_labels(page, package, expected)
    page.keyboard.press("b")
    page.get_by_label("Brush size").fill("9")
    expected = paint(page, place, [(420, 300), (500, 333), (500, 333)], diameter=9, value=0, labels=expected)
    wait_for_labels(page, package, expected)
    page.keyboard.press("e")
    page.get_by_label("Brush size").fill("60")
    before = expected
    expected = paint(page, place, [(880, 230), (850, 265)], diameter=60, value=prediction, labels=expected)
    assert set(np.unique(expected[before != expected])) == {0, 1}

    # Save, reload: everything is there, and what was undone before is still to be had.
    page.keyboard.press("Control+s")
    page.locator(".toast", has_text="Everything is saved.").wait_for()
    check_labels(package, expected)
    page.reload()
    wait_for_patch(page, 1)
    page.keyboard.press("Control+z")
    wait_until_undone(page)
    assert (read_png(package / "correction.png") != expected).any()
    page.keyboard.press("Control+Shift+z")
    wait_until_undone(page, redone=True)
    check_labels(package, expected)

    # Accept; confirm the second, skip the third; the fourth is only begun.
    page.keyboard.press("Enter")
    wait_for_patch(page, 2)
    assert page.get_by_role("button", name="Confirm as predicted").is_visible()
    page.keyboard.press("Enter")
    wait_for_patch(page, 3)
    page.keyboard.press("s")
    wait_for_patch(page, 4)
    begun = paint(page, place, [(500, 500), (520, 540)], diameter=60, value=1, labels=predicted(made.packages[3]))
    wait_until_saved(page)
    page.keyboard.press("q")
    page.locator(".card").first.wait_for()
    states = [chip.text_content() for chip in page.locator(".card .chip").all()]
    assert states == ["Corrected", "Confirmed", "Skipped", "In progress"]

    # On disk.
    check_labels(package, expected)
    check_labels(made.packages[3], begun)
    assert [review_of(each).state for each in made.packages] == ["corrected", "confirmed", "skipped", "started"]
    log = [json.loads(line) for line in (made.out / "reviews.jsonl").read_text().splitlines()]
    assert {line["reviewer"] for line in log} == {NAME}
    assert [line["action"] for line in log if line["action"] != "edit"] == [
        "undo", "undo", "redo", "accept", "accept", "skip",
    ]  # fmt: skip

    # The command and the archive.
    page.keyboard.press("f")
    command = page.locator(".command code").text_content()
    assert f"--input {made.out}" in command
    with page.expect_download() as download:
        page.get_by_role("link", name="Corrections as ZIP").click()
    download.value.save_as(tmp_path / "corrections.zip")
    with zipfile.ZipFile(tmp_path / "corrections.zip") as archive:
        archive.extractall(tmp_path / "unpacked")

    # What finetune reads of either, and finetune itself.
    model = trained_parent()
    for folder in (made.out, tmp_path / "unpacked"):
        corrections = read_corrections(folder, model)
        assert [each.name for each in corrections.used] == [each.name for each in made.packages[:2]]
        np.testing.assert_array_equal(corrections.used[0].labels, expected)
        np.testing.assert_array_equal(corrections.used[1].labels, predicted(made.packages[1]))
    assert corrections.summary() == "2 used, 0 unchanged, 0 refused"
    with own_environment():
        code = execute(
            app,
            ["finetune", "--input", str(made.out), "--output", str(tmp_path / "tuned"), "--model", str(model.path),
             "--epochs", "1", "--iterations", "1", "--tolerance", "1", "--guard-patches", "2"],
        )  # fmt: skip
    assert code == 0
    report = json.loads((tmp_path / "tuned" / "report.json").read_text())
    assert [each["name"] for each in report["corrections"]] == [each.name for each in made.packages[:2]]
    assert [each["reason"].split(" was ")[1] for each in report["refused"]] == [
        f"begun by {NAME} but not accepted; accept or skip it in `uga review`."
    ]


def test_painting_while_zoomed_and_moved_lands_where_it_is_pointed_at(made, new_page):
    """The place is told apart by what is painted at the patch's own corner."""
    page = new_page()
    enter(page, made.server.address)
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    prediction = predicted(made.packages[0])
    place = Place.of(page, SIZE)
    x, y = place.window(300, 300)
    page.mouse.move(x, y)
    for _ in range(4):
        page.mouse.wheel(0, -200)
    factor = 1.0015**800
    zoomed = Place(x - (x - place.x) * factor, y - (y - place.y) * factor, place.scale * factor)
    drag(page, [(x, y), (x + 60, y + 25)], button="right")
    moved = Place(zoomed.x + 60, zoomed.y + 25, zoomed.scale)
    page.keyboard.press("x")
    window = [(x + 40, y), (x + 160, y + 90)]
    drag(page, window)
    wait_until_saved(page)
    path = [moved.on_lattice(*point) for point in window]
    check_labels(made.packages[0], stroke(prediction, path, BRUSH, NOT_JUDGED))


def test_by_keyboard_alone(made, new_page):
    page = new_page()
    enter(page, made.server.address)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for_patch(page, 2)
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("d")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("d")
    wait_until_saved(page)
    step = 10 / Place.of(page, SIZE).scale
    points = [(513, 512), (513 + step, 512), (513 + step, 512 + step), (513 + step, 512 + 2 * step)]
    points.append((points[-1][0] - 1, points[-1][1]))
    path = [(int(np.floor(x * 4 + 0.5)), int(np.floor(y * 4 + 0.5))) for x, y in points]
    check_labels(made.packages[1], stroke(predicted(made.packages[1]), path, BRUSH, NOT_JUDGED))
    page.keyboard.press("g")
    page.get_by_text("Spot 1 of").wait_for()
    for key in ("u", "v", "o", "c", "a", "a", "w", "+", "-", "[", "]", "h", "?"):
        page.keyboard.press(key)
    page.get_by_role("heading", name="Help and keys").wait_for()
    page.get_by_label("Keys of one letter are active").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.keyboard.press("PageUp")
    wait_for_patch(page, 1)
    assert [review_of(package) for package in made.packages if package != made.packages[1]] == [None] * 3


def test_two_fingers_move_and_one_paints(made, new_page):
    page = new_page(1024, 768, has_touch=True)
    enter(page, made.server.address)
    page.locator(".card").first.tap()
    wait_for_patch(page, 1)
    place = Place.of(page, SIZE)
    fingers = touching(page)
    x, y = place.window(512, 512)
    fingers("touchStart", (x - 40, y))
    fingers("touchStart", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    assert not (made.packages[0] / "correction.png").exists(), "the first of two fingers does not paint"
    zoomed = Place(x - (x - place.x) * 2, y - (y - place.y) * 2, place.scale * 2)
    window = [(x - 61, y + 13), (x + 17, y + 77)]
    page.keyboard.press("x")
    fingers("touchStart", window[0])
    fingers("touchMove", window[1])
    fingers("touchEnd")
    wait_until_saved(page)
    path = [zoomed.on_lattice(*point) for point in window]
    check_labels(made.packages[0], stroke(predicted(made.packages[0]), path, BRUSH, NOT_JUDGED))


def test_two_reviewers_do_not_overwrite_each_other(made, new_page):
    refused = ("the server responded with a status of 409",)
    one, other = new_page(quiet=refused), new_page(quiet=refused)
    enter(one, made.server.address, "One")
    enter(other, made.server.next_address(), "Other")
    for page in (one, other):
        page.locator(".card").first.click()
        wait_for_patch(page, 1)
    place, prediction, package = Place.of(one, SIZE), predicted(made.packages[0]), made.packages[0]
    first = paint(one, place, [(200, 200), (300, 300)], value=1, labels=prediction)
    wait_until_saved(one)

    # Theirs: what was painted here goes.
    paint(other, place, [(700, 200), (800, 300)], value=1, labels=prediction)
    other.get_by_text("One has saved it (in progress) since it was opened here.").wait_for()
    check_labels(package, first)
    other.get_by_role("button", name="Show theirs").click()
    other.locator("dialog").wait_for(state="detached")
    wait_until_saved(other)
    check_labels(package, first)
    second = paint(other, place, [(200, 600), (300, 700)], value=1, labels=first)
    wait_until_saved(other)
    check_labels(package, second)

    # Mine: theirs is a step that Undo brings back.
    mine = paint(one, place, [(500, 500), (600, 520)], value=1, labels=first)
    one.get_by_role("button", name="Keep mine").click()
    one.locator("dialog").wait_for(state="detached")
    wait_until_saved(one)
    check_labels(package, mine)
    one.keyboard.press("Control+z")
    wait_until_undone(one)
    check_labels(package, second)
    assert review_of(package).reviewer == "One"

    # A decision is no different.
    other.keyboard.press("s")
    other.get_by_role("button", name="Show theirs").click()
    other.locator("dialog").wait_for(state="detached")
    assert review_of(package).state == "started"


def test_a_server_that_is_killed_and_started_again(made, new_page, serve):
    """The stroke waits, nothing more is painted meanwhile, and it is saved when the server is back."""
    quiet = ("ERR_CONNECTION_REFUSED", "status of 401", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    page = new_page(quiet=quiet)
    enter(page, made.server.address)
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    place, prediction = Place.of(page, SIZE), predicted(made.packages[0])
    first = paint(page, place, [(200, 200), (300, 300)], value=1, labels=prediction)
    wait_until_saved(page)
    port = made.server.port
    made.server.process.kill()
    made.server.process.wait(20)
    second = paint(page, place, [(600, 200), (700, 300)], value=1, labels=first)
    page.locator(".status-offline").wait_for()
    assert "the server does not answer" in page.get_by_role("alert").text_content()
    check_labels(made.packages[0], first)
    paint(page, place, [(600, 600), (700, 700)], value=1, labels=second)
    page.get_by_text("Painting waits until the last change is saved.").wait_for()
    again = serve(made.out, "--slides", made.slides, "--port", port)
    page.locator(".status-locked").wait_for()
    assert "in another tab" in page.get_by_role("alert").text_content()
    page.context.new_page().goto(again.address)
    wait_until_saved(page)
    assert page.get_by_role("alert").count() == 0
    check_labels(made.packages[0], second)
    third = paint(page, place, [(600, 600), (700, 700)], value=1, labels=second)
    wait_until_saved(page)
    check_labels(made.packages[0], third)


def test_a_browser_that_is_killed_loses_the_last_stroke_at_most(made, chromium, tmp_path):
    browser = chromium.browser_type.launch(executable_path=find_chromium(), args=[*FLAGS, f"--marker={tmp_path.name}"])
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    enter(page, made.server.address)
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    place, prediction = Place.of(page, SIZE), predicted(made.packages[0])
    first = paint(page, place, [(200, 200), (300, 300)], value=1, labels=prediction)
    wait_until_saved(page)
    second = paint(page, place, [(600, 200), (700, 300)], value=1, labels=first)
    for process in own_browser_processes(tmp_path.name):
        os.kill(process, signal.SIGKILL)
    found = read_png(made.packages[0] / "correction.png")
    assert (found == first).all() or (found == second).all()
    assert review_of(made.packages[0]).state == "started"


def own_browser_processes(marker: str) -> list[int]:
    """The processes of the browser that was started with a marker of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--marker={marker}".encode() in command:
                found.append(int(entry.name))
    return found


def test_a_browser_without_a_token_sees_nothing(made, new_page):
    page = new_page(quiet=("status of 401",))
    page.goto(made.server.address.partition("?")[0])
    assert page.get_by_role("heading", name="This page is locked").is_visible()
    page.goto(f"{made.server.address}x")
    assert page.get_by_role("heading", name="This page is locked").is_visible()
    page.goto(made.server.address)
    page.locator(".card").first.wait_for()


def test_another_page_can_neither_read_nor_change_anything(made, new_page, tmp_path):
    """A page of another port that knows all there is to know, in a browser that is let in and sends its cookie."""
    page = new_page()
    enter(page, made.server.address)
    identity = page.locator(".card").first.get_attribute("data-id")
    version = page.evaluate("async (id) => (await (await fetch(`/api/patches/${id}`)).json()).version", identity)
    other, methods, statuses = page.context.new_page(), {}, []
    network = page.context.new_cdp_session(other)
    network.send("Network.enable")
    network.on("Network.requestWillBeSent", lambda sent: methods.update({sent["requestId"]: sent["request"]["method"]}))
    network.on("Network.responseReceivedExtraInfo", lambda got: statuses.append((got["requestId"], got["statusCode"])))
    with served(tmp_path) as evil:
        other.goto(evil)
        results = other.evaluate(
            """async ([origin, id, version]) => {
              const patch = `${origin}/api/patches/${id}`;
              const body = JSON.stringify({base: version, reviewer: "E", action: "skip"});
              const skip = {method: "POST", credentials: "include", body};
              const json = {headers: {"Content-Type": "application/json"}};
              const png = {method: "PUT", headers: {"Content-Type": "image/png"}, body: "x"};
              navigator.sendBeacon(`${patch}/review`, new Blob([body], {type: "application/json"}));
              const attempts = [
                fetch(`${origin}/api/patches`, {credentials: "include"}).then((r) => r.text()),
                new Promise((resolve) => { const image = new Image(); image.onload = () => resolve("seen");
                      image.onerror = () => resolve("blocked"); image.src = `${patch}/thumbnail.jpg`; }),
                fetch(`${patch}/review`, {...skip, ...json}).then((r) => r.status),
                fetch(`${patch}/labels?base=${version}&reviewer=E`, {...png, credentials: "include"}),
                fetch(`${patch}/review`, {...skip, mode: "no-cors"}).then((r) => r.type),
                fetch(`${patch}/review`, {...skip, ...json, mode: "no-cors"}).then((r) => r.type),
              ];
              return (await Promise.allSettled(attempts)).map((each) => each.value ?? "blocked");
            }""",
            [made.server.address.partition("/?")[0], identity, version],
        )
    assert results[:4] == ["blocked"] * 4
    assert set(results[4:]) <= {"opaque", "blocked"}, "whatever the browser lets be sent, nothing comes back"
    refused = [status for request, status in statuses if methods[request] == "POST"]
    assert len(refused) >= 2
    assert set(refused) == {403}, "what was sent is refused for where it comes from"
    assert not (made.out / "reviews.jsonl").exists()
    assert review_of(made.packages[0]) is None


@contextmanager
def served(folder):
    """A page of another server on this machine, which a browser takes for the same site."""
    (folder / "evil.html").write_text("<!doctype html><title>x</title><p>")
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/evil.html"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_patch_without_its_slide_and_one_that_is_damaged(made, new_page, serve, tmp_path):
    shutil.copytree(made.out, tmp_path / "alone")
    packages = sorted((tmp_path / "alone" / "patches").iterdir())
    (packages[1] / "correction.png").write_bytes(b"x")
    (packages[2] / "patch.json").write_text("{}")
    page = new_page(quiet=("status of 422",))
    enter(page, serve(tmp_path / "alone").address)
    page.get_by_text("One package is not shown").click()
    assert packages[2].name in page.locator("details li").text_content()
    page.keyboard.press("Escape")
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    assert page.get_by_text("On the slide").count() == 0
    place = Place.of(page, SIZE)
    expected = paint(page, place, [(512, 100), (540, 900)], value=1, labels=predicted(packages[0]))
    wait_until_saved(page)
    check_labels(packages[0], expected)
    page.keyboard.press("j")
    page.get_by_role("heading", name="This patch cannot be reviewed.").wait_for()
    assert "correction.png is not a PNG" in page.locator(".unusable").text_content()
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    wait_for_patch(page, 3)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1024, 768), (820, 1180)])
def test_accessible_by_axe_and_nothing_sticks_out(made, new_page, width, height):
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    page = new_page(width, height, has_touch=width < 1280)
    page.goto(made.server.address)
    page.locator("#reviewer").wait_for()
    checks = {"name": lambda: None}
    checks["queue"] = lambda: (page.locator("#reviewer").fill(NAME), page.keyboard.press("Enter"),
                               page.locator("dialog").wait_for(state="detached"))  # fmt: skip
    checks["finish"] = lambda: (page.get_by_role("button", name="Finish").click(), page.wait_for_timeout(100))
    checks["help"] = lambda: (page.keyboard.press("Escape"), page.keyboard.press("?"), page.wait_for_timeout(100))
    checks["editor"] = lambda: (page.keyboard.press("Escape"), page.locator(".card").first.click(),
                                wait_for_patch(page, 1))  # fmt: skip
    checks["settings"] = lambda: width < 900 and page.get_by_role("button", name="Settings").click()
    for name, go in checks.items():
        go()
        found = Axe().run(
            page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        )
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        overflowing = page.evaluate(
            "[...document.querySelectorAll('header *, .rail *, .decisions *')].filter((e) => e.offsetParent && "
            "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"
        )
        assert overflowing == [], name


def test_the_page_says_how_long_it_took(made, new_page):
    """Entries of the browser's own; benchmarks/review_page.py collects them."""
    page = new_page()
    enter(page, made.server.address)
    page.locator(".card").first.click()
    wait_for_patch(page, 1)
    drag(page, [(400, 300), (420, 310), (440, 320)])
    wait_until_saved(page)
    names = page.evaluate("performance.getEntriesByType('measure').map((entry) => entry.name)")
    assert names.count("uga:queue-interactive") == 1
    assert names.count("uga:stroke-visible") >= 3


def test_several_labels_and_their_keys(template, tmp_path, serve, new_page):
    """Three labels; a key without a label does nothing."""
    labels = {"background": 0, "stroma": 1, "tumour": 2}
    slide = SlideRecord(id="s", file="s.tif", width=4000, height=4000, mpp_x=0.5, mpp_y=0.5, quickhash="q")
    grid = Grid.over(4000, 4000, SpacingUm(0.5, 0.5), 1.0)
    model = ModelRecord(name="m", sha256="0" * 64, folds=(0, 1))
    writer = PackageWriter(tmp_path / "out", slide, model, UNCERTAINTY, labels, "tumour", grid)
    image, prediction, uncertainty = patch_arrays(1, 512)
    region = GridRegion(100, 100, 512, 512)
    patch = ranked_patch(region, grid, image, 1)
    package = writer.write(patch, region, image=image, prediction=prediction, uncertainty=uncertainty)
    page = new_page()
    enter(page, serve(tmp_path / "out").address)
    page.keyboard.press("Enter")
    wait_for_patch(page, 1)
    place = Place.of(page, 512)
    expected = prediction
    for key, value, x in (("1", 1, 100), ("2", 2, 200), ("7", 2, 300), ("0", 0, 400)):
        page.keyboard.press(key)
        expected = paint(page, place, [(x, 50), (x, 450)], value=value, labels=expected)
    wait_until_saved(page)
    check_labels(package, expected)
    assert page.get_by_label("stroma").count() == 1
