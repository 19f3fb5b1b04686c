"""Model folders: find, verify and describe them. Nothing is loaded from a folder whose hashes do not match."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uga.errors import ModelError
from uga.model.card import CARD_FILE, PLANS_FILE, file_sha256, read_card, weights_path
from uga.model.network import check_window, load_network
from uga.model.plan import read_plan

if TYPE_CHECKING:
    from pathlib import Path

    from uga.model.card import ModelCard
    from uga.model.normalisation import Normalisation
    from uga.model.plan import Plan

log = logging.getLogger(__name__)

_IMPORT_HINT = "make a model folder of it with `uga model import`"


@dataclass(frozen=True)
class Model:
    """A verified model folder; the weights are read by `uga.model.ensemble.Ensemble`."""

    path: Path
    card: ModelCard
    plan: Plan

    @property
    def name(self) -> str:
        """Name from the card."""
        return self.card.name

    @property
    def sha256(self) -> str:
        """Identity of the model (see `ModelCard.sha256`)."""
        return self.card.sha256

    @property
    def labels(self) -> dict[str, int]:
        """Label names to the values in label maps; background is 0."""
        return self.card.labels

    @property
    def tumour_label(self) -> str:
        """Name of the label that means tumour."""
        return self.card.tumour_label

    @property
    def tumour_value(self) -> int:
        """Value of the tumour label in label maps."""
        return self.card.labels[self.card.tumour_label]

    @property
    def spacing_um(self) -> float:
        """Spacing the model was trained at, micrometres per pixel."""
        return self.card.spacing_um

    @property
    def window_px(self) -> tuple[int, int]:
        """Window of the network, (height, width) in grid pixels."""
        return self.plan.window_px

    @property
    def normalisation(self) -> Normalisation:
        """Intensity normalisation the networks expect."""
        return self.plan.normalisation

    @property
    def num_classes(self) -> int:
        """Number of network outputs, background included."""
        return self.plan.num_classes

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds of the ensemble, 0, 1, 2, ..."""
        return self.card.folds

    def weights_file(self, fold: int) -> Path:
        """The safetensors file of one fold."""
        return self.path / weights_path(fold)


def load_model(path: Path) -> Model:
    """Open a model folder, or the one model folder directly below ``path``, and verify every hash in its card.

    Raises:
        ModelError: no model there, a file is missing or altered, or card, plans and data set disagree.
    """
    root = _find(path)
    card = read_card(root / CARD_FILE)
    for relative in sorted(card.files):
        _verify_file(root, relative, card.files[relative])
    _check_folds(root, card)
    plan = read_plan(root, card.configuration)
    _check_agreement(root / CARD_FILE, card, plan)
    return Model(root, card, plan)


def verify_model(path: Path) -> Model:
    """`load_model`, and load every fold's weights into a network that takes the window.

    Raises:
        ModelError: as `load_model`, or weights or window do not fit the plan.
    """
    model = load_model(path)
    check_window(model.plan)
    for fold in model.folds:
        load_network(model.plan, model.weights_file(fold))
    return model


def model_info(path: Path) -> dict[str, Any]:
    """What to tell a user about a model, ready for JSON: the card, the model's hash, size and network."""
    model = load_model(path)
    network = load_network(model.plan, model.weights_file(0))
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "network": model.plan.architecture.class_name.rpartition(".")[2],
        "parameters_per_fold": sum(parameter.numel() for parameter in network.parameters()),
        "size_bytes": sum((model.path / relative).stat().st_size for relative in model.card.files),
        **model.card.model_dump(mode="json"),
    }


def _find(path: Path) -> Path:
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder; name a model folder with --model.")
    if (path / CARD_FILE).is_file():
        return path
    if (path / PLANS_FILE).is_file():
        raise ModelError(f"{path} is an nnU-Net folder without {CARD_FILE}; {_IMPORT_HINT}.")
    below = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [entry for entry in below if (entry / CARD_FILE).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found)
        raise ModelError(f"{path} holds several models ({names}); name one of them with --model.")
    plain = [entry for entry in below if (entry / PLANS_FILE).is_file()]
    if plain:
        raise ModelError(f"{plain[0]} is an nnU-Net folder without {CARD_FILE}; {_IMPORT_HINT}.")
    raise ModelError(
        f"{path} holds no {CARD_FILE}; name a model folder with --model, or make one with `uga model import`."
    )


def _verify_file(root: Path, relative: str, expected: str) -> None:
    file = root / relative
    if not file.is_file():
        raise ModelError(f"{file} is missing; copy the model again.")
    if not file.resolve().is_relative_to(root.resolve()):
        raise ModelError(f"{file} is a link that leaves the model folder; replace it by the file itself.")
    try:
        actual = file_sha256(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); check its permissions.") from error
    if actual != expected:
        raise ModelError(f"{file} was altered or damaged (its hash is not that of {CARD_FILE}); copy the model again.")


def _check_folds(root: Path, card: ModelCard) -> None:
    """A fold that lies in the folder but not in the card would silently take no part."""
    listed = {f"fold_{fold}" for fold in card.folds}
    for entry in sorted(root.glob("fold_*")):
        if entry.is_dir() and entry.name not in listed:
            raise ModelError(f"{entry} is not listed in {CARD_FILE}; remove it or import the model again.")


def _check_agreement(file: Path, card: ModelCard, plan: Plan) -> None:
    pairs = {
        "labels": (card.labels, plan.labels, "dataset.json"),
        "window_px": (card.window_px, plan.window_px, PLANS_FILE),
        "normalisation": (card.normalisation, plan.normalisation.schemes, PLANS_FILE),
    }
    for field, (said, is_, where) in pairs.items():
        if said != is_:
            raise ModelError(f"{file} has {field} {said}, but {where} has {is_}; make it anew with `uga model import`.")
