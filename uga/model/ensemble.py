"""The ensemble at run time: all folds resident on one device, computed as fast as gives the same labels."""

from __future__ import annotations

import itertools
import logging
import math
import sys
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import torch

from uga.errors import DeviceError, ModelError, UserError, first_line, is_out_of_memory, lacks_kernel
from uga.memory import keep_large_arrays_apart
from uga.model.arithmetic import REFERENCE, Arithmetic
from uga.model.checkpoint import CHECKPOINT_FILE, read_checkpoint
from uga.model.engine import make_engine
from uga.model.network import check_window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uga.model.engine import Engine
    from uga.model.folder import Model

log = logging.getLogger(__name__)

_GPU_BATCH = 8


class Ensemble:
    """Networks of several folds, frozen, on one device.

    Args:
        model: A verified model.
        device: Where the networks live and the batches come from.
        choices: What to compute with, the most wanted first (`resolve_arithmetic`); `settle` chooses among several.
        folds: Folds to use; default all of the model.
        mirroring: Also predict every window mirrored along the axes that training mirrored, and all combinations of
            them, as nnU-Net's test-time augmentation does; the mean of the logits counts.
        allow_single: Accept a single fold, which has no disagreement to measure.

    Raises:
        ModelError: an unknown fold, fewer than two folds, weights that do not fit, or mirroring of a model that was
            trained without.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        choices: Sequence[Arithmetic] = (REFERENCE,),
        folds: Sequence[int] | None = None,
        mirroring: bool = False,
        allow_single: bool = False,
    ) -> None:
        self.model = model
        self.device = device
        self._mirrorings = _mirrorings(model) if mirroring else ()
        self.folds = tuple(model.folds if folds is None else folds)
        unknown = [fold for fold in self.folds if fold not in model.folds]
        if unknown or len(set(self.folds)) != len(self.folds):
            raise ModelError(
                f"{model.path} has the folds {list(model.folds)}, not {list(self.folds)}; choose among them."
            )
        if len(self.folds) < 2 and not (allow_single and self.folds):
            raise ModelError(
                f"{model.path} gives {len(self.folds)} fold(s), but uncertainty needs two or more; use more folds, "
                "or allow a single one."
            )
        self._choices = tuple(choices)
        self._settled = self._choices == (REFERENCE,)
        self._broken_off = False
        self._room = sys.maxsize
        """Windows that there is memory for at a time, as far as is known."""
        self.arithmetic = self._choices[0]
        self.agreement: float | None = None
        """Share of the pixels that `settle` has compared whose label is that of the reference; None: not compared."""
        if self.arithmetic.engine == "torch":
            check_window(model.plan)  # OpenVINO sees for itself
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # streams, events and recordings belong to the current one
        self._engine = self._make_engine(self.arithmetic)
        log.info("%s: %d folds on %s in %s", model.name, len(self.folds), device, self.arithmetic)

    def __len__(self) -> int:
        return len(self.folds)

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits of every fold.

        Args:
            batch: Normalised windows, float32 (B, 3, h, w) on the ensemble's device.

        Returns:
            float32 (K, B, C, h, w), K folds and C classes, on the same device. The caller may change it, and must be
            done with it before the next call; where the ensemble `leaves_room`, before the next but one.
        """
        logits = self._engine.logits(batch)
        if not self._mirrorings:
            return logits
        total = logits.clone()
        for axes in self._mirrorings:
            total += self._engine.logits(batch.flip(axes)).flip(axes)
        return total.div_(1 + len(self._mirrorings))

    def logits_in_parts(self, batch: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Logits of every fold, for a part of the batch at a time where there is too little memory for all of it.

        Where memory runs out, half as many windows are tried, down to one, and no more from then on.

        Args:
            batch: As for `logits`.

        Yields:
            Which windows of the batch, and their logits as `logits` returns them.

        Raises:
            RuntimeError: memory ran out with one window alone, or what else `logits` raises.
        """
        done = 0
        while done < len(batch):
            left = len(batch) - done
            # Nearly of one size, since a new size costs a GPU a search for kernels.
            part = slice(done, done + math.ceil(left / math.ceil(left / self._room)))
            logits = self._logits_if_they_fit(batch[part])
            if logits is None:
                self._halve(part.stop - part.start)
                continue
            yield part, logits
            done = part.stop

    def _logits_if_they_fit(self, batch: torch.Tensor) -> torch.Tensor | None:
        """Logits; None where there is too little memory for so many windows, but perhaps enough for fewer.

        A function of its own: only after its end is the memory free that a pass had taken when it broke off.
        """
        try:
            return self.logits(batch)
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            return None

    def _halve(self, windows: int) -> None:
        self._room = windows // 2
        log.warning(
            "%s has too little memory for %d windows at a time; it gets %d from now on.",
            self.device,
            windows,
            self._room,
        )
        self._engine.release()

    @property
    def batch_size(self) -> int:
        """Windows that it is best to ask for together: on a CPU one by one is fastest."""
        return min(_GPU_BATCH if self.device.type == "cuda" else 1, self._room)

    def beside(self) -> AbstractContextManager[object]:
        """For torch's own operations between calls of `logits`, which must not get in the way of the engine."""
        # torch's threads spin while they wait for more work, and keep OpenVINO's from the processor.
        return _one_thread() if self.leaves_room else nullcontext()

    @property
    def leaves_room(self) -> bool:
        """Whether a thread of the caller's may work on the last logits while the next are computed."""
        # Two threads that both call torch on a CPU have twice its threads; a GPU computes on its own anyway.
        return self.arithmetic.engine == "openvino"

    def check_device(self) -> None:
        """Have the device compute a sum; a GPU that has failed once fails for as long as the process lives.

        Raises:
            DeviceError: it does not compute.
        """
        try:
            torch.ones(2, device=self.device).sum().item()
        except RuntimeError as error:
            if is_out_of_memory(error):
                return
            raise DeviceError(f"{self.device} no longer computes ({first_line(error)}); start again.") from error

    @property
    def passes_per_window(self) -> int:
        """Forward passes that a window costs."""
        return len(self) * (1 + len(self._mirrorings))

    @torch.inference_mode()
    def settle(self, batch: torch.Tensor) -> None:
        """Choose what to compute with, on windows of the first slide; once that has succeeded, later calls do nothing.

        Of several choices the first is taken that gives the reference's labels (`Arithmetic.required_agreement`) and
        is faster. Where the user named a precision and none does, the one that comes nearest is taken, with a warning
        if its labels differ.

        Args:
            batch: Normalised windows, as for `logits`.
        """
        if self._settled:
            return
        if self._broken_off:
            self._take(self._choices[0])
        self._broken_off = True  # until the end is reached
        self._choose(batch)
        self._broken_off, self._settled = False, True

    def _choose(self, batch: torch.Tensor) -> None:
        labels, seconds = self._reference(batch)
        tried: list[tuple[Arithmetic, float]] = []
        for choice in self._choices:
            if choice != self.arithmetic:
                self._take(choice)
            if choice == REFERENCE:
                return
            found = self._try(batch, labels)
            if found is None:
                continue
            agreement, own_seconds = found
            self.agreement = agreement
            share = f"{100 * agreement:.2f} % of the pixels tried"
            if agreement < choice.required_agreement:
                log.info("%s gives the labels of fp32 on only %s.", choice, share)
            else:
                log.info("%s: the labels of fp32 on %s, %.1f times as fast.", choice, share, seconds / own_seconds)
                if own_seconds < seconds:
                    return
            tried.append((choice, agreement))
        self._take_nearest(tried)

    def _take_nearest(self, tried: Sequence[tuple[Arithmetic, float]]) -> None:
        """Of what the user left to choose among, and has not proved itself, take what gives most of the labels."""
        if not tried:
            names = " or ".join(map(str, self._choices))
            raise UserError(f"Neither {names} works on {self.device}; use --precision fp32 or another --engine.")
        choice, agreement = max(tried, key=lambda each: each[1])
        if choice != self.arithmetic:
            self._take(choice)
        self.agreement = agreement
        if agreement < choice.required_agreement:
            log.warning(
                "%s is used as asked for, though only %.2f %% of the pixels tried have the label of fp32.",
                choice,
                100 * agreement,
            )

    def _try(self, batch: torch.Tensor, labels: torch.Tensor) -> tuple[float, float] | None:
        """Agreement and seconds of the engine in place; None if it does not work."""
        try:
            self._engine.logits(batch)  # the first run is no measure
            logits, seconds = _timed(self._engine, batch)
        except RuntimeError as error:
            if len(self._choices) == 1 or (is_out_of_memory(error) and not lacks_kernel(error)):
                raise
            log.warning("%s does not work here (%s).", self.arithmetic, error)
            return None
        return float((_labels(logits) == labels).float().mean()), seconds

    def _reference(self, batch: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Labels by the reference, and the seconds it took; fold by fold, so that no second ensemble is in memory."""
        folds: list[torch.Tensor] = []
        times: list[float] = []
        for fold in self.folds:
            engine = make_engine(REFERENCE, self.model, (fold,), self.device)
            logits, seconds = _timed(engine, batch)
            folds.append(logits)
            times.append(seconds)
        # The first run is no measure, where there are others; the folds share what it finds out.
        measured = times[1:] or times
        return _labels(torch.cat(folds)), len(times) * sum(measured) / len(measured)

    def _take(self, choice: Arithmetic) -> None:
        log.info("Computing in %s.", choice)
        with suppress(AttributeError):  # there is none after a load that broke off
            del self._engine  # before the next one is loaded
        self._engine = self._make_engine(choice)
        self.arithmetic, self.agreement = choice, None

    def _make_engine(self, choice: Arithmetic) -> Engine:
        keep_large_arrays_apart(choice.engine == "openvino" or self.device.type == "cuda")
        return make_engine(choice, self.model, self.folds, self.device)


def _timed(engine: Engine, batch: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Logits on the CPU, and the seconds they took."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)  # what is under way is not this run's
    start = time.perf_counter()
    logits = engine.logits(batch).cpu()  # waits for the device
    return logits, time.perf_counter() - start


def _mirrorings(model: Model) -> tuple[tuple[int, ...], ...]:
    """The combinations of axes of (..., h, w) to mirror along: one axis or two."""
    axes = read_checkpoint(model.path / f"fold_{model.folds[0]}" / CHECKPOINT_FILE).mirroring_axes
    if not axes:
        raise ModelError(
            f"{model.path} was trained without mirroring, so mirrored windows would mislead it; use another --profile."
        )
    spatial = [axis - 2 for axis in axes]
    return tuple(combination for count in (1, 2) for combination in itertools.combinations(spatial, count))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _labels(logits: torch.Tensor) -> torch.Tensor:
    """The segmentation (B, h, w) of fold logits (K, B, C, h, w)."""
    return logits.softmax(2).mean(0).argmax(1)
