"""Finished output folders without any inference."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from output_helpers import COMPUTATION

from uga.geometry import SpacingUm
from uga.output.files import write_json
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.manifest import write_manifest
from uga.output.maps import label_description
from uga.output.schema import InputRecord, ModelRecord, RankedPatches, RunIdentity, SlideRecord, UncertaintyRecord
from uga.output.tiff import PyramidWriter
from uga.ranking import Candidate
from uga.scores import write_scores

MODEL = ModelRecord(name="made up", sha256="0" * 64, folds=(0, 1))


def candidate(slide_id: str, score: float, white: float = 0.0, *, x: int = 0, y: int = 0) -> Candidate:
    """A patch of 64 px."""
    return Candidate(slide_id, "home", x, y, 64, score, score * 64**2, 1.0, 0.5, 0.0, white, 0.0)


def tiles(slide_id: str, labels: NDArray[np.uint8], score: float = 0.1) -> list[Candidate]:
    """Patches over the whole map; their scores rise in reading order."""
    corners = [(x, y) for y in range(0, labels.shape[0], 64) for x in range(0, labels.shape[1], 64)]
    return [candidate(slide_id, score * (1 + k), x=x, y=y) for k, (x, y) in enumerate(corners)]


def write_finished(
    folder: Path,
    name: str,
    labels: NDArray[np.uint8],
    candidates: list[Candidate],
    *,
    uncertainty: NDArray[np.uint8] | None = None,
    model: ModelRecord = MODEL,
    names: tuple[str, ...] = (),
) -> None:
    """The output folder of a slide of 1 um/px that was segmented as ``labels``; its map tells their names."""
    height, width = labels.shape
    slide = SlideRecord(id=name, file=f"{name}.tif", width=width, height=height, mpp_x=1, mpp_y=1, quickhash=name)
    layout = DEFAULT_LAYOUT
    maps = (
        (layout.segmentation_file(folder, name), "labels", labels),
        (layout.uncertainty_file(folder, name), "gray", np.zeros_like(labels) if uncertainty is None else uncertainty),
    )
    for file, kind, values in maps:
        file.parent.mkdir(parents=True)
        spacing = SpacingUm(1, 1)
        with PyramidWriter(
            file,
            width=width,
            height=height,
            spacing_um=spacing,
            kind=kind,
            description=label_description({name: value for value, name in enumerate(names)}) if names else "",
            value_range=(0, 1),
        ) as writer:
            writer.append(values)
    ranked = RankedPatches(
        slide=slide,
        model=model,
        uncertainty=UncertaintyRecord(measure="soft-cross-entropy"),
        patch_size_px=64,
        spacing_um=1.0,
        patches=(),
    )
    write_json(folder / layout.ranked_patches, ranked)
    write_scores(folder, candidates)
    identity = RunIdentity(
        uga_version="0",
        input=InputRecord(**slide.model_dump(), size_bytes=1),
        model=model,
        options={"layout": layout.model_dump()},
    )
    write_manifest(
        folder, identity, started=datetime.now(UTC), timings_s={}, peak_memory_bytes=0, computation=COMPUTATION
    )


def write_reference(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, tile=(64, 64))
    return path
