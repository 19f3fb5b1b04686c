"""What ``plans.json`` and ``dataset.json`` say about a 2D RGB model, checked before anything is built from it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uga.errors import ModelError
from uga.model.card import DATASET_FILE, MAX_LABEL, PLANS_FILE
from uga.model.normalisation import Normalisation

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Architecture:
    """A network as nnU-Net's plans describe it; ``to_import`` names the arguments that are dotted class names."""

    class_name: str
    kwargs: dict[str, Any]
    to_import: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The part of an nnU-Net plan that decides predictions. ``window_px`` is (height, width)."""

    file: Path
    configuration: str
    architecture: Architecture
    window_px: tuple[int, int]
    normalisation: Normalisation
    labels: dict[str, int]

    @property
    def num_classes(self) -> int:
        """Number of network outputs: background and every label."""
        return len(self.labels)


def read_plan(folder: Path, configuration: str) -> Plan:
    """Read ``plans.json`` and ``dataset.json`` of a trained-model folder.

    Raises:
        ModelError: a file is missing or malformed, or the model is not a 2D RGB model with plain labels.
    """
    plans_file = folder / PLANS_FILE
    plans, labels = read_json(plans_file), _read_labels(folder / DATASET_FILE)
    try:
        config = _configuration(plans, configuration)
        architecture = config["architecture"]
        return Plan(
            file=plans_file,
            configuration=configuration,
            architecture=Architecture(
                architecture["network_class_name"],
                dict(architecture["arch_kwargs"]),
                tuple(architecture["_kw_requires_import"]),
            ),
            window_px=_window(plans, config, plans_file),
            normalisation=Normalisation.from_plans(
                config["normalization_schemes"], config["use_mask_for_norm"], _intensities(plans), plans_file
            ),
            labels=labels,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        # neither nnU-Net's managers nor we look before they index the JSON
        raise ModelError(
            f"{plans_file} is not an nnU-Net v2 plan with a usable configuration {configuration!r} "
            f"({type(error).__name__}: {error}); export the model again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); a model folder needs this file.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON ({error}); copy the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object; copy the model again.")
    return content


def _configuration(plans: dict[str, Any], name: str) -> dict[str, Any]:
    found = plans["configurations"].get(name)
    if isinstance(found, dict) and "architecture" in found and "inherits_from" not in found:
        return found
    # Importing nnU-Net's own reader of plans takes a second, which most do not need.
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    with warnings.catch_warnings():
        # plans of nnU-Net < 2.5 are converted, and say so with a UserWarning
        warnings.simplefilter("ignore", UserWarning)
        converted: dict[str, Any] = PlansManager(plans).get_configuration(name).configuration
    return converted


def _intensities(plans: dict[str, Any]) -> dict[str, Any]:
    """The training set's intensities; early nnU-Net v2 named them by modality."""
    by_channel = "foreground_intensity_properties_per_channel"
    old = "foreground_intensity_properties_by_modality"
    found: dict[str, Any] = plans[old if old in plans and by_channel not in plans else by_channel]
    return found


def _window(plans: dict[str, Any], config: dict[str, Any], file: Path) -> tuple[int, int]:
    window = list(config["patch_size"])
    if len(window) != 2:
        raise ModelError(
            f"{file} describes a {len(window)}D configuration, but UGA runs 2D models; train with `-c 2d`."
        )
    if not all(isinstance(side, int) and 0 < side <= 1 << 14 for side in window):
        raise ModelError(f"{file} has the impossible patch_size {window}; export the model again.")
    if config.get("previous_stage") is not None:
        raise ModelError(f"{file} describes a cascade, which needs another model's output; train with `-c 2d`.")
    if list(plans.get("transpose_forward", [0, 1, 2])) != [0, 1, 2]:
        raise ModelError(f"{file} transposes the image axes, which UGA does not; plan the data set as 2D RGB images.")
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        raise ModelError(f"{file} names its own label manager {plans['label_manager']!r}; UGA knows LabelManager only.")
    return window[0], window[1]


def _read_labels(file: Path) -> dict[str, int]:
    """The labels of a ``dataset.json`` without 'ignore', which the network does not predict."""
    dataset = read_json(file)
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or len(channels) != 3:
        raise ModelError(f"{file} must list three channels (red, green, blue) in channel_names; UGA runs RGB models.")
    labels = dataset.get("labels")
    if not isinstance(labels, dict):
        raise ModelError(f"{file} has no labels; copy the model again.")
    if labels.get("background") != 0 or "ignore" in labels or any(type(value) is not int for value in labels.values()):
        _check_unusual(labels, dataset.get("regions_class_order"), file)
    plain = {str(name): int(value) for name, value in labels.items() if name != "ignore"}
    if sorted(plain.values()) != list(range(len(plain))) or not 2 <= len(plain) <= MAX_LABEL + 1:
        raise ModelError(f"{file} must number its labels 0, 1, 2, ... (at most {MAX_LABEL}) without gaps.")
    return plain


def _check_unusual(labels: dict[str, Any], regions_class_order: list[int] | None, file: Path) -> None:
    """By nnU-Net's own rules; importing them takes half a second, which labels that are plain numbers do not need."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager  # noqa: PLC0415

    try:
        manager = LabelManager(labels, regions_class_order)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{file} has invalid labels ({error}); give background 0 and the others 1, 2, ...") from error
    if manager.has_regions:
        raise ModelError(f"{file} describes a region-based model; UGA needs labels that exclude each other.")
