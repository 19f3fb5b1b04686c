"""Channel statistics of a slide, for models trained with nnU-Net's per-case normalisations (z-score and the like).

nnU-Net normalises a case by its own mean and deviation. Of a slide only the tissue resembles a training patch, and
reading all of it twice would double the decoding, so a fixed sample of tiles stands for it. The same slide always gives
the same statistics; a tissue mask given by the user plays a part in them only where no tissue is found without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.model.normalisation import ChannelStatistics, StatisticsAccumulator

if TYPE_CHECKING:
    from uga.geometry import Grid
    from uga.slide import Slide
    from uga.tissue import TissueMask

SAMPLE_TILES = 64
TILE_PX = 512


def slide_statistics(slide: Slide, grid: Grid, tissue: TissueMask) -> ChannelStatistics | None:
    """Statistics over the tissue pixels of up to `SAMPLE_TILES` tiles, spread evenly over those that hold tissue.

    With no more tiles than that they are those of all tissue, hence nnU-Net's own where the whole slide is tissue.
    Returns None where there is no tissue.
    """
    tiles = [tile for tile in grid.region.tiles(TILE_PX) if tissue.covers(tile)]
    if not tiles:
        return None
    accumulator = StatisticsAccumulator()
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), SAMPLE_TILES)).round().astype(int))
    for index in chosen:
        accumulator.add(slide.read(grid, tiles[index]), tissue.expand(tiles[index]))
    return accumulator.result()
