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
from uga.output.schema import InputRecord, ModelRecord, RankedPatches, RunIdentity, SlideRecord, UncertaintyRecord
from uga.output.tiff import PyramidWriter
from uga.ranking import Candidate
from uga.scores import write_scores

MODEL = ModelRecord(name="made up", sha256="0" * 64, folds=(0, 1))


def candidate(slide_id: str, score: float, white: float = 0.0) -> Candidate:
    return Candidate(slide_id, "home", 0, 0, 64, score, score * 64**2, 1.0, 0.5, 0.0, white, 0.0)


def write_finished(folder: Path, name: str, labels: NDArray[np.uint8], candidates: list[Candidate]) -> None:
    """The output folder of a slide of 1 um/px that was segmented as ``labels``."""
    height, width = labels.shape
    slide = SlideRecord(id=name, file=f"{name}.tif", width=width, height=height, mpp_x=1, mpp_y=1, quickhash=name)
    layout = DEFAULT_LAYOUT
    file = layout.segmentation_file(folder, name)
    file.parent.mkdir(parents=True)
    with PyramidWriter(
        file, width=width, height=height, spacing_um=SpacingUm(1, 1), kind="labels", description="", value_range=(0, 1)
    ) as writer:
        writer.append(labels)
    ranked = RankedPatches(
        slide=slide,
        model=MODEL,
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
        model=MODEL,
        options={"layout": layout.model_dump()},
    )
    write_manifest(
        folder, identity, started=datetime.now(UTC), timings_s={}, peak_memory_bytes=0, computation=COMPUTATION
    )


def write_reference(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, tile=(64, 64))
    return path
