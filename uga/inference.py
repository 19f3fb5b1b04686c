"""Streaming inference: the maps of a whole slide in bands of rows.

The fold logits of overlapping windows are blended exactly as nnU-Net v2 does it, but in float32 and only as long as a
later window can touch them, so memory does not grow with the height.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from uga.background import Background
from uga.blending import BlendedLogits
from uga.errors import SlideError
from uga.geometry import Grid, GridRegion
from uga.strips import Pixels, StripReader
from uga.windows import WindowPlan, gaussian_weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from uga.blending import Block
    from uga.measures import Measure, PixelMeasure
    from uga.model.ensemble import Ensemble
    from uga.model.normalisation import ChannelStatistics
    from uga.slide import Slide
    from uga.tissue import TissueMask

Progress = Callable[[int, int], None]

_VECTOR_PX = 64
_PART_PX = 1 << 19


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the working grid, full width, starting at grid row ``y``.

    Attributes:
        y: first grid row.
        pixels: what was read of these rows, and perhaps of others.
        labels: uint8 (h, width); 0 outside tissue.
        uncertainty: float32 (h, width), in the measure's unit; 0 outside tissue.
        tissue: bool (h, width).
        extra: what `InferenceSettings.extra` asked for, float32 (h, width) each; 0 outside tissue.
    """

    y: int
    pixels: Pixels
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    tissue: NDArray[np.bool_]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def rgb(self, rows: slice) -> NDArray[np.uint8]:
        """Pixels of some of the rows, uint8 (rows, width, 3); white where nothing was read."""
        return self.pixels.get(GridRegion(0, self.y + rows.start, self.labels.shape[1], rows.stop - rows.start))


@dataclass(frozen=True, slots=True)
class BlockMaps:
    """The maps of one rectangle: labels, uint8 (h, w), and measures, float32 (measures, h, w); 0 outside tissue."""

    region: GridRegion
    labels: NDArray[np.uint8]
    measures: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of the working grid; on the widest slide, too, they take memory only where there is tissue.

    Attributes:
        region: the rows, full width.
        pixels: what was read of these rows, and perhaps of others.
        blocks: the maps, wherever there is tissue.
        tissue: of the slide.
        extra: names of all measures but the first, which is the uncertainty.
    """

    region: GridRegion
    pixels: Pixels
    blocks: tuple[BlockMaps, ...]
    tissue: TissueMask
    extra: tuple[str, ...]

    def parts(self) -> Iterator[Rows]:
        """All rows, a few at a time."""
        step = max(1, _PART_PX // self.region.width)
        for y in range(self.region.y, self.region.y_end, step):
            yield self.rows(y, min(y + step, self.region.y_end))

    def rows(self, y: int, y_end: int) -> Rows:
        """The rows from grid row ``y`` to before ``y_end``."""
        region = GridRegion(self.region.x, y, self.region.width, y_end - y)
        labels = np.zeros((region.height, region.width), np.uint8)
        measures = np.zeros((1 + len(self.extra), region.height, region.width), np.float32)
        for block in self.blocks:
            shared = block.region.intersection(region)
            if shared is not None:
                here, there = shared.within(region), shared.within(block.region)
                labels[here] = block.labels[there]
                measures[:, *here] = block.measures[:, *there]
        extra = dict(zip(self.extra, measures[1:], strict=True))
        return Rows(y, self.pixels, labels, measures[0], self.tissue.expand(region), extra)


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How the ensemble is run over a slide; nothing here changes which pixels are tissue."""

    measure: Measure
    overlap: float = 0.5
    batch_size: int = 1
    """Windows that go through the networks together, at most."""
    reader_threads: int = 2
    bands_behind: int = 0
    """Bands that are handed out late, so that a GPU works on the next one meanwhile."""
    extra: Mapping[str, PixelMeasure] = field(default_factory=dict)
    """Other functions of the fold probabilities, by name, whose maps the bands carry too."""


