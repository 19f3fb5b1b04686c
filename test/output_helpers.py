"""A slide, a model and patches that do not exist, for the tests of what is written about them."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uga.geometry import Grid, GridRegion, SpacingUm
from uga.output.package import PackageWriter, image_sha256
from uga.output.schema import ComputationRecord, ModelRecord, RankedPatch, SlideRecord, UncertaintyRecord
from uga.slide import Slide

MPP = SpacingUm(0.243, 0.251)
LABELS = {"background": 0, "tissue": 1, "tumor": 2}
MODEL = ModelRecord(name="demo", sha256=hashlib.sha256(b"demo").hexdigest(), folds=(0, 1, 2, 3, 4))
COMPUTATION = ComputationRecord(device="cpu", engine="torch", precision="fp32")
UNCERTAINTY = UncertaintyRecord(measure="soft-cross-entropy")


def slide_record(slide_id: str = "slide <1> ü") -> SlideRecord:
    return SlideRecord(
        id=slide_id, file=f"{slide_id}.svs", width=9000, height=7000, mpp_x=MPP.x, mpp_y=MPP.y, quickhash="abc123"
    )


def record_of_file(slide: Slide) -> SlideRecord:
    """What a run writes of an open slide."""
    return SlideRecord(
        id=slide.path.stem,
        file=slide.path.name,
        width=slide.width_px,
        height=slide.height_px,
        mpp_x=slide.mpp.x,
        mpp_y=slide.mpp.y,
        quickhash=slide.quickhash,
    )


def slide_grid(slide: SlideRecord) -> Grid:
    return Grid.over(slide.width, slide.height, SpacingUm(slide.mpp_x, slide.mpp_y), 1.0)


def ranked_patch(region: GridRegion, grid: Grid, image: NDArray[np.uint8], rank: int = 1, **changes) -> RankedPatch:
    level0 = grid.region_to_level0(region)
    values = {
        "rank": rank,
        "x": level0.x,
        "y": level0.y,
        "width": level0.width,
        "height": level0.height,
        "x_um": region.x,
        "y_um": region.y,
        "size_um": region.width,
        "score_mean": 0.5 / rank,
        "score_sum": 0.5 / rank * region.width * region.height,
        "tissue_fraction": 0.9,
        "tumor_fraction": 0.25,
        "excluded_black_fraction": 0.0,
        "excluded_white_fraction": 0.1,
        "image_sha256": image_sha256(image),
    }
    return RankedPatch(**(values | changes))


def patch_arrays(seed: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A pink picture with blobs, a label map with islands and holes, an uncertainty map."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size] / size
    wave = np.sin(xx * rng.uniform(9, 20) + seed) + np.cos(yy * rng.uniform(9, 20)) + rng.normal(0, 0.1, (size, size))
    labels = np.digitize(wave, [-0.5, 0.6]).astype(np.uint8)
    image = np.stack([220 - 40 * wave, 150 - 60 * wave, 200 - 25 * wave], axis=-1).clip(0, 255).astype(np.uint8)
    uncertainty = (60 * np.exp(-8 * np.abs(wave - 0.6))).astype(np.uint8)
    return image, labels, uncertainty


def write_packages(folder: Path, count: int, *, size: int = 64, slide: SlideRecord | None = None) -> list[Path]:
    slide = slide or slide_record()
    grid = slide_grid(slide)
    writer = PackageWriter(folder, slide, MODEL, UNCERTAINTY, LABELS, "tumor", grid)
    packages = []
    for rank in range(1, count + 1):
        image, labels, uncertainty = patch_arrays(rank, size)
        region = GridRegion((rank * 300) % 1800, 200 * rank, size, size)
        patch = ranked_patch(region, grid, image, rank)
        packages.append(writer.write(patch, region, image=image, prediction=labels, uncertainty=uncertainty))
    return packages
