"""Networks of an ensemble: built by nnU-Net's own code from the plans, filled from safetensors."""

from __future__ import annotations

import pydoc
import re
from typing import TYPE_CHECKING

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from uga.errors import ModelError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from uga.model.plan import Architecture, Plan

_ARCHITECTURES = "dynamic_network_architectures.architectures.unet"
_NETWORKS = frozenset({"PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"})
_TORCH_MODULE = re.compile(r"torch\.nn\.(modules\.[a-z]+\.)?[A-Z][A-Za-z0-9]*")
_RESIDUAL_BLOCK = re.compile(r"dynamic_network_architectures\.building_blocks\.residual\.(BasicBlockD|BottleneckD)")


def build_network(plan: Plan) -> nn.Module:
    """The network of a plan, deep supervision off, on the ``meta`` device: shapes only, no weights, no memory.

    nnU-Net resolves class names in the plan with ``pydoc.locate``, which imports whatever they name. So only names
    of its own U-Nets and of ``torch.nn`` modules are passed on. `check_window` tells whether the window fits.

    Raises:
        ModelError: a name outside that list, or arguments the network refuses.
    """
    architecture = plan.architecture
    try:
        class_name = _network_class(architecture)
        _check_imports(architecture)
        with torch.device("meta"):
            network: nn.Module = get_network_from_plans(
                class_name,
                architecture.kwargs,
                architecture.to_import,
                input_channels=3,
                output_channels=plan.num_classes,
                allow_init=False,
                deep_supervision=False,
            )
    except _RefusedNameError as error:
        raise ModelError(f"{plan.file} {error}, which UGA does not load; use a model trained with nnU-Net.") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{plan.file} describes a network that cannot be built ({error}); export it again.") from error
    return network.eval()


@torch.no_grad()
def check_window(plan: Plan) -> None:
    """Run a network of the plan on a window, shapes only.

    Raises:
        ModelError: the window does not fit the network, or its output is not a label map.
    """
    network = build_network(plan)
    try:
        out = network(torch.empty((1, 3, *plan.window_px), device="meta"))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{plan.file} describes a network that cannot be built for its window ({error}); export it again."
        ) from error
    check_output(plan, out.shape)


def check_output(plan: Plan, shape: Sequence[int]) -> None:
    """Refuse what a network makes of a window (1, 3, h, w) if it is not a score per class and pixel.

    Raises:
        ModelError: another shape than (1, C, h, w).
    """
    if tuple(shape) != (1, plan.num_classes, *plan.window_px):
        raise ModelError(f"{plan.file} describes a network whose output {tuple(shape)} is not a 2D label map.")


def full_state(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All names of nnU-Net's state dict from one tensor per parameter.

    nnU-Net registers its layers several times (``conv`` and ``all_modules.0``, ``encoder`` and ``decoder.encoder``),
    so a state dict holds each tensor under two to four names; safetensors keeps the first.
    """
    return {name: weights[canonical] for name, canonical in _canonical_names(network).items()}


def unique_state(network: nn.Module, state: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """One float32 tensor per parameter from a state dict of nnU-Net; the inverse of `full_state`.

    Raises:
        ModelError: names or shapes are not the network's, copies differ, or a value is not finite.
    """
    names, expected = _canonical_names(network), network.state_dict()
    _check_names(state.keys(), expected.keys(), file)
    unique: dict[str, torch.Tensor] = {}
    for name, canonical in names.items():
        tensor, wanted = state[name], expected[name]
        if tensor.shape != wanted.shape or tensor.is_floating_point() != wanted.is_floating_point():
            raise ModelError(f"{file} does not fit the plan: {name} is {_form(tensor)}, not {_form(wanted)}.")
        tensor = tensor.detach().to(wanted.dtype)
        if canonical in unique:
            if not torch.equal(unique[canonical], tensor):
                raise ModelError(f"{file} holds two different values for one layer, {name}; export the model again.")
            continue
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{file} holds values in {name} that are not finite; the training has failed.")
        unique[canonical] = tensor.contiguous()
    return unique


def save_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write one tensor per parameter (see `unique_state`) as safetensors."""
    # a clone per tensor: safetensors refuses views into a shared storage
    save_file({name: tensor.clone() for name, tensor in weights.items()}, path)


def rounded_to_half(weights: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Kernels in half precision, which halves a model's size; vectors (biases, norms, running statistics) stay as is.

    Raises:
        ModelError: a kernel holds a value that half precision cannot.
    """
    rounded = {}
    for name, tensor in weights.items():
        halved = tensor.half() if tensor.ndim > 1 else tensor
        if not bool(torch.isfinite(halved).all()):
            raise ModelError(f"{file} holds values in {name} beyond half precision; store the weights as float32.")
        rounded[name] = halved
    return rounded


def load_network(plan: Plan, path: Path, device: torch.device | None = None) -> nn.Module:
    """The network of a plan with the weights of one fold, frozen and in eval mode.

    Raises:
        ModelError: the file is not safetensors or its weights do not fit the plan exactly.
    """
    network = build_network(plan)
    try:
        # Kernels may be stored in half precision (`rounded_to_half`); what networks compute in is decided elsewhere.
        weights = {name: _widened(tensor) for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}); copy the model again.") from error
    expected = network.state_dict()
    _check_names(weights.keys(), set(_canonical_names(network).values()), path)
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise ModelError(f"{path} does not fit the plan: {name} is {_form(tensor)}, not {_form(expected[name])}.")
    network.load_state_dict(full_state(network, weights), strict=True, assign=True)
    network.requires_grad_(requires_grad=False)
    return network.eval().to(device or torch.device("cpu"))


class _RefusedNameError(Exception):
    """A name in the plan that must not be imported."""


def _network_class(architecture: Architecture) -> str:
    package, _, name = str(architecture.class_name).rpartition(".")
    # older plans name modules that have since moved, always within this package
    if name not in _NETWORKS or package.split(".")[0] != "dynamic_network_architectures":
        raise _RefusedNameError(f"names the network class {architecture.class_name!r}")
    return f"{_ARCHITECTURES}.{name}"


def _check_imports(architecture: Architecture) -> None:
    for argument in architecture.to_import:
        name = architecture.kwargs.get(argument)
        if name is None or (isinstance(name, str) and _RESIDUAL_BLOCK.fullmatch(name)):
            continue
        found = pydoc.locate(name) if isinstance(name, str) and _TORCH_MODULE.fullmatch(name) else None
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise _RefusedNameError(f"names {name!r} as {argument}")


def _canonical_names(network: nn.Module) -> dict[str, str]:
    """Each name of the state dict to the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in network.state_dict(keep_vars=True).items()}


def _check_names(found: Collection[str], expected: Collection[str], file: Path) -> None:
    for words, names in (("lacks", set(expected) - set(found)), ("has the unexpected", set(found) - set(expected))):
        if names:
            raise ModelError(
                f"{file} does not fit the plan: it {words} {min(names)} ({len(names)} such); export the model again."
            )


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
