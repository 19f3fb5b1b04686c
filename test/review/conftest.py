"""Chromium, and pages to open in it."""

from __future__ import annotations

import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from browser_helpers import FLAGS, PATCHES, SIZE, find_chromium
from output_helpers import UNCERTAINTY, patch_arrays, ranked_patch, record_of_file
from page_process import PageProcess
from slide_files import write_tiff

from uga.geometry import GridRegion
from uga.output.package import PackageWriter
from uga.output.schema import ModelRecord
from uga.slide import open_slide


@pytest.fixture(scope="session")
def chromium():
    """A browser; skipped where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip(
            "##### THE REVIEWER'S PAGE WAS NOT TRIED: no Chromium; `apt-get install chromium`, or name one by "
            "UGA_CHROMIUM #####"
        )
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Makes pages of browsers of their own; in the end none has complained or asked another host for anything."""
    contexts, complaints, asked = [], [], []

    def make(width=1280, height=800, *, quiet=(), **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()

        def note(message):
            usual = (*quiet, "Ignoring tile")  # OpenSeadragon, of a tile that came when its view was gone
            if message.type in ("error", "warning") and not any(text in message.text for text in usual):
                complaints.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []
    foreign = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:"))]
    assert foreign == []


@pytest.fixture
def serve():
    """Starts pages that end with the test."""
    running = []

    def start(output, *arguments):
        running.append(PageProcess(output, *arguments))
        return running[-1]

    yield start
    for page in running:
        page.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A slide, and packages of four of its patches as the tiny model's run leaves them."""
    from finetuning_helpers import trained_parent  # noqa: PLC0415 - most tests here need no model

    root = tmp_path_factory.mktemp("browser")
    model = trained_parent()
    grid_px = 2 * SIZE + 200
    picture = np.concatenate([patch_arrays(seed, grid_px)[0] for seed in (1, 2)], axis=1)[:, : grid_px + 150]
    path = root / "slides" / "s1.tif"
    path.parent.mkdir()
    write_tiff(path, picture, resolution=(10_000, 10_000))  # 1 um/px
    with open_slide(path) as slide:
        record = record_of_file(slide)
        grid = slide.grid(1.0)
        made_by = ModelRecord(name=model.name, sha256=model.sha256, folds=model.folds)
        writer = PackageWriter(root / "out", record, made_by, UNCERTAINTY, model.labels, model.tumour_label, grid)
        for rank in range(1, PATCHES + 1):
            region = GridRegion((rank - 1) % 2 * SIZE, (rank - 1) // 2 * SIZE, SIZE, SIZE)
            image = slide.read(grid, region)
            prediction = (patch_arrays(rank, SIZE)[1] == 2).astype(np.uint8)
            uncertainty = patch_arrays(rank + 10, SIZE)[2]
            patch = ranked_patch(region, grid, image, rank)
            writer.write(patch, region, image=image, prediction=prediction, uncertainty=uncertainty)
    return root


@pytest.fixture
def made(template, tmp_path, serve):
    """A copy of it that is being served."""
    shutil.copytree(template / "out", tmp_path / "out")
    page = serve(tmp_path / "out", "--slides", template / "slides")
    packages = sorted((tmp_path / "out" / "patches").iterdir())
    return SimpleNamespace(server=page, out=tmp_path / "out", packages=packages, slides=template / "slides")
