"""``reviews.jsonl``: who did what to which patch, and when; lines are only ever added."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from uga.output.schema import Record, Sha256

if TYPE_CHECKING:
    from pathlib import Path

AUDIT_FILE = "reviews.jsonl"

Action = Literal["edit", "undo", "redo", "accept", "skip", "reopen"]


class AuditLine(Record):
    """One action.

    ``patch`` is the package's folder below the reviewed one. ``labels_sha256`` is the hash of the label map's bytes
    after the action, ``changed_px`` how many of its pixels differ from the prediction.
    """

    at: AwareDatetime
    reviewer: str
    action: Action
    state: Literal["new", "started", "corrected", "confirmed", "skipped"]
    slide: str
    patch: str
    labels_sha256: Sha256
    changed_px: Annotated[int, Field(ge=0)]

    def is_like(self, other: AuditLine | None) -> bool:
        """Whether another line says the same, whenever it was written."""
        return other is not None and self == other.model_copy(update={"at": self.at})


def last_of(file: Path, patch: str) -> AuditLine | None:
    """The last line about a patch; None if there is none. Lines that a crash has cut off are passed over."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return None
    for text in reversed(lines):
        try:
            line = AuditLine.model_validate_json(text)
        except ValidationError:
            continue
        if line.patch == patch:
            return line
    return None


def append(file: Path, line: AuditLine) -> None:
    """Add a line and flush it to disk; a line that a crash has cut off is ended first."""
    text = line.model_dump_json().encode() + b"\n"
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
