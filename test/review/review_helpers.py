"""Output folders to review, and pages that serve them in this process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, ranked_patch, slide_grid, slide_record
from PIL import Image
from starlette.testclient import TestClient

from uga.geometry import GridRegion
from uga.output.files import write_json
from uga.output.package import PackageWriter
from uga.output.schema import RankedPatches, SlideRecord
from uga.review.access import Gate, Tokens
from uga.review.app import ReviewPage
from uga.review.pages import gate_pages
from uga.review.queue import Queue
from uga.review.store import ReviewStore
from uga.review.tiles import SlideTiles

UInt8 = NDArray[np.uint8]

SIZE = 64
HOST = "127.0.0.1:8080"
ORIGIN = f"http://{HOST}"
REVIEWER = "Dr Ä. Müller"


def record_of(slide_id: str) -> SlideRecord:
    return slide_record(slide_id).model_copy(update={"quickhash": f"quick {slide_id}"})


def write_slide(folder: Path, slide: SlideRecord, scores: dict[int, float], *, size: int = SIZE) -> list[Path]:
    """Packages of a slide, one for each rank with a score."""
    grid = slide_grid(slide)
    writer = PackageWriter(folder, slide, MODEL, UNCERTAINTY, LABELS, "tumor", grid)
    packages = []
    for rank, score in scores.items():
        image, labels, uncertainty = patch_arrays(rank, size)
        region = GridRegion((rank * 300) % 1800, 200 * rank, size, size)
        patch = ranked_patch(region, grid, image, rank, score_mean=score)
        packages.append(writer.write(patch, region, image=image, prediction=labels, uncertainty=uncertainty))
    return packages


def write_output(folder: Path, count: int = 3, *, size: int = SIZE) -> list[Path]:
    """What a run over one slide leaves of packages."""
    return write_slide(folder, record_of("s1"), {rank: 1 / rank for rank in range(1, count + 1)}, size=size)


def write_list(folder: Path, packages: list[Path], slides: list[SlideRecord]) -> None:
    """A ranked list over packages in this order."""
    patches = []
    for rank, package in enumerate(packages, start=1):
        image, _, _ = patch_arrays(rank, SIZE)
        slide = slides[0]
        patch = ranked_patch(GridRegion(0, 0, SIZE, SIZE), slide_grid(slide), image, rank)
        patches.append(
            patch.model_copy(update={"slide_id": slide.id, "folder": package.relative_to(folder).as_posix()})
        )
    ranked = RankedPatches(
        slides=tuple(slides),
        model=MODEL,
        uncertainty=UNCERTAINTY,
        patch_size_px=SIZE,
        spacing_um=1,
        patches=tuple(patches),
    )
    write_json(folder / "ranked-patches.json", ranked)


def store_of(folder: Path) -> ReviewStore:
    return ReviewStore(Queue.find(folder))


def client_of(folder: Path, **changes: Any) -> TestClient:
    """A browser that has come in with a token, at the page of a folder."""
    tokens: list[str] = []
    keeper = Tokens(announce=tokens.append)
    keeper.renew()
    page = ReviewPage(store_of(folder), changes.get("tiles", SlideTiles({})), changes.get("models", ()))
    gate = Gate(page.app(), frozenset({"proxy.example"}), keeper, "uga_review_8080", gate_pages())
    client = TestClient(gate, base_url=ORIGIN, headers={"Origin": ORIGIN}, raise_server_exceptions=False)
    client.tokens = tokens  # type: ignore[attr-defined]
    assert client.get("/", params={"token": tokens[-1]}).status_code == 200
    return client


def first_id(client: TestClient) -> str:
    return str(client.get("/api/patches").json()["patches"][0]["id"])


def png(labels: NDArray[Any], mode: str | None = None) -> bytes:
    """A PNG as a browser may send it."""
    if mode is None:
        return bytes(imagecodecs.png_encode(labels))
    data = io.BytesIO()
    Image.fromarray(labels).convert(mode).save(data, "PNG")
    return data.getvalue()


def predicted(rank: int = 1, size: int = SIZE) -> UInt8:
    return patch_arrays(rank, size)[1]


def corrected(rank: int = 1, size: int = SIZE) -> UInt8:
    """The prediction, with a square of tumour, one of background and one that is not judged."""
    labels = predicted(rank, size).copy()
    labels[4:14, 4:14], labels[20:30, 18:28], labels[40:50, 40:50] = 2, 0, 255
    return labels
