"""Cross-validation splits in which no patient stands on both sides."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Split(TypedDict):
    """One entry of nnU-Net's splits_final.json: names of training cases (here: patches)."""

    train: list[str]
    val: list[str]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a patch comes from: the patient must not be split, the stratum should be spread over the folds."""

    patient: str
    stratum: tuple[str, ...]


def make_splits(origins: Mapping[str, Origin], *, folds: int, seed: int) -> list[Split]:
    """Deal the patients to the folds, stratum by stratum; each patch is validated exactly once.

    Args:
        origins: Patch name -> origin. A patient's stratum is the largest of its patches'.
        folds: Number of folds, at least 2.
        seed: Same seed and patients, same splits.

    Raises:
        UserError: fewer patients than folds.
    """
    strata: dict[str, tuple[str, ...]] = {}
    patches: dict[str, list[str]] = defaultdict(list)
    for name, origin in sorted(origins.items()):
        strata[origin.patient] = max(strata.get(origin.patient, ()), origin.stratum)
        patches[origin.patient].append(name)
    if len(patches) < folds:
        raise UserError(f"{folds} folds need as many patients, the cohort has {len(patches)}; use fewer folds.")
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    dealt: list[str] = []
    for stratum in sorted(set(strata.values())):
        members = sorted(patient for patient, own in strata.items() if own == stratum)
        rng.shuffle(members)
        dealt += members
    fold_of = {patient: index % folds for index, patient in enumerate(dealt)}
    splits = [
        Split(
            train=sorted(name for patient, names in patches.items() if fold_of[patient] != fold for name in names),
            val=sorted(name for patient, names in patches.items() if fold_of[patient] == fold for name in names),
        )
        for fold in range(folds)
    ]
    check_splits(splits, {name: origin.patient for name, origin in origins.items()})
    return splits


def check_splits(splits: Sequence[Split], patient_of: Mapping[str, str]) -> None:
    """Refuse splits that leak.

    Raises:
        UserError: a patient on both sides, an unknown patch, or an empty side.
    """
    for fold, split in enumerate(splits):
        unknown = [name for name in (*split["train"], *split["val"]) if name not in patient_of]
        if unknown:
            raise UserError(f"Split {fold} names the patch '{unknown[0]}', which the dataset does not hold; remove it.")
        train = {patient_of[name] for name in split["train"]}
        val = {patient_of[name] for name in split["val"]}
        if train & val:
            raise UserError(
                f"Split {fold} has patient '{min(train & val)}' in training and validation; keep a patient on one side."
            )
        if not train or not val:
            raise UserError(f"Split {fold} leaves training or validation empty; use fewer folds or more patients.")
