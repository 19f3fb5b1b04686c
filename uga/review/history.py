"""The steps of a patch's correction, kept beside it so that undo works after a reload.

Steps are whole label maps below the package's hidden folder ``.history``, which no reader of corrections looks into,
named by content; ``steps.json`` has their order and the place in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import imagecodecs
from pydantic import Field, ValidationError

from uga.output.files import write_atomic, write_json
from uga.output.schema import Record, Sha256
from uga.review.labelmap import encode_png, labels_sha256

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    UInt8 = NDArray[np.uint8]

HISTORY_FOLDER = ".history"
STEPS_FILE = "steps.json"
MAX_STEPS = 200


class Steps(Record):
    """``steps.json``: the label maps by hash, oldest first, and which of them is the current one."""

    sha256: tuple[Sha256, ...]
    position: Annotated[int, Field(ge=0)]

    @property
    def undoable(self) -> int:
        """Steps before the current one."""
        return self.position

    @property
    def redoable(self) -> int:
        """Steps after the current one."""
        return len(self.sha256) - 1 - self.position


@dataclass(frozen=True, slots=True)
class History:
    """The steps of one package."""

    package: Path

    def steps(self, labels: UInt8) -> Steps:
        """The steps, such that the current one is ``labels`` (h, w), whatever else was done to the correction."""
        current = labels_sha256(labels)
        known = self._read()
        if known is None:
            return Steps(sha256=(current,), position=0)
        if known.sha256[known.position] == current:
            return known
        if current in known.sha256:
            return known.model_copy(update={"position": _last(known.sha256, current)})
        return _with(known, current)

    def add(self, before: UInt8, after: UInt8) -> Steps:
        """Note a step from one label map to another; what had been undone is given up."""
        start = self.steps(before)
        for labels in (before, after):
            self._keep(labels)
        steps = _with(start, labels_sha256(after))
        self.note(steps)
        for path in self._folder.glob("*.png"):
            if path.stem not in steps.sha256:
                path.unlink(missing_ok=True)
        return steps

    def at(self, steps: Steps, position: int, shape: tuple[int, ...]) -> UInt8 | None:
        """The label map of a step; None if it is gone or damaged."""
        try:
            labels: UInt8 = imagecodecs.png_decode(self._file(steps.sha256[position]).read_bytes())
        except (OSError, ValueError, RuntimeError):
            return None
        intact = labels.shape == shape and labels_sha256(labels) == steps.sha256[position]
        return labels if intact else None

    def note(self, steps: Steps) -> None:
        """Write ``steps.json``."""
        write_json(self._folder / STEPS_FILE, steps)

    @property
    def _folder(self) -> Path:
        return self.package / HISTORY_FOLDER

    def _file(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.png"

    def _keep(self, labels: UInt8) -> None:
        file = self._file(labels_sha256(labels))
        if not file.exists():
            write_atomic(file, encode_png(labels))

    def _read(self) -> Steps | None:
        try:
            steps = Steps.model_validate_json((self._folder / STEPS_FILE).read_bytes())
        except (OSError, ValidationError):
            return None
        return steps if steps.position < len(steps.sha256) else None


def _with(steps: Steps, sha256: str) -> Steps:
    """The steps up to the current one, and a new one."""
    kept = (*steps.sha256[: steps.position + 1], sha256)[-MAX_STEPS:]
    return Steps(sha256=kept, position=len(kept) - 1)


def _last(values: tuple[str, ...], value: str) -> int:
    return len(values) - 1 - values[::-1].index(value)
