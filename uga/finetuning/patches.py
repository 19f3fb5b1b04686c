"""What a fine-tuning learns from and is measured on: corrections and old patches in one form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.output.schema import NOT_JUDGED
from uga.training.labels import IGNORE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from uga.corrections import Correction
    from uga.model.folder import Model
    from uga.training.packs import Pack, PackItem

    UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LearningPatch:
    """A patch with reference labels.

    Attributes:
        name: Unique, safe in file names.
        slide: Its slide; patches of one slide are on one side of every split.
        patient: Whose slide, as far as is known; the slide otherwise.
        centre: Where the slide comes from, as its source says.
        pixels: How many it has.
        fold: The fold that must not learn from it, as stated by its source; None where nothing is stated.
        read_image: Gives RGB uint8 (h, w, 3).
        read_labels: Gives model label values uint8 (h, w), `NOT_JUDGED` where there is no reference.
    """

    name: str
    slide: str
    patient: str
    centre: str
    pixels: int
    fold: int | None
    read_image: Callable[[], UInt8]
    read_labels: Callable[[], UInt8]


def correction_patches(corrections: Sequence[Correction]) -> tuple[LearningPatch, ...]:
    """The corrections, named ``correction_000`` and so on in the given order."""
    return tuple(
        LearningPatch(
            name=f"correction_{number:03d}",
            slide=correction.slide_id,
            patient=correction.slide_id,
            centre=correction.centre,
            pixels=correction.labels.size,
            fold=None,
            read_image=correction.read_image,
            read_labels=partial(np.array, correction.labels),
        )
        for number, correction in enumerate(corrections)
    )


def pack_patches(pack: Pack, model: Model) -> tuple[LearningPatch, ...]:
    """The patches of a pack, named ``replay_<item>`` or ``holdout_<item>``.

    Raises:
        UserError: the pack has other labels, another spacing or more folds than the model.
    """
    labels = {name: value for name, value in pack.index.labels.items() if name != IGNORE}
    if labels != model.labels or abs(pack.index.spacing_um / model.spacing_um - 1) > 1e-3:
        raise UserError(
            f"The pack {pack.path} has labels {labels} at {pack.index.spacing_um:g} um/px, but the model {model.name} "
            f"has {model.labels} at {model.spacing_um:g} um/px; give a pack of this model's training."
        )
    beyond = [item.fold for item in pack.index.items if item.fold is not None and item.fold not in model.folds]
    if beyond:
        raise UserError(f"The pack {pack.path} names fold {beyond[0]}, which {model.name} does not have; give its own.")
    return tuple(
        LearningPatch(
            name=f"{pack.index.purpose}_{item.name}",
            slide=item.case,
            patient=item.patient,
            centre=item.centre,
            pixels=item.size_px**2,
            fold=item.fold,
            read_image=partial(pack.read_image, item),
            read_labels=partial(_pack_labels, pack, item),
        )
        for item in pack.index.items
    )


def _pack_labels(pack: Pack, item: PackItem) -> UInt8:
    labels = pack.read_labels(item)
    ignore = pack.index.labels.get(IGNORE)
    return labels if ignore is None else np.where(labels == ignore, np.uint8(NOT_JUDGED), labels)
