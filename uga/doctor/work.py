"""What a model and slides ask of this machine: the networks timed, the slides opened, their windows counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from uga.doctor.finding import failed, fine, guarded, note
from uga.errors import UserError, is_out_of_memory, lacks_kernel
from uga.inputs import find_slides
from uga.model.arithmetic import resolve_arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.options import Profile
from uga.progress import duration
from uga.slide import open_slide
from uga.sockets import load_sockets
from uga.tissue_file import tissue_of
from uga.windows import WindowPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.doctor.finding import Finding
    from uga.inputs import SlideInput
    from uga.model.arithmetic import Arithmetic
    from uga.model.folder import Model

_OVERLAP = Profile.REFERENCE.overlap
_TIMED = 3


class Trial:
    """A model on a device.

    Args:
        path: Model folder.
        device: Where the networks run.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path = path
        self._device = device
        self._model: Model | None = None
        self._taken: tuple[Arithmetic, float] | None = None
        """What a run would take first, if its labels are right, and its seconds for a window."""

    def check_model(self) -> Iterator[Finding]:
        """Verifies the model and sends windows of noise through all its folds, in all that ``auto`` may choose.

        Raises:
            UserError: the folder is incomplete, altered or does not fit; or memory ran out.
        """
        self._model = model = load_model(self._path)
        yield fine(f"{model.path} is sound: {model.name}, {len(model.folds)} folds, sha256 {model.sha256[:12]}")
        for arithmetic in resolve_arithmetic("auto", "auto", self._device):
            try:
                seconds = self._window_s(model, arithmetic)
            except RuntimeError as error:
                if is_out_of_memory(error) and not lacks_kernel(error):
                    raise UserError(f"Memory ran out with {model.name} in {arithmetic}; it takes more.") from error
                yield note(f"{arithmetic} does not work here ({error}).")
                continue
            if seconds is None:
                yield note(f"{arithmetic} overflows with noise; a run takes it only if its first slide does not.")
                continue
            self._taken = self._taken or (arithmetic, seconds)
            height_um, width_um = (px * model.spacing_um * (1 - _OVERLAP) for px in model.window_px)
            least = duration(1e8 / (height_um * width_um) * seconds)
            yield fine(f"{arithmetic}: {1000 * seconds:.0f} ms a window, at least {least} for 1 cm² of tissue")
        if self._taken is None:
            yield failed(f"Nothing here computes {model.name}; try another --device, or check the model's weights.")

    def check_slides(self, folder: Path, mpp: float | None = None, *, output: Path | None = None) -> Iterator[Finding]:
        """Opens every slide that a run would find, finds its tissue and counts its windows.

        Args:
            folder: Input folder of a run.
            mpp: Pixel size in um/px that replaces the files' own.
            output: Output folder of the run, which may lie within.

        Raises:
            UserError: there is no such folder, or no slide in it.
        """
        if self._model is None:
            return
        without = () if output is None else (output,)
        for source in find_slides(folder, load_sockets(None, self._model.path), without=without):
            yield from guarded(source.path.name, self._check_slide(self._model, source, mpp))

    @torch.inference_mode()
    def _window_s(self, model: Model, arithmetic: Arithmetic) -> float | None:
        """Seconds that all folds take for a window, in batches as a run makes them; None if the numbers overflow."""
        ensemble = Ensemble(model, device=self._device, choices=(arithmetic,))
        batch = torch.rand((ensemble.batch_size, 3, *model.window_px), device=self._device)
        with ensemble.beside():
            # The first run is no measure.
            finite = all(bool(logits.isfinite().all()) for _, logits in ensemble.logits_in_parts(batch))
            self._wait()
            start = time.perf_counter()
            for _ in range(_TIMED):
                for _part in ensemble.logits_in_parts(batch):
                    pass
            self._wait()
            seconds = time.perf_counter() - start
        return seconds / (_TIMED * len(batch)) if finite else None

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _check_slide(self, model: Model, source: SlideInput, mpp: float | None) -> Iterator[Finding]:
        with open_slide(source.path, mpp=mpp) as slide:
            grid = slide.grid(model.spacing_um)
            tissue = tissue_of(slide, grid, source.tissue_mask)
            plan = WindowPlan.over(grid, model.window_px, _OVERLAP)
            windows = sum(tissue.covers(window) for index in range(len(plan.ys)) for window in plan.row(index))
            what = (
                f"{source.path.name}: {slide.width_px} x {slide.height_px} px of {slide.mpp.x:g} um, "
                f"{len(slide.levels)} level(s), read by {slide.reader}"
            )
        if not windows:
            yield note(f"{what}; no tissue was found, so nothing will be segmented.")
            return
        about = ""
        if self._taken is not None:
            arithmetic, seconds = self._taken
            about = f", about {duration(windows * seconds)} in {arithmetic}"
        yield fine(f"{what}; {windows} windows hold tissue{about}")
