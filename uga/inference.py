"""Streaming inference: the maps of a whole slide in bands of rows.

The fold logits of overlapping windows are blended exactly as nnU-Net v2 does it, but in float32 and in a ring buffer
one window high: a row leaves it as soon as no later window can touch it, so memory does not grow with the height.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from uga.errors import SlideError
from uga.geometry import Grid, GridRegion
from uga.strips import WHITE, StripReader
from uga.windows import WindowPlan, gaussian_weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from uga.measures import Measure, PixelMeasure
    from uga.model.ensemble import Ensemble
    from uga.model.normalisation import ChannelStatistics
    from uga.slide import Slide
    from uga.tissue import TissueMask

Progress = Callable[[int, int], None]

_BLOCK_COLUMNS = 1024
_VECTOR_PX = 64


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of the working grid, full width, starting at grid row ``y``.

    Attributes:
        y: first grid row.
        rgb: uint8 (h, width, 3); white where nothing was read.
        labels: uint8 (h, width); 0 outside tissue.
        uncertainty: float32 (h, width), in the measure's unit; 0 outside tissue.
        tissue: bool (h, width).
        extra: what `InferenceSettings.extra` asked for, float32 (h, width) each; 0 outside tissue.
    """

    y: int
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    tissue: NDArray[np.bool_]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


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
        also_read: regions whose pixels the caller wants in ``Band.rgb`` although no window may need them.
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
        inside = fullest.intersection(self._grid.region)
        assert inside is not None  # noqa: S101 - a window with tissue lies on the grid
        rgb = np.full((fullest.height, fullest.width, 3), WHITE, dtype=np.uint8)
        rgb[_place(inside, fullest)] = self._slide.read(self._grid, inside)
        return self._network_input(rgb[None], [fullest])

    @torch.inference_mode()
    def bands(self, progress: Progress | None = None) -> Iterator[Band]:
        """Yields the slide from top to bottom, every grid row once; ``progress`` is told windows done and in all.

        Raises:
            SlideError: the networks' outputs overflowed.
        """
        plan, device = self.plan, self._ensemble.device
        weight = gaussian_weight(self._ensemble.model.window_px).to(device)
        pixels = _PixelRing(plan.window_height, plan.frame.width)
        sums = _LogitBlocks(
            len(self._ensemble), self._ensemble.model.num_classes, plan.window_height, plan.frame.width, device
        )
        done = 0
        read_to = plan.frame.y
        under_way: deque[_BandUnderWay] = deque()
        for index, strip in enumerate(self._strips):
            pixels.put(read_to - plan.frame.y, strip)
            read_to += len(strip)
            with self._ensemble.beside():
                for windows in self._batches(index):
                    rgb = np.stack([pixels.window(window, plan.frame) for window in windows])
                    logits = self._ensemble.logits(self._network_input(rgb, windows))
                    logits *= weight
                    for position, window in enumerate(windows):
                        sums.add(window.y - plan.frame.y, window.x - plan.frame.x, logits[:, position], weight)
                    done += len(windows)
                    if progress is not None:
                        progress(done, self.window_count)
            under_way.extend(self._finish(*plan.final_rows(index), pixels, sums))
            while len(under_way) > self._settings.bands_behind:
                yield self._checked(under_way.popleft().collect())
        while under_way:
            yield self._checked(under_way.popleft().collect())

    def _checked(self, band: Band) -> Band:
        """The band; what is not finite would be written as background that all folds are certain of."""
        if all(np.isfinite(values).all() for values in (band.uncertainty, *band.extra.values())):
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
                kept = image[:, *_place(inside, window)].clone()
                image.zero_()[:, *_place(inside, window)] = kept
        return images

    def _finish(self, y: int, y_end: int, pixels: _PixelRing, sums: _LogitBlocks) -> Iterator[_BandUnderWay]:
        """Maps of the frame rows [y, y_end), cut to the grid; clears the rows in the ring."""
        frame = self.plan.frame
        region = GridRegion(frame.x, y, frame.width, y_end - y).intersection(self._grid.region)
        if region is not None:
            device = self._ensemble.device
            labels = torch.zeros((region.height, region.width), dtype=torch.uint8, device=device)
            functions = (self._settings.measure.of, *self._settings.extra.values())
            maps = torch.zeros((len(functions), region.height, region.width), dtype=torch.float32, device=device)
            tissue = self._tissue.expand(region)
            for tile in _blocks_with_tissue(region, frame, tissue):
                columns = slice(tile.x - region.x, tile.x_end - region.x)
                logits = sums.mean(tile.y - frame.y, tile.height, tile.x - frame.x, tile.width)
                labels[:, columns], maps[:, :, columns] = ensemble_maps(logits, functions)
            rgb = pixels.get(region.y - frame.y, region.height, region.x - frame.x, region.width)
            yield _BandUnderWay(region.y, rgb, tissue, labels, maps, tuple(self._settings.extra))
        sums.clear(y - frame.y, y_end - y)


