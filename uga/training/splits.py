"""Cross-validation splits in which no patient stands on both sides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from uga.errors import UserError
from uga.model.card import first_problem
from uga.training.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SPLITS_FILE = "splits.json"
"""The splits of a model folder: nnU-Net's form, but of slides."""


class _UserSplit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    train: list[str]
    val: list[str]


_SPLITS = TypeAdapter(Annotated[list[_UserSplit], Field(min_length=2)])


class Split(TypedDict):
    """One fold in the form of nnU-Net's splits_final.json: names of patches, or of slides in a model folder."""

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


def check_splits(splits: Sequence[Split], patient_of: Mapping[str, str], *, first: int = 0) -> None:
    """Refuse splits that leak.

    Args:
        splits: Of patches, or of slides.
        patient_of: Patch or slide -> patient.
        first: Number of the first split, for messages.

    Raises:
        UserError: a patient on both sides, an unknown patch, or an empty side.
    """
    for fold, split in enumerate(splits, start=first):
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


def slide_splits(splits: Sequence[Split], case_of: Mapping[str, str]) -> list[Split]:
    """The same splits by slide; ``case_of`` gives each patch its slide."""
    return [
        Split(
            train=sorted({case_of[name] for name in split["train"]}),
            val=sorted({case_of[name] for name in split["val"]}),
        )
        for split in splits
    ]


def patch_splits(splits: Sequence[Split], case_of: Mapping[str, str]) -> list[Split]:
    """The same splits by patch; ``case_of`` gives each patch its slide."""

    def patches(cases: Sequence[str]) -> list[str]:
        wanted = set(cases)
        return sorted(name for name, case in case_of.items() if case in wanted)

    return [Split(train=patches(split["train"]), val=patches(split["val"])) for split in splits]


def read_splits(path: Path, patient_of: Mapping[str, str]) -> list[Split]:
    """Read a user's splits: nnU-Net's form, ``[{"train": [...], "val": [...]}, ...]``, of slides.

    Args:
        path: JSON file, such as the `splits.json` of a model folder.
        patient_of: Slide id -> patient, of every slide that may be named.

    Raises:
        UserError: not such a file, a slide that is unknown, missing or doubled, or a patient on both sides.
    """
    try:
        content = _SPLITS.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"The splits {path} cannot be read ({error.strerror}); name a JSON file.") from error
    except ValidationError as error:
        raise UserError(
            f'The splits {path} are not of the form [{{"train": [slides], "val": [slides]}}, ...] '
            f"({first_problem(error)}); correct them."
        ) from error
    splits = [Split(train=split.train, val=split.val) for split in content]
    faults = Faults(f"The splits {path}")
    for fold, split in enumerate(splits):
        for slide, count in Counter([*split["train"], *split["val"]]).items():
            if slide not in patient_of:
                faults.add(f"Split {fold} of {path} names the slide '{slide}', which the cohort does not train on.")
            elif count > 1:
                faults.add(f"Split {fold} of {path} names the slide '{slide}' {count} times; keep it on one side.")
        if missing := sorted(set(patient_of) - {*split["train"], *split["val"]}):
            faults.add(f"Split {fold} of {path} leaves out the slide '{missing[0]}'; put every slide on a side.")
        with faults.collect():
            train, val = ([slide for slide in split[side] if slide in patient_of] for side in ("train", "val"))
            check_splits([Split(train=train, val=val)], patient_of, first=fold)
    faults.raise_if_any()
    return splits
