from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slide_files import noise, write_tiff

from uga.geometry import Grid, GridRegion, SpacingUm
from uga.slide import open_slide
from uga.strips import WHITE, Pixels, StripReader
from uga.windows import WindowPlan


class Recorder:
    """Stands where the slide stands and counts how often each pixel is read."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.reads = np.zeros(pixels.shape[:2], dtype=int)

    def read(self, grid: Grid, region: GridRegion) -> NDArray[np.uint8]:
        area = np.s_[region.y : region.y_end, region.x : region.x_end]
        self.reads[area] += 1
        return self.pixels[area]


def joined(strips: StripReader) -> Pixels:
    return sum(strips, start=Pixels())


@settings(max_examples=60)
@given(
    width=st.integers(20, 500),
    height=st.integers(20, 400),
    corners=st.lists(st.tuples(st.integers(0, 499), st.integers(0, 399), st.integers(1, 90)), max_size=6),
)
def test_every_wanted_pixel_is_read_once_and_distant_ones_never(
    width: int, height: int, corners: list[tuple[int, int, int]]
) -> None:
    grid = Grid.over(width, height, SpacingUm(1, 1), 1.0)
    plan = WindowPlan.over(grid, (64, 64), 0.5)
    wanted = [GridRegion(x, y, side, side) for x, y, side in corners if x < width and y < height]
    slide = Recorder(noise(height, width) // 2)
    frame = joined(StripReader(slide, grid, plan, wanted)).get(plan.frame)  # type: ignore[arg-type]
    inside = frame[-plan.frame.y :, -plan.frame.x :][:height, :width]
    needed = np.zeros((height, width), dtype=bool)
    for region in wanted:
        needed[region.y : region.y_end, region.x : region.x_end] = True
    assert slide.reads.max(initial=0) <= 1
    assert (slide.reads[needed] == 1).all()
    np.testing.assert_array_equal(inside[needed], slide.pixels[needed])
    assert (inside[slide.reads == 0] == WHITE).all()
    if not wanted:
        assert not slide.reads.any()


def test_strips_of_a_real_file_join_to_the_slide(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(300, 420))
    with open_slide(path) as slide:
        grid = slide.grid(1.0)
        plan = WindowPlan.over(grid, (64, 64), 0.5)
        found = joined(StripReader(slide, grid, plan, [grid.region], workers=3)).get(grid.region)
        np.testing.assert_array_equal(found, slide.read(grid, grid.region))


def test_a_failing_read_reaches_the_caller(tmp_path: Path) -> None:
    class Failing:
        def read(self, *_: object) -> None:
            raise OSError("the disk is gone")

    grid = Grid.over(200, 200, SpacingUm(1, 1), 1.0)
    plan = WindowPlan.over(grid, (64, 64), 0.5)
    reader = StripReader(Failing(), grid, plan, [grid.region])  # type: ignore[arg-type]
    with pytest.raises(OSError, match="disk"):
        list(reader)
