"""Packages of a slide that does not exist, and files that correct them."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from output_helpers import LABELS, MODEL, UNCERTAINTY, patch_arrays, ranked_patch

from uga.annotations.writers import write_asap_xml, write_geojson, write_polygons
from uga.corrections import CorrectionSet, read_corrections
from uga.corrections.export import painted, patch_shapes
from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter
from uga.output.schema import SlideRecord

UInt8 = NDArray[np.uint8]

SIZE = 32
MPP = SpacingUm(0.243, 0.251)
SLIDE = SlideRecord(
    id="s1", file="s1.svs", width=9000, height=7000, mpp_x=MPP.x, mpp_y=MPP.y, quickhash="q1", centre="home"
)
REGION = GridRegion(301, 200, SIZE, SIZE)


def make_model(**changes: Any) -> Any:
    """What a verified model tells about itself."""
    known = {"name": MODEL.name, "sha256": MODEL.sha256, "labels": dict(LABELS), "tumour_label": "tumor"}
    return SimpleNamespace(**(known | {"tumour_value": 2, "spacing_um": 1.0, "path": Path("model")} | changes))


ENSEMBLE = make_model()


def grid_of(slide: SlideRecord = SLIDE) -> Grid:
    return slide.grid(1.0)


def write_package(
    folder: Path,
    *,
    seed: int = 1,
    rank: int = 1,
    slide: SlideRecord = SLIDE,
    region: GridRegion = REGION,
    prediction: UInt8 | None = None,
) -> Path:
    """Export a package below ``folder``/patches."""
    image, labels, uncertainty = patch_arrays(seed, region.width)
    grid = grid_of(slide)
    writer = PackageWriter(folder, slide, MODEL, UNCERTAINTY, LABELS, "tumor", grid)
    return writer.write(
        ranked_patch(region, grid, image, rank),
        region,
        image=image,
        prediction=labels if prediction is None else prediction,
        uncertainty=uncertainty,
    )


def predicted(seed: int = 1) -> UInt8:
    return patch_arrays(seed, SIZE)[1]


def corrected(seed: int = 1) -> UInt8:
    """The prediction with a square of tumour and one of background."""
    labels = predicted(seed).copy()
    labels[4:14, 4:14], labels[20:30, 18:28] = 2, 0
    return labels


def write_png(path: Path, pixels: NDArray[Any]) -> Path:
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def draw(way: str, package: Path, labels: UInt8, slide: SlideRecord = SLIDE, region: GridRegion = REGION) -> Path:
    """Correct a package to ``labels`` in one of the ways there are; returns the file."""
    root, grid = package.parent.parent, grid_of(slide)
    on_slide = patch_shapes(labels, region, grid, ENSEMBLE)
    picture = Grid(1.0, 1.0, 1.0, region.width, region.height)
    on_picture = patch_shapes(labels, picture.region, picture, ENSEMBLE)
    if way in ("correction.png", "prediction.png"):
        return write_png(package / way, labels)
    if way == "beside.png":
        return write_png(package.with_name(f"{package.name}.png"), painted(labels, ENSEMBLE))
    path = {
        "annotation.geojson": package / "annotation.geojson",
        "image.geojson": package / "image.geojson",
        "beside.geojson": package.with_name(f"{package.name}.geojson"),
        "slide.geojson": root / f"{slide.id}.geojson",
        "slide.xml": root / f"{slide.id}.xml",
        "slide.json": root / f"{slide.id}.json",
    }[way]
    if way == "slide.xml":
        write_asap_xml(path, on_slide, {})
    elif way == "slide.json":
        write_polygons(path, on_slide, SpacingUm(slide.mpp_x, slide.mpp_y), "")
    else:
        write_geojson(path, on_picture if way in ("image.geojson", "beside.geojson") else on_slide, {})
    return path


WAYS = {
    "correction.png": "png",
    "prediction.png": "png",
    "beside.png": "png",
    "annotation.geojson": "geojson",
    "image.geojson": "geojson",
    "beside.geojson": "geojson",
    "slide.geojson": "geojson",
    "slide.xml": "asap",
    "slide.json": "grand-challenge",
}


def change_record(package: Path, **changes: Any) -> None:
    """Edit patch.json; a key may lead into records with ``__``."""
    file = package / "patch.json"
    record = json.loads(file.read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        place = record
        for part in path:
            place = place[part]
        place[last] = value
    file.write_text(json.dumps(record))


def review(package: Path, state: str) -> None:
    change_record(package, review={"state": state, "reviewer": "A. B.", "at": "2031-02-03T04:05:06Z"})


def read(folder: Path, model: Any = ENSEMBLE) -> CorrectionSet:
    return read_corrections(folder, model)


def feature(ring: Iterable[tuple[float, float]], name: str = "tumor") -> dict[str, Any]:
    points = [list(point) for point in ring]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    """Corners in level-0 pixels of a square of grid pixels of the slide."""
    grid = grid_of()
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    return [(cx * grid.scale_x, cy * grid.scale_y) for cx, cy in corners]


def write_features(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
