"""``report.json``: what was corrected, what was learned, and what it did to the ensemble."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue

from uga.finetuning.balance import LabelBalance  # noqa: TC001 - pydantic reads the annotations
from uga.finetuning.comparison import Comparison, Verdict  # noqa: TC001 - pydantic reads the annotations
from uga.model.card import RESEARCH_USE
from uga.output.schema import SCHEMA_VERSION, Fraction, ModelRecord, Record, Seconds, Sha256


class UsedCorrection(Record):
    """A correction that was learned from.

    ``changed`` is the share of the judged pixels that the clinician gave another label than the parent; ``fold`` the
    fold that did not learn from it, None if all did; ``before`` and ``after`` the Dice of each label over the patch,
    both ensembles whole.
    """

    name: str
    slide: str
    centre: str
    kind: str
    sha256: Sha256
    judged: Fraction
    changed: Fraction
    fold: int | None
    before: dict[str, float | None]
    after: dict[str, float | None]


class RefusedFile(Record):
    """A file that could not be used; ``file`` is relative to the input."""

    file: str
    reason: str


class Comparisons(Record):
    """Both ensembles, side by side; None where there is nothing to compare on.

    Attributes:
        held_out_corrections: Each correction judged by the fold that did not learn from it.
        corrections: All corrections judged by the whole ensembles; most folds have learned from them.
        old: Hold-out patches judged by the whole ensembles, or replayed patches by the fold that held them out.
    """

    held_out_corrections: Comparison | None
    corrections: Comparison | None
    old: Comparison | None
    old_source: Literal["holdout", "replay"] | None


class FinetuningReport(Record):
    """The whole report.

    ``model`` is the fine-tuned ensemble, released or not; ``request`` the hash of what decided its weights.
    """

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    uga_version: str
    request: Sha256
    parent: ModelRecord
    model: ModelRecord
    released: bool
    forced: bool
    guard: Verdict
    corrections: tuple[UsedCorrection, ...] = Field(min_length=1)
    balance: dict[str, LabelBalance]
    unchanged: tuple[str, ...]
    refused: tuple[RefusedFile, ...]
    replay_patches: int
    comparisons: Comparisons
    options: dict[str, JsonValue]
    versions: dict[str, str]
    device: str
    started: AwareDatetime
    finished: AwareDatetime
    timings_s: dict[str, Seconds]
