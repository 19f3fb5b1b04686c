"""How fast the reviewer's page is, by the browser's own performance entries.

    python -m benchmarks.review_page [--patches 200] [--runs 5] [--chromium PATH]

Makes an output folder of that many patches of 1024 px, serves it, opens it in headless Chromium and prints:

- queue: from the opening of the page until the queue takes keys (entry ``uga:queue-interactive``), in a fresh browser;
- patch: from the click on a card until the patch is shown;
- stroke: from a pointer event until the frame with what it has painted (entry ``uga:stroke-visible``);
- input: what the browser's Event Timing says of the presses and releases, in steps of 8 ms;
- save: from the end of a stroke until the server has it on disk (entry of the request).

Needs requirements-dev.txt and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter, image_sha256
from uga.output.schema import ModelRecord, RankedPatch, SlideRecord, UncertaintyRecord

ROOT = Path(__file__).parents[1]
SIZE = 1024
DISTINCT = 6
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
STROKES, MOVES = 20, 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5, help="fresh browsers")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        write_packages(output, options.patches)
        with subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "uga", "review", str(output), "--port", "0", "--no-token"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                address = next(line for line in server.stdout or () if line.startswith("Open ")).split()[1]
                measure(address, options)
            finally:
                server.terminate()


def write_packages(output: Path, count: int) -> None:
    """Some different patches, and copies of them elsewhere on the slide."""
    slide = SlideRecord(id="s", file="s.tif", width=400_000, height=400_000, mpp_x=0.5, mpp_y=0.5, quickhash="q")
    grid = Grid.over(slide.width, slide.height, SpacingUm(0.5, 0.5), 1.0)
    model = ModelRecord(name="benchmark", sha256="0" * 64, folds=(0, 1, 2, 3, 4))
    labels = {"background": 0, "tumour": 1}
    measure_ = UncertaintyRecord(measure="soft-cross-entropy")
    writer = PackageWriter(output, slide, model, measure_, labels, "tumour", grid)
    for rank in range(1, count + 1):
        region = GridRegion(rank % 16 * SIZE, rank // 16 * SIZE, SIZE, SIZE)
        level0 = grid.region_to_level0(region)
        if rank <= DISTINCT:
            image, prediction, uncertainty = draw(rank)
            patch = ranked(rank, level0, region, image_sha256(image))
            writer.write(patch, region, image=image, prediction=prediction, uncertainty=uncertainty)
            continue
        source = next((output / "patches").glob(f"{(rank - 1) % DISTINCT + 1:03d}_*"))
        target = source.with_name(f"{rank:03d}_s_{level0.x}_{level0.y}")
        shutil.copytree(source, target, copy_function=os.link)
        record = json.loads((target / "patch.json").read_text())
        patch = ranked(rank, level0, region, record["patch"]["image_sha256"])
        record |= {"grid_x": region.x, "grid_y": region.y, "patch": patch.model_dump(mode="json", exclude_none=True)}
        (target / "patch.json").unlink()
        (target / "patch.json").write_text(json.dumps(record))


def ranked(rank: int, level0: object, region: GridRegion, sha256: str) -> RankedPatch:
    """The entry of a patch."""
    place = {name: getattr(level0, name) for name in ("x", "y", "width", "height")}
    fractions = dict.fromkeys(("tissue_fraction", "tumor_fraction"), 0.5)
    fractions |= dict.fromkeys(("excluded_black_fraction", "excluded_white_fraction"), 0.0)
    score = {"score_mean": 1 / rank, "score_sum": SIZE * SIZE / rank}
    micrometres = {"x_um": region.x, "y_um": region.y, "size_um": SIZE}
    return RankedPatch(rank=rank, image_sha256=sha256, **place, **micrometres, **score, **fractions)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stained-looking noise, a label map of blobs, an uncertainty map along their edges."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:SIZE, :SIZE] / SIZE
    wave = np.sin(xx * rng.uniform(9, 20)) + np.cos(yy * rng.uniform(9, 20))
    grain = wave + rng.normal(0, 0.15, (SIZE, SIZE))
    image = np.stack([200 - 40 * grain, 130 - 50 * grain, 190 - 25 * grain], axis=-1).clip(0, 255).astype(np.uint8)
    return image, (wave > 0.7).astype(np.uint8), (70 * np.exp(-6 * np.abs(wave - 0.7))).astype(np.uint8)


def measure(address: str, options: argparse.Namespace) -> None:
    """Open the page in fresh browsers, paint in the last."""
    queue, patch = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        version = browser.version
        for _ in range(options.runs):
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.add_init_script("localStorage.setItem('uga-review.reviewer', '\"Benchmark\"')")
            page.add_init_script(
                "globalThis.inputs = []; new PerformanceObserver((list) => inputs.push(...list.getEntries().map("
                "(e) => [e.name, e.duration]))).observe({type: 'event', durationThreshold: 16, buffered: true})"
            )
            page.goto(address)
            page.locator(".card").first.wait_for()
            queue += durations(page, "uga:queue-interactive")
            page.wait_for_timeout(2000)  # a look at the queue
            start = time.perf_counter()
            page.locator(".card").first.click()
            page.locator(".stage[data-shows]").wait_for()
            patch.append(1000 * (time.perf_counter() - start))
        page.wait_for_timeout(1000)
        paint(page)
        page.locator(".status-saved").wait_for()
        strokes = durations(page, "uga:stroke-visible")
        slow = page.evaluate(
            "inputs.filter(([name]) => /^pointer(down|up)$/.test(name)).map(([, duration]) => duration)"
        )
        saves = page.evaluate(
            "performance.getEntriesByType('resource').filter((e) => e.name.includes('/labels?')).map((e) => e.duration)"
        )
        browser.close()
    print(
        f"{options.patches} patches, Chromium {version} without a GPU, {os.cpu_count()} cores, {platform.machine()}\n"
    )
    print("| what | median ms | 95 % below | longest | count |\n|---|---|---|---|---|")
    for name, values in (
        ("queue takes keys", queue),
        ("patch is shown", patch),
        ("stroke is seen", strokes),
        ("stroke is on disk", saves),
    ):
        print(row(name, values))
    late = [value for value in slow if value > 33]
    print(f"\nPresses and releases that took longer than two frames: {len(late)} of {2 * STROKES}.")


def paint(page: object) -> None:
    """Strokes with the tool as it is, over the whole patch."""
    box = page.locator(".stage").bounding_box()
    middle_x, middle_y, reach = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] / 3
    rng = np.random.default_rng(0)
    for number in range(STROKES):
        page.keyboard.press("x" if number % 2 else "1")
        x, y = rng.uniform(-reach, reach, 2)
        page.mouse.move(middle_x + x, middle_y + y)
        page.mouse.down()
        for _ in range(MOVES):
            x, y = np.clip(np.add([x, y], rng.uniform(-25, 25, 2)), -reach, reach)
            page.mouse.move(middle_x + x, middle_y + y)
            page.wait_for_timeout(8)
        page.mouse.up()


def durations(page: object, name: str) -> list[float]:
    """Of the page's entries of a name, in milliseconds."""
    return page.evaluate("name => performance.getEntriesByName(name).map((entry) => entry.duration)", name)


def row(name: str, values: list[float]) -> str:
    """A line of the table."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"| {name} | {statistics.median(ordered):.0f} | {high:.0f} | {ordered[-1]:.0f} | {len(ordered)} |"


if __name__ == "__main__":
    main()
