"""The model card, ``model.json``: what a model folder is, what it is for, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from uga.errors import ModelError

CARD_FILE = "model.json"
DATASET_FILE = "dataset.json"
PLANS_FILE = "plans.json"
WEIGHTS_FILE = "model.safetensors"
RESEARCH_USE = (
    "Research use only. Not a medical device: segmentations and uncertainties must be reviewed by a pathologist "
    "and must not be the basis of a diagnosis."
)
MAX_LABEL = 254
"""Largest label value: maps are uint8 and 255 means 'not judged' in corrections."""

_CHUNK_BYTES = 1 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Training(BaseModel):
    """Where the weights come from.

    ``corrected`` are the slides that this fine-tuning and those before it have learnt corrections of, by a digest of
    their names, each with the fold that has learnt from none of it, None if all have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = ""
    seed: int | None = None
    trainer: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    created: AwareDatetime | None = None
    corrected: dict[str, Annotated[int, Field(ge=0)] | None] = Field(default_factory=dict)
    details: dict[str, str | int | float | bool] = Field(default_factory=dict)


class About(BaseModel):
    """What an author says about a model; nothing here changes a prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = "1.0"
    description: str = ""
    intended_use: str = RESEARCH_USE
    training: Training = Training()
    parent: Sha256 | None = None
    """Hash of the model this one was fine-tuned from."""


class ModelCard(About):
    """The content of ``model.json``.

    ``labels`` maps names to the values written in label maps (background 0, then 1, 2, ... without gaps);
    ``window_px`` is (height, width); ``normalisation`` names one nnU-Net scheme per channel; ``files`` maps paths
    relative to the model folder (forward slashes) to their SHA-256.
    """

    schema_version: Literal["1.0"] = "1.0"
    name: str = Field(min_length=1)
    labels: dict[str, int]
    tumour_label: str
    spacing_um: Positive
    window_px: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    channels: tuple[Literal["red"], Literal["green"], Literal["blue"]] = ("red", "green", "blue")
    normalisation: tuple[str, str, str]
    configuration: str
    folds: tuple[int, ...] = Field(min_length=1)
    files: dict[str, Sha256]

    @model_validator(mode="after")
    def _is_consistent(self) -> ModelCard:
        if sorted(self.labels.values()) != list(range(len(self.labels))) or self.labels.get("background") != 0:
            raise ValueError("labels must be background = 0, then 1, 2, ... without gaps")
        if not 2 <= len(self.labels) <= MAX_LABEL + 1:
            raise ValueError(f"labels must number 2 to {MAX_LABEL + 1}")
        if self.labels.get(self.tumour_label, 0) == 0:
            raise ValueError(f"tumour_label must be one of the foreground labels, not {self.tumour_label!r}")
        if self.folds != tuple(range(len(self.folds))):
            raise ValueError(f"folds must be 0, 1, 2, ... without gaps, not {list(self.folds)}")
        for path in self.files:
            if not _is_inside(path):
                raise ValueError(f"files must be paths inside the model folder, not {path!r}")
        missing = sorted(self.decisive_files - self.files.keys())
        if missing:
            raise ValueError(f"files lacks {', '.join(missing)}")
        return self

    @property
    def decisive_files(self) -> set[str]:
        """Relative paths of the files that determine predictions."""
        return {DATASET_FILE, PLANS_FILE} | {weights_path(fold) for fold in self.folds}

    @property
    def sha256(self) -> str:
        """Identity of the model: a hash over what determines its predictions.

        SHA-256 of the sorted ``path sha256`` lines of the `decisive_files`, and of the settings in the card that
        change a prediction. Name, description and provenance can be edited without becoming another model.
        """
        settings = self.model_dump_json(
            include={"labels", "tumour_label", "spacing_um", "window_px", "normalisation", "configuration", "folds"}
        )
        lines = [f"{path} {self.files[path]}\n" for path in sorted(self.decisive_files)]
        canonical = json.dumps(json.loads(settings), sort_keys=True)
        return hashlib.sha256("".join([*lines, f"{CARD_FILE} {canonical}\n"]).encode()).hexdigest()


def weights_path(fold: int) -> str:
    """Relative path of the weights of one fold."""
    return f"fold_{fold}/{WEIGHTS_FILE}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_card(path: Path) -> ModelCard:
    """Read and validate a ``model.json``.

    Raises:
        ModelError: the file cannot be read or does not describe a model.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check that the file exists.") from error
    except ValidationError as error:
        raise ModelError(
            f"{path} is not a valid model card ({first_problem(error)}); make it anew with `uga model import`."
        ) from error


def write_card(path: Path, card: ModelCard) -> None:
    """Write a ``model.json``."""
    path.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation, as ``field: what is wrong``."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    plain = "/".join(parts) == path and "\\" not in path and "\0" not in path and ":" not in path
    return plain and bool(parts) and not path.startswith("/") and ".." not in parts
