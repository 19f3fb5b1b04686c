"""Chromium, and pages to open in it."""

from __future__ import annotations

import signal

import pytest
from browser_helpers import FLAGS, find_chromium
from page_process import PageProcess


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