class _BandUnderWay:
    """A band whose maps a GPU may still be computing while the windows of the next one are given to it."""

    def __init__(
        self,
        y: int,
        rgb: NDArray[np.uint8],
        tissue: NDArray[np.bool_],
        labels: torch.Tensor,
        maps: torch.Tensor,
        extra: tuple[str, ...],
    ) -> None:
        self._y, self._rgb, self._tissue, self._extra = y, rgb, tissue, extra
        self._labels, self._maps = _to_host(labels), _to_host(maps)
        self._copied = torch.cuda.Event() if labels.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def collect(self) -> Band:
        if self._copied is not None:
            self._copied.synchronize()
        labels, maps = self._labels.numpy(), self._maps.numpy()
        np.copyto(labels, 0, where=~self._tissue)
        np.copyto(maps, 0, where=~self._tissue)
        uncertainty, *others = maps
        extra = dict(zip(self._extra, others, strict=True))
        return Band(self._y, self._rgb, labels, uncertainty, self._tissue, extra)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU; from a GPU it arrives later, without anybody waiting for it here."""
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _place(inside: GridRegion, window: GridRegion) -> tuple[slice, slice]:
    """Rows and columns of ``inside`` within ``window``."""
    return (
        slice(inside.y - window.y, inside.y_end - window.y),
        slice(inside.x - window.x, inside.x_end - window.x),
    )


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


class _PixelRing:
    """The last ``height`` rows of the frame; row r lives at r modulo height."""

    def __init__(self, height: int, width: int) -> None:
        self._rows = np.zeros((height, width, 3), dtype=np.uint8)

    def put(self, y: int, rows: NDArray[np.uint8]) -> None:
        for ring, part in _ring_slices(y, len(rows), len(self._rows)):
            self._rows[ring] = rows[part]

    def window(self, window: GridRegion, frame: GridRegion) -> NDArray[np.uint8]:
        return self.get(window.y - frame.y, window.height, window.x - frame.x, window.width)

    def get(self, y: int, height: int, x: int, width: int) -> NDArray[np.uint8]:
        block = np.empty((height, width, 3), dtype=np.uint8)
        for ring, part in _ring_slices(y, height, len(self._rows)):
            block[part] = self._rows[ring, x : x + width]
        return block


class _LogitRing:
    """Weighted sums of logits (folds, classes, height, width) and of weights; row r lives at r modulo height."""

    def __init__(self, folds: int, classes: int, height: int, width: int, device: torch.device) -> None:
        self._height = height
        self._sums = torch.zeros((folds, classes, height, width), dtype=torch.float32, device=device)
        self._weights = torch.zeros((height, width), dtype=torch.float32, device=device)

    def add(self, y: int, x: int, weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        height, width = weight.shape
        for ring, part in _ring_slices(y, height, self._height):
            self._sums[:, :, ring, x : x + width] += weighted_logits[:, :, part]
            self._weights[ring, x : x + width] += weight[part]

    def mean(self, y: int, height: int, x: int, width: int) -> torch.Tensor:
        parts = [
            self._sums[:, :, ring, x : x + width] / self._weights[ring, x : x + width]
            for ring, _ in _ring_slices(y, height, self._height)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def clear(self, y: int, height: int) -> None:
        for ring, _ in _ring_slices(y, height, self._height):
            self._sums[:, :, ring] = 0
            self._weights[ring] = 0


class _LogitBlocks:
    """The ring of the whole frame in blocks of columns, each made for the first window that touches it.

    So glass takes no memory.
    """

    def __init__(self, folds: int, classes: int, height: int, width: int, device: torch.device) -> None:
        self._width = width
        self._make: Callable[[int], _LogitRing] = lambda columns: _LogitRing(folds, classes, height, columns, device)
        self._rings: dict[int, _LogitRing] = {}

    def add(self, y: int, x: int, weighted_logits: torch.Tensor, weight: torch.Tensor) -> None:
        x_end = x + weight.shape[1]
        for block_x in range(x - x % _BLOCK_COLUMNS, x_end, _BLOCK_COLUMNS):
            if block_x not in self._rings:
                self._rings[block_x] = self._make(min(_BLOCK_COLUMNS, self._width - block_x))
            start, end = max(x, block_x), min(x_end, block_x + _BLOCK_COLUMNS)
            part = slice(start - x, end - x)
            self._rings[block_x].add(y, start - block_x, weighted_logits[..., part], weight[:, part])

    def mean(self, y: int, height: int, x: int, width: int) -> torch.Tensor:
        """Blended logits of columns that lie in one block, which some window has touched."""
        start = x % _BLOCK_COLUMNS
        return self._rings[x - start].mean(y, height, start, width)

    def clear(self, y: int, height: int) -> None:
        for ring in self._rings.values():
            ring.clear(y, height)


def _ring_slices(y: int, count: int, height: int) -> Iterator[tuple[slice, slice]]:
    """Where ``count`` <= ``height`` rows from row ``y`` lie in the ring, beside their place in the block of rows."""
    start = y % height
    first = min(count, height - start)
    yield slice(start, start + first), slice(0, first)
    if first < count:
        yield slice(0, count - first), slice(first, count)


def _blocks_with_tissue(region: GridRegion, frame: GridRegion, tissue: NDArray[np.bool_]) -> Iterator[GridRegion]:
    """The parts of the band that lie in one block of the ring each and hold tissue, so that glass costs no softmax."""
    for block_x in range(frame.x, region.x_end, _BLOCK_COLUMNS):
        part = GridRegion(block_x, region.y, _BLOCK_COLUMNS, region.height).intersection(region)
        if part is not None and tissue[:, part.x - region.x : part.x_end - region.x].any():
            yield part
