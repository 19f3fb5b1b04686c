"""Virtual slides as files: pyramidal TIFFs with reference masks, and cohorts of them."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uga.geometry import GridRegion, Level0Region, SpacingUm
from uga.output.files import write_atomic
from uga.output.tiff import PyramidWriter
from uga.virtual.plan import plan_slide
from uga.virtual.render import BLOCK_PX, Renderer, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uga.virtual.spec import SlideSpec

log = logging.getLogger(__name__)

MANIFEST_NAME = "cohort.csv"
_ASKED_FILE = ".specifications.json"
_MASK_ROWS = 512


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One line of a cohort's manifest; the paths are relative to the manifest's folder."""

    slide: Path
    mask: Path
    centre: int
    patient: str
    lesion: str


def write_virtual_slide(
    spec: SlideSpec, path: Path, *, mask_path: Path | None = None, progress: Callable[[float], None] | None = None
) -> None:
    """Write a virtual slide as a pyramidal JPEG TIFF, one band of blocks at a time.

    Args:
        spec: what the slide shows.
        path: of the slide, ``.tif``.
        mask_path: of the reference mask on the 1 um grid (0 glass, 1 benign, 2 tumour), ``.tif``; none if None.
        progress: called with the finished share, 0 to 1.

    """
    renderer, spacing = Renderer(spec), spec.centre.spacing_um
    with PyramidWriter(
        path,
        width=spec.width_px,
        height=spec.height_px,
        spacing_um=SpacingUm(spacing, spacing),
        kind="rgb",
        description=f"Virtual H&E slide of a lymph node, seed {spec.seed}, centre {spec.centre_id}: not a patient.",
        jpeg_quality=spec.centre.jpeg_quality,
    ) as writer:
        for y in range(0, spec.height_px, BLOCK_PX):
            rows = min(BLOCK_PX, spec.height_px - y)
            if all(renderer.is_blank(bx, y // BLOCK_PX) for bx in range(math.ceil(spec.width_px / BLOCK_PX))):
                writer.append_blank(rows, renderer.glass)
            else:
                writer.append(renderer.region(Level0Region(0, y, spec.width_px, rows)))
            if progress is not None:
                progress((y + rows) / spec.height_px)
    if mask_path is not None:
        write_reference_mask(spec, mask_path)
    log.info("wrote %s (%d x %d px, %g um/px)", path.name, spec.width_px, spec.height_px, spacing)


def write_reference_mask(spec: SlideSpec, path: Path) -> None:
    """Write the reference labels on the 1 um grid as a pyramidal deflate TIFF."""
    grid, plan = spec.reference_grid, plan_slide(spec)
    with PyramidWriter(
        path,
        width=grid.width,
        height=grid.height,
        spacing_um=SpacingUm(grid.spacing_um, grid.spacing_um),
        kind="labels",
        description="Reference: 0 glass, 1 benign tissue, 2 tumour.",
        value_range=(0, 2),
    ) as writer:
        for y in range(0, grid.height, _MASK_ROWS):
            rows = min(_MASK_ROWS, grid.height - y)
            labels = reference(spec, GridRegion(0, y, grid.width, rows), plan)
            if labels.any():
                writer.append(labels)
            else:
                writer.append_blank(rows, 0)


def make_cohort(
    folder: Path, specs: Iterable[SlideSpec], *, progress: Callable[[float], None] | None = None
) -> list[CohortSlide]:
    """Write slides, masks and a manifest (`MANIFEST_NAME`) into a folder; slides that are there as asked for are kept.

    Args:
        folder: made if it is missing.
        specs: of the slides.
        progress: called with the finished share, 0 to 1.

    Returns:
        The manifest's lines.

    """
    specs = list(specs)
    folder.mkdir(parents=True, exist_ok=True)
    slides, asked = [], _read_asked(folder / _ASKED_FILE)
    for k, spec in enumerate(specs):
        line = CohortSlide(
            Path(f"{spec.name}.tif"),
            Path("masks") / f"{spec.name}.tif",
            spec.centre_id,
            spec.patient_id,
            spec.lesion.value,
        )
        if asked.get(spec.name, repr(spec)) != repr(spec):  # of another size, for instance
            (folder / line.mask).unlink(missing_ok=True)
        asked[spec.name] = repr(spec)
        write_atomic(folder / _ASKED_FILE, json.dumps(asked, indent=1).encode())
        # Both files appear only when complete; the mask comes last.
        if not ((folder / line.slide).exists() and (folder / line.mask).exists()):
            write_virtual_slide(spec, folder / line.slide, mask_path=folder / line.mask)
        slides.append(line)
        if progress is not None:
            progress((k + 1) / len(specs))
    write_manifest(folder, slides)
    return slides


def _read_asked(path: Path) -> dict[str, str]:
    """What each slide of a folder was asked to show, by its name."""
    try:
        asked: dict[str, str] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return asked


def write_manifest(folder: Path, slides: Iterable[CohortSlide]) -> Path:
    """Write a cohort's manifest: slide, mask, centre, patient, class."""
    path = folder / MANIFEST_NAME
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "mask", "centre", "patient", "class"])
        writer.writerows(
            [line.slide.as_posix(), line.mask.as_posix(), line.centre, line.patient, line.lesion] for line in slides
        )
    return path


def read_manifest(folder: Path) -> list[CohortSlide]:
    """Read a cohort's manifest."""
    with (folder / MANIFEST_NAME).open(newline="", encoding="utf-8") as file:
        return [
            CohortSlide(Path(row["slide"]), Path(row["mask"]), int(row["centre"]), row["patient"], row["class"])
            for row in csv.DictReader(file)
        ]
