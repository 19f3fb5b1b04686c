"""Where the tissue of a finished slide is, which its output does not say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from uga.errors import UserError
from uga.output.files import sha256_file
from uga.slide import open_slide
from uga.tissue import TissueMask, detect_tissue
from uga.tissue_file import read_tissue_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.geometry import Grid
    from uga.output.finished import FinishedSlide
    from uga.ranking import Candidate
    from uga.training.cases import Case

TissueSource = Literal["slide", "patches"]
TISSUE_SOURCES: tuple[TissueSource, ...] = get_args(TissueSource)


def tissue_of(
    one: FinishedSlide, case: Case, grid: Grid, candidates: Sequence[Candidate], source: TissueSource
) -> TissueMask:
    """The tissue of a finished slide.

    Args:
        one: The finished slide.
        case: The slide's file, and its tissue mask if the run had one.
        grid: The grid of its maps.
        candidates: Its patches with tissue.
        source: ``slide`` finds tissue in the image as the run did, ``patches`` takes all pixels of ``candidates``.

    Raises:
        SlideError: the slide cannot be read.
        UserError: the slide is not the one that was segmented, or the run's tissue mask is not at hand.
    """
    return _of_patches(grid, candidates) if source == "patches" else _of_slide(one, case, grid)


def _of_patches(grid: Grid, candidates: Sequence[Candidate]) -> TissueMask:
    cell = patch_cell(candidates) or max(grid.width, grid.height)
    cells = np.zeros((-(-grid.height // cell), -(-grid.width // cell)), np.bool_)
    for candidate in candidates:
        region = candidate.region
        cells[region.y // cell : region.y_end // cell, region.x // cell : region.x_end // cell] = True
    return TissueMask(grid, cell, cells)


def patch_cell(candidates: Sequence[Candidate]) -> int:
    """The largest cell, in grid pixels, of which all patches are blocks; 0 without a patch."""
    return math.gcd(*(value for each in candidates for value in (each.x, each.y, each.size)))


def _of_slide(one: FinishedSlide, case: Case, grid: Grid) -> TissueMask:
    options = one.manifest.options
    mpp, wanted = options.get("mpp"), options.get("tissue_mask_sha256")
    with open_slide(case.slide, mpp=float(mpp) if isinstance(mpp, int | float) else None) as slide:
        if slide.quickhash != one.record.quickhash:
            raise UserError(
                f"{case.slide} is not the slide that was segmented in {one.folder}, though it has its name; "
                "name the right one in the cohort."
            )
        if wanted is None:
            return detect_tissue(slide, grid)
        if case.tissue is None or sha256_file(case.tissue) != wanted:
            raise UserError(
                f"{case.slide} was segmented with a tissue mask that the cohort does not name; "
                "add it in the column 'tissue', or count all pixels of patches with --tissue patches."
            )
        return read_tissue_mask(case.tissue, slide, grid)
