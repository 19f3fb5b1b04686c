"""The ensemble in torch, on a CPU or a GPU."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from uga.errors import is_out_of_memory
from uga.model.network import load_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uga.model.choices import Precision
    from uga.model.folder import Model

log = logging.getLogger(__name__)

_WARM_UP_RUNS = 3
_ROOM = 1.2
"""Free memory for which a recording is begun, as a multiple of what a run takes; gaps take the rest."""
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """The folds of a model, resident on one device.

    Args:
        model: A verified model.
        folds: Folds to load.
        device: Where the networks live and the batches come from.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``.

    Raises:
        ModelError: weights do not fit the plan.
    """

    def __init__(self, model: Model, folds: Sequence[int], device: torch.device, precision: Precision) -> None:
        self._device = device
        self._precision = precision
        self._networks = [load_network(model.plan, model.weights_file(fold), device) for fold in folds]
        self._layout = _layout(self._networks[0], device, precision)
        for network in self._networks:
            network.to(memory_format=self._layout)  # type: ignore[call-overload] # missing in torch's stubs
        # fp32 is what the others are held against, so nothing clever happens there.
        self._records = device.type == "cuda" and precision != "fp32"
        self._graphs: dict[torch.Size, _Graph] | None = {} if self._records else None
        if device.type == "cuda":
            _set_up_cudnn(precision)

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`."""
        if self._graphs is not None and batch.shape not in self._graphs:
            self._graphs = self._recorded(batch, self._graphs)
        return self._run(batch) if self._graphs is None else self._graphs[batch.shape](batch)

    def release(self) -> None:
        """See `Engine`; recordings that were given up are tried again for smaller batches."""
        self._graphs = {} if self._records else None
        torch.cuda.empty_cache()

    def _recorded(self, batch: torch.Tensor, graphs: dict[torch.Size, _Graph]) -> dict[torch.Size, _Graph] | None:
        """The graphs with one more, for the shape of this batch; None where there is too little memory for it."""
        try:
            largest = graphs[max(graphs)] if graphs else None
            return {**graphs, batch.shape: _Graph(self._run, batch, beside=largest)}
        except RuntimeError as error:
            # The end of a recording that broke off may fail in its turn.
            if not any(each is not None and is_out_of_memory(each) for each in (error, error.__context__)):
                raise
            log.warning("%s has too little memory to record the networks; they run more slowly.", self._device)
            return None

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        batch = batch.contiguous(memory_format=self._layout)
        with self._autocast():
            return torch.stack([network(batch).float() for network in self._networks])

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "fp32":
            return nullcontext()
        # No cache of converted weights: it would outlive a graph that is being recorded.
        return torch.autocast(self._device.type, dtype=_DTYPES[self._precision], cache_enabled=False)


def _set_up_cudnn(precision: Precision) -> None:
    # Windows have few shapes, so the fastest kernel is worth looking for.
    torch.backends.cudnn.benchmark = True
    if precision == "fp32":
        # What torch allows by default, TF32, has three decimal digits.
        torch.backends.cudnn.allow_tf32 = False


def _layout(network: nn.Module, device: torch.device, precision: Precision) -> torch.memory_format:
    """Channels last where that is faster: tensor cores want it; on a CPU it slows instance norm down.

    Not in fp32, which is to give nnU-Net's own predictions, on a CPU to the last bit.
    """
    has_instance_norm = any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
    if precision == "fp32" or (device.type == "cpu" and has_instance_norm):
        return torch.contiguous_format
    return torch.channels_last


class _Graph:
    """The kernels of all folds for one shape of batch, recorded once and launched together (CUDA graphs).

    A fold is a few hundred small kernels, which a CPU launches more slowly than a large GPU runs them. Source: the
    section on CUDA graphs in torch's notes on CUDA semantics.

    Graphs beside each other compute in the same memory: a result is overwritten by the next call of any of them.

    Raises:
        torch.OutOfMemoryError: too little memory to record; there may be enough for a run.
    """

    def __init__(
        self, run: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor, *, beside: _Graph | None
    ) -> None:
        self._batch = example.clone()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_RUNS):  # cuDNN tries its kernels, which cannot be recorded
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                run(self._batch)
        torch.cuda.current_stream().wait_stream(aside)
        self.run_bytes = torch.cuda.max_memory_allocated() - before
        _check_room(self.run_bytes - (0 if beside is None else beside.run_bytes))
        self.recording = torch.cuda.CUDAGraph()
        pool = None if beside is None else beside.recording.pool()
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # back to it, even if the recording breaks off
            # Other threads may free pinned memory meanwhile.
            torch.cuda.graph(self.recording, pool=pool, capture_error_mode="thread_local"),
        ):
            self._logits = run(self._batch)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self._batch.copy_(batch)
        self.recording.replay()
        return self._logits


def _check_room(needed_bytes: int) -> None:
    """Refuse a recording that would break off: torch 2.13 does not get back the memory that one had taken."""
    torch.cuda.empty_cache()  # a recording cannot use what is cached
    free_bytes, _ = torch.cuda.mem_get_info()
    if free_bytes < _ROOM * needed_bytes:
        raise torch.OutOfMemoryError(f"CUDA out of memory: {free_bytes} bytes are free, a run takes {needed_bytes}.")
