"""nnU-Net's ``.pth`` checkpoints: read without trusting them, written so that nnU-Net loads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.serialization import safe_globals

from uga.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint_final.pth"
PLAIN_TRAINER = "nnUNetTrainer"
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """What of a checkpoint decides predictions; ``weights`` is nnU-Net's state dict on the CPU."""

    file: Path
    weights: dict[str, torch.Tensor]
    configuration: str
    trainer: str
    mirroring_axes: tuple[int, ...] | None


class _Ignored:
    """Stands in for numpy's classes and functions, whose values a checkpoint holds only in its training log."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# What a genuine checkpoint names besides tensors: numpy scalars of the logged losses, as numpy 1 and 2 pickle them
# (nnU-Net issue 2681). Nothing of numpy runs: each name is bound to the stand-in.
_NUMPY_NAMES = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Int32", "Int64", "Float16", "Float32", "Float64")),
)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of nnU-Net v2; pickled code in it is never run.

    Raises:
        ModelError: the file is missing, is no checkpoint, or asks for anything but tensors and plain values.
    """
    try:
        with safe_globals([(_Ignored, name) for name in _NUMPY_NAMES]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; finish that fold's training or name the folds to import.") from error
    except Exception as error:
        log.debug("%s refused", path, exc_info=error)
        raise ModelError(
            f"{path} is damaged or holds more than weights and is not opened ({_first_line(error)}); "
            "get a checkpoint written by nnU-Net v2 from a source you trust."
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} is not a checkpoint of nnU-Net v2; give a fold's checkpoint_final.pth.")
    return _checkpoint(path, content)


def write_checkpoint(path: Path, checkpoint: Checkpoint, fold: int) -> None:
    """Write a checkpoint that nnU-Net loads for inference and as pretrained weights, without optimiser state.

    The network is stated completely by ``plans.json``, so nnU-Net's plain trainer rebuilds it, also where the trainer
    that made it is not installed.
    """
    content = {
        "network_weights": checkpoint.weights,
        "init_args": {"configuration": checkpoint.configuration, "fold": fold},
        "trainer_name": PLAIN_TRAINER,
        "inference_allowed_mirroring_axes": checkpoint.mirroring_axes,
    }
    torch.save(content, path)


def _checkpoint(path: Path, content: Mapping[Any, Any]) -> Checkpoint:
    weights, init_args = content.get("network_weights"), content.get("init_args")
    trainer, axes = content.get("trainer_name"), content.get("inference_allowed_mirroring_axes")
    configuration = init_args.get("configuration") if isinstance(init_args, Mapping) else None
    if not (isinstance(weights, Mapping) and isinstance(configuration, str) and isinstance(trainer, str)):
        raise ModelError(
            f"{path} lacks network_weights, init_args.configuration or trainer_name; give a checkpoint of nnU-Net v2."
        )
    if not all(isinstance(name, str) and _is_plain(tensor) for name, tensor in weights.items()):
        raise ModelError(f"{path} holds network_weights that are not plain tensors; give a checkpoint of nnU-Net v2.")
    if axes is not None and not (isinstance(axes, list | tuple) and all(isinstance(axis, int) for axis in axes)):
        raise ModelError(f"{path} holds invalid mirroring axes; give a checkpoint of nnU-Net v2.")
    return Checkpoint(
        file=path,
        weights={_plain_name(name): tensor.detach() for name, tensor in weights.items()},
        configuration=configuration,
        trainer=trainer,
        mirroring_axes=None if axes is None else tuple(axes),
    )


def _is_plain(tensor: object) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )


def _plain_name(name: str) -> str:
    """A parameter's name without what torch.compile and DistributedDataParallel put before it."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    detail = next((line.strip() for line in text.splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
    return detail or (text.splitlines()[0] if text else type(error).__name__)
