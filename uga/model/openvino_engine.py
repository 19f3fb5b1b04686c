"""The ensemble in OpenVINO: the same networks, two to four times as fast on a CPU as torch runs them.

The networks are handed over in memory, by OpenVINO's frontend for traced torch modules. Its converter
(`openvino.convert_model`) would do the same, but reports its use to its makers.
"""

from __future__ import annotations

import itertools
import multiprocessing
import warnings
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.opset13 import constant

from uga.errors import ModelError, is_out_of_memory
from uga.model.network import check_output, load_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,  # windows one after the other, all threads on each: least memory, nothing to reorder
        }
        if multiprocessing.parent_process() is not None:
            # One of several processes that share the CPU; each would pin its threads to the same cores.
            settings["ENABLE_CPU_PINNING"] = False
        self._requests = []
        graph: openvino.Model | None = None
        for fold in folds:
            network = load_network(model.plan, model.weights_file(fold))
            weights = _weights(network)
            if graph is None:  # the folds differ in their weights alone
                graph = _graph(network, weights, model.plan)
            compiled = _core().compile_model(_filled(graph, weights), "CPU", settings)
            self._requests.append(compiled.create_infer_request())
        # Used again by every other call, since arrays of this size that come and go leave holes in the heap.
        self._logits = self._earlier = torch.empty((len(folds), 0, model.plan.num_classes, *model.plan.window_px))

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`; its caller may be busy with the logits of the call before."""
        self._logits, self._earlier = self._earlier, self._logits
        shape = len(self._requests), len(batch), *self._logits.shape[2:]
        if self._logits.shape != shape:
            self._logits = torch.empty(shape)
        for position, window in enumerate(batch):
            array = window[None].numpy()
            for logits, request in zip(self._logits[:, position], self._requests, strict=True):
                # Written where it is wanted: another copy would cost as much as a fiftieth of the passes.
                request.set_output_tensor(0, openvino.Tensor(logits[None].numpy(), shared_memory=True))
                request.infer({0: array}, share_inputs=True, share_outputs=True)
        return self._logits

    def release(self) -> None:
        """See `Engine`; nothing is kept but the last logits."""


@cache
def _core() -> openvino.Core:
    """The process's only one: with the last goes the code for this CPU, in which OpenVINO's threads may still be."""
    return openvino.Core()


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor that the network computes with, once, by one of its names."""
    state = network.state_dict(keep_vars=True)  # the tensors themselves, so that those with several names are told
    unique = {id(tensor): name for name, tensor in reversed(state.items()) if tensor.is_floating_point()}
    return {name: state[name].detach() for name in unique.values()}


def _graph(network: nn.Module, weights: Mapping[str, torch.Tensor], plan: Plan) -> openvino.Model:
    """The operations of any fold: its inputs are a window and the weights. The network is of no use afterwards."""
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(_traced(network, weights, plan))  # must outlive the conversion
    traced = frontend.load(decoder)
    shapes = [(1, 3, *plan.window_px), *(tensor.shape for tensor in weights.values())]
    for place, shape in zip(traced.get_inputs(), shapes, strict=True):
        traced.set_partial_shape(place, openvino.PartialShape(list(shape)))
    graph = frontend.convert(traced)
    check_output(plan, graph.output(0).shape)
    return graph


def _filled(graph: openvino.Model, weights: Mapping[str, torch.Tensor]) -> openvino.Model:
    """The graph with weights of one fold in the place of its inputs for them."""
    filled = graph.clone()
    for parameter, tensor in zip(filled.get_parameters()[1:], weights.values(), strict=True):
        parameter.output(0).replace(constant(tensor.numpy(), shared_memory=True).output(0))
        filled.remove_parameter(parameter)
    filled.validate_nodes_and_infer_types()
    return filled


def _traced(
    network: nn.Module, weights: Mapping[str, torch.Tensor], plan: Plan
) -> torch.jit.ScriptFunction[Any, torch.Tensor]:
    """The network's operations, for any window: traced on the smallest one that it takes, since tracing runs it."""
    height, width = plan.window_px
    halvings = next(count for count in itertools.count() if height % 2 ** (count + 1) or width % 2 ** (count + 1))
    for count in range(halvings, 0, -1):
        with suppress(RuntimeError, ValueError):
            return _trace(network, weights, height >> count, width >> count)
    try:
        return _trace(network, weights, height, width)
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{plan.file} describes a network that cannot be built for its window ({error}).") from error


@torch.no_grad()
def _trace(
    network: nn.Module, weights: Mapping[str, torch.Tensor], height: int, width: int
) -> torch.jit.ScriptFunction[Any, torch.Tensor]:
    def run(window: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        for name, tensor in zip(weights, tensors, strict=True):
            layer, _, own_name = name.rpartition(".")
            module = network.get_submodule(layer)
            delattr(module, own_name)
            setattr(module, own_name, tensor)
        output: torch.Tensor = network(window)
        return output

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what nnU-Net's networks decide from shapes
        window = torch.zeros((1, 3, height, width))
        return torch.jit.trace(run, (window, *weights.values()), check_trace=False)  # type: ignore[no-untyped-call, no-any-return]
