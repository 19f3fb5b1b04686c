"""The ensemble in OpenVINO: the same networks, two to four times as fast on a CPU as torch runs them.

The networks are handed over in memory, by OpenVINO's frontend for traced torch modules. Its converter
(`openvino.convert_model`) would do the same, but reports its use to its makers.
"""

from __future__ import annotations

import multiprocessing
import warnings
from typing import TYPE_CHECKING

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from uga.errors import ModelError, is_out_of_memory
from uga.model.network import check_output, load_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from uga.model.choices import Precision
    from uga.model.folder import Model
    from uga.model.plan import Plan

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """The folds of a model, compiled for this CPU; uses as many threads as torch would.

    Args:
        model: A verified model.
        folds: Folds to load.
        precision: ``fp32`` or ``bf16``.

    Raises:
        ModelError: weights or window do not fit the plan.
    """

    def __init__(self, model: Model, folds: Sequence[int], precision: Precision) -> None:
        core = openvino.Core()
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,  # windows one after the other, all threads on each: least memory, nothing to reorder
        }
        if multiprocessing.parent_process() is not None:
            # One of several processes that share the CPU; each would pin its threads to the same cores.
            settings["ENABLE_CPU_PINNING"] = False
        self._requests = []
        for fold in folds:
            network = load_network(model.plan, model.weights_file(fold))
            compiled = core.compile_model(_converted(network, model.plan), "CPU", settings)
            self._requests.append(compiled.create_infer_request())

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`."""
        out: torch.Tensor | None = None
        for position, window in enumerate(batch):
            array = window[None].numpy()
            for k, request in enumerate(self._requests):
                # The request's own memory, good until its next call.
                found = request.infer({0: array}, share_inputs=True, share_outputs=True)[0]
                if out is None:
                    out = torch.empty((len(self._requests), len(batch), *found.shape[1:]), dtype=torch.float32)
                out[k, position] = torch.from_numpy(found[0])
        assert out is not None  # noqa: S101 - batches are not empty
        return out


def _converted(network: nn.Module, plan: Plan) -> openvino.Model:
    window = torch.zeros((1, 3, *plan.window_px))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of what nnU-Net's networks decide from shapes, which are fixed
        try:
            # A function is traced, not the module: a module's layers would all be copied, and only then be dropped.
            traced = torch.jit.trace(lambda batch: network(batch), window, check_trace=False)  # type: ignore[no-untyped-call] # noqa: PLW0108
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"{plan.file} describes a network that cannot be built for its window ({error})."
            ) from error
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape(list(window.shape))
    check_output(plan, converted.output(0).shape)
    return converted
