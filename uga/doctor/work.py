"""What a model and slides ask of this machine: the networks timed, the slides opened, their windows counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from uga.doctor.finding import failed, fine, guarded, note
from uga.inputs import find_slides
from uga.model.arithmetic import resolve_arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.options import Profile
from uga.progress import duration
from uga.slide import open_slide
from uga.sockets import load_sockets
from uga.tissue import detect_tissue
from uga.tissue_file import read_tissue_mask
from uga.windows import WindowPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.doctor.finding import Finding
    from uga.inputs import SlideInput
    from uga.model.arithmetic import Arithmetic
    from uga.model.folder import Model

_OVERLAP = Profile.REFERENCE.overlap
_TIMED_WINDOWS = 3


class Trial:
    """A model on a device; what `check_slides` says of time is by the fastest arithmetic that `check_model` tried.

    Args:
        path: Model folder.
        device: Where the networks run.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path = path
        self._device = device
        self._model: Model | None = None
        self._window_s: float | None = None

    def check_model(self) -> Iterator[Finding]:
        """Verifies the model and sends windows of noise through all its folds, in all that ``auto`` may choose.

        Raises:
            ModelError: the folder is incomplete, altered or does not fit.
        """
        self._model = model = load_model(self._path)
        yield fine(f"{model.path} is sound: {model.name}, {len(model.folds)} folds, sha256 {model.sha256[:12]}")
        for arithmetic in resolve_arithmetic("auto", "auto", self._device):
            yield from guarded(str(arithmetic), self._time(model, arithmetic))

    def check_slides(self, folder: Path) -> Iterator[Finding]:
        """Opens every slide that a run would find, finds its tissue and counts its windows.

        Raises:
            UserError: there is no such folder, or no slide in it.
        """
        if self._model is None:
            return
        for source in find_slides(folder, load_sockets(None, self._model.path)):
            yield from guarded(source.path.name, self._check_slide(self._model, source))

    def _time(self, model: Model, arithmetic: Arithmetic) -> Iterator[Finding]:
        ensemble = Ensemble(model, device=self._device, choices=(arithmetic,), allow_single=True)
        window = torch.rand((1, 3, *model.window_px), device=self._device)
        with torch.inference_mode(), ensemble.beside():
            ensemble.logits(window)  # the first run is no measure
            start = time.perf_counter()
            for _ in range(_TIMED_WINDOWS):
                logits = ensemble.logits(window).cpu()
            seconds = (time.perf_counter() - start) / _TIMED_WINDOWS
        if not logits.isfinite().all():
            yield failed(f"{arithmetic} overflows with {model.name}; use --precision fp32.")
            return
        self._window_s = min(seconds, self._window_s or seconds)
        height_um, width_um = (px * model.spacing_um * (1 - _OVERLAP) for px in model.window_px)
        least = duration(1e8 / (height_um * width_um) * seconds)
        yield fine(f"{arithmetic}: {1000 * seconds:.0f} ms a window, at least {least} for 1 cm² of tissue")

    def _check_slide(self, model: Model, source: SlideInput) -> Iterator[Finding]:
        with open_slide(source.path) as slide:
            grid = slide.grid(model.spacing_um)
            tissue = (
                detect_tissue(slide, grid)
                if source.tissue_mask is None
                else read_tissue_mask(source.tissue_mask, slide, grid)
            )
            plan = WindowPlan.over(grid, model.window_px, _OVERLAP)
            windows = sum(tissue.covers(window) for index in range(len(plan.ys)) for window in plan.row(index))
            what = (
                f"{source.path.name}: {slide.width_px} x {slide.height_px} px of {slide.mpp.x:g} um, "
                f"{len(slide.levels)} level(s), read by {slide.reader}"
            )
        if not windows:
            yield note(f"{what}; no tissue was found, so nothing will be segmented.")
            return
        about = "" if self._window_s is None else f", about {duration(windows * self._window_s)}"
        yield fine(f"{what}; {windows} windows hold tissue{about}")