class SlideInference:
    """The ensemble's maps of one slide.

    Args:
        slide: an open slide.
        grid: its working grid at the model's spacing.
        tissue: what to segment; windows without tissue are skipped.
        ensemble: the folds, resident on their device.
        statistics: the slide's channel statistics where the model's normalisation needs them.
        settings: measure, overlap, batches, threads.
        also_read: regions whose pixels the caller wants in bands although no window may need them.
    """

    def __init__(
        self,
        slide: Slide,
        grid: Grid,
        tissue: TissueMask,
        ensemble: Ensemble,
        statistics: ChannelStatistics | None,
        settings: InferenceSettings,
        *,
        also_read: Iterable[GridRegion] = (),
    ) -> None:
        self._slide = slide
        self._grid = grid
        self._tissue = tissue
        self._ensemble = ensemble
        self._statistics = statistics
        self._settings = settings
        self.plan = WindowPlan.over(grid, ensemble.model.window_px, settings.overlap)
        self._rows = [[w for w in self.plan.row(i) if tissue.covers(w)] for i in range(len(self.plan.ys))]
        wanted = [*(window for row in self._rows for window in row), *also_read]
        self._strips = StripReader(slide, grid, self.plan, wanted, workers=settings.reader_threads)

    @property
    def window_count(self) -> int:
        """Windows the networks will see; the rest of the plan is skipped."""
        return sum(len(row) for row in self._rows)

    @torch.inference_mode()
    def probe(self) -> torch.Tensor | None:
        """The window with most tissue as the networks see it, float32 (1, 3, h, w); None where there is no tissue."""
        windows = [window for row in self._rows for window in row]
        if not windows:
            return None
        fullest = max(windows, key=self._tissue.fraction)
        return self._network_input(self._slide.read(self._grid, fullest)[None], [fullest])

    @torch.inference_mode()
    def bands(self, progress: Progress | None = None) -> Iterator[Band]:
        """Yields the slide from top to bottom, every grid row once; ``progress`` is told windows done and in all.

        Raises:
            SlideError: the networks' outputs overflowed.
        """
        plan, device = self.plan, self._ensemble.device
        weight = gaussian_weight(self._ensemble.model.window_px).to(device)
        pixels = Pixels()
        sums = BlendedLogits(plan, len(self._ensemble), self._ensemble.model.num_classes, device)
        done = 0
        under_way: deque[_BandUnderWay] = deque()

        @torch.inference_mode()
        def blend(logits: torch.Tensor, index: int, windows: Sequence[GridRegion], band: _BandUnderWay) -> None:
            logits *= weight
            for position, window in enumerate(windows):
                sums.add(index, window, logits[:, position], weight)
            band.put(sums.take(index, windows[-1].x))

        with Background("uga-blending", at_once=not self._ensemble.leaves_room) as blending:
            for index, strip in enumerate(self._strips):
                pixels = pixels.without_rows_before(plan.ys[index]) + strip
                band = self._band(index)
                with self._ensemble.beside():
                    for windows in self._batches(index):
                        rgb = np.stack([pixels.get(window) for window in windows])
                        for part, logits in self._ensemble.logits_in_parts(self._network_input(rgb, windows)):
                            blending.call(partial(blend, logits, index, windows[part], band))
                        done += len(windows)
                        if progress is not None:
                            progress(done, self.window_count)
                    blending.wait()
                    band.put(sums.take(index, plan.frame.x_end))
                band.finish(pixels)
                under_way.append(band)
                while len(under_way) > self._settings.bands_behind:
                    yield self._checked(under_way.popleft().collect())
        while under_way:
            yield self._checked(under_way.popleft().collect())

    def _checked(self, band: Band) -> Band:
        """The band; what is not finite would be written as background that all folds are certain of."""
        if all(np.isfinite(block.measures).all() for block in band.blocks):
            return band
        name, precision = self._slide.path.name, self._ensemble.arithmetic.precision
        if precision == "fp32":
            raise SlideError(f"{name}: the networks overflowed even in fp32; the model does not suit this slide.")
        raise SlideError(f"{name}: the networks overflowed in {precision}; run again with --precision fp32.")

    def _batches(self, index: int) -> Iterator[list[GridRegion]]:
        """The windows of a row in batches of nearly one size, since a new size costs a GPU a search for kernels."""
        row = self._rows[index]
        count = -(-len(row) // self._settings.batch_size)
        for number in range(count):
            yield row[number * len(row) // count : (number + 1) * len(row) // count]

    def _network_input(self, rgb: NDArray[np.uint8], windows: Sequence[GridRegion]) -> torch.Tensor:
        """Pixels (B, h, w, 3) of windows, normalised on the device: float32 (B, 3, h, w)."""
        device = self._ensemble.device
        batch = torch.from_numpy(rgb)
        if device.type == "cuda":
            batch = batch.pin_memory().to(device, non_blocking=True)
        images = self._ensemble.model.normalisation.apply(batch, self._statistics)
        for image, window in zip(images, windows, strict=True):
            inside = window.intersection(self._grid.region)
            if inside is not None and inside != window:
                # nnU-Net pads an image smaller than its window with zeros, after normalisation.
                kept = image[:, *inside.within(window)].clone()
                image.zero_()[:, *inside.within(window)] = kept
        return images

    def _band(self, index: int) -> _BandUnderWay:
        """The grid rows that are final with a window row, still empty."""
        frame = self.plan.frame
        y, y_end = self.plan.final_rows(index)
        region = GridRegion(frame.x, y, frame.width, y_end - y).intersection(self._grid.region)
        assert region is not None  # noqa: S101 - a frame that is padded in height has one row of windows
        return _BandUnderWay(region, self._tissue, self._settings, self._ensemble.device)


class _BandUnderWay:
    """A band whose maps are made block by block; a GPU may be computing them while it is given the next windows."""

    def __init__(
        self, region: GridRegion, tissue: TissueMask, settings: InferenceSettings, device: torch.device
    ) -> None:
        self._region = region
        self._tissue = tissue
        self._functions = (settings.measure.of, *settings.extra.values())
        self._extra = tuple(settings.extra)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._blocks: list[tuple[GridRegion, torch.Tensor, torch.Tensor]] = []

    def put(self, blocks: Iterable[Block]) -> None:
        """Makes the maps of blended logits, where there is tissue."""
        for block in blocks:
            part = block.region.intersection(self._region)
            if part is None or not self._tissue.covers(part):
                continue
            logits = block.mean()[:, :, *part.within(block.region)]
            labels, measures = ensemble_maps(logits, self._functions)
            self._blocks.append((part, _to_host(labels), _to_host(measures)))

    def finish(self, pixels: Pixels) -> None:
        """All blocks have been put; ``pixels`` are the band's."""
        self._pixels = pixels
        if self._copied is not None:
            self._copied.record()

    def collect(self) -> Band:
        """The finished band."""
        if self._copied is not None:
            self._copied.synchronize()
        blocks = []
        for region, labels, measures in self._blocks:
            block, tissue = BlockMaps(region, labels.numpy(), measures.numpy()), self._tissue.expand(region)
            np.copyto(block.labels, 0, where=~tissue)
            np.copyto(block.measures, 0, where=~tissue)
            blocks.append(block)
        return Band(self._region, self._pixels, tuple(blocks), self._tissue, self._extra)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU; from a GPU it arrives later, without anybody waiting for it here."""
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def ensemble_maps(logits: torch.Tensor, functions: Sequence[PixelMeasure]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and measures of blended fold logits.

    A pixel's result does not depend on the pixels beside it, to the last bit: rows are padded to whole vectors, because
    a CPU rounds the odd elements at the end of a row differently from the others.

    Args:
        logits: float32 (K, C, h, w).
        functions: what to make of the folds' probabilities.

    Returns:
        uint8 (h, w), the argmax of the mean probability, and float32 (functions, h, w).
    """
    width = logits.shape[-1]
    padded = torch.nn.functional.pad(logits, (0, -width % _VECTOR_PX))
    probabilities = torch.softmax(padded, dim=1)
    # The argmax, which torch finds ten times as fast in this way on a CPU.
    labels = probabilities.mean(0).max(0).indices.to(torch.uint8)
    return labels[:, :width], torch.stack([function(probabilities)[:, :width] for function in functions])
