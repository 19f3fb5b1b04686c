"""The last change of a patch, so that one that is asked for again is known.

A request whose answer was lost is sent again, and names a version that it has itself replaced. Nobody else has saved
then. ``.history/last.json`` says so; it is written before anything else of a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uga.output.files import write_json
from uga.output.schema import Record, Sha256
from uga.review.audit import Action  # noqa: TC001 - pydantic reads the annotation
from uga.review.history import HISTORY_FOLDER
from uga.review.queue import State  # noqa: TC001 - pydantic reads the annotation

if TYPE_CHECKING:
    from pathlib import Path

LAST_FILE = "last.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reviewer asks for.

    Attributes:
        base: The version that was shown.
        reviewer: Their name.
        action: What is to be done.
        labels_sha256: Hash of the label map of an edit; None for any other action.
    """

    base: str
    reviewer: str
    action: Action
    labels_sha256: str | None = None


class Change(Record):
    """``last.json``: a change that was begun.

    ``base`` is the version that was shown, ``before_sha256`` the hash of the label map in it; ``labels_sha256`` and
    ``state`` are what the change leads to.
    """

    base: str
    reviewer: str
    action: Action
    before_sha256: Sha256
    labels_sha256: Sha256
    state: State

    @classmethod
    def last(cls, package: Path) -> Change | None:
        """The last change that was begun in a package; None if it is not known."""
        try:
            return cls.model_validate_json((package / HISTORY_FOLDER / LAST_FILE).read_bytes())
        except (OSError, ValidationError):
            return None

    def note(self, package: Path) -> None:
        """Write it."""
        write_json(package / HISTORY_FOLDER / LAST_FILE, self)

    def is_of(self, asked: Asked) -> bool:
        """Whether it is what is asked for."""
        same = (self.base, self.reviewer, self.action) == (asked.base, asked.reviewer, asked.action)
        return same and asked.labels_sha256 in (None, self.labels_sha256)

    def is_done(self, labels_sha256: str, state: State) -> bool:
        """Whether a patch with these labels in this state has it behind it."""
        return (labels_sha256, state) == (self.labels_sha256, self.state)

    def is_half_done(self, labels_sha256: str) -> bool:
        """Whether new labels were to be written, and a crash came before they were."""
        return labels_sha256 == self.before_sha256 != self.labels_sha256
