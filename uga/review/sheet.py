"""A patch as it lies before a reviewer: the labels that count, where they are from, and the identity of all that."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from uga.corrections.correcting import correcting_files, predicted_labels, read_file
from uga.corrections.predictor import RecordedPredictor
from uga.corrections.refusals import Refusals
from uga.output.package import RECORD_FILE
from uga.review.history import History
from uga.review.queue import standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.correcting import Reading
    from uga.corrections.package import Package
    from uga.review.history import Steps
    from uga.review.queue import Entry, Standing

    UInt8 = NDArray[np.uint8]

_VERSION_DIGITS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A patch as it lies before a reviewer.

    Attributes:
        package: Its package.
        version: Identity of label map and decision on disk.
        standing: What has become of it.
        labels: The label map that counts, uint8 (h, w).
        prediction: What the model predicted, uint8 (h, w).
        steps: What can be undone and redone.
        source: The file of another tool that the labels are from, if they are.
        drawn: Files of other tools that say something else than the prediction, with what they say, None where that
            cannot be read. Accepting takes their place.
    """

    package: Package
    version: str
    standing: Standing
    labels: UInt8
    prediction: UInt8
    steps: Steps
    source: Path | None
    drawn: Mapping[Path, Reading | None]

    @property
    def differing(self) -> list[Path]:
        """Files of other tools that say something else than what is shown."""
        read = self.drawn.items()
        return [path for path, reading in read if reading is None or not np.array_equal(reading.labels, self.labels)]

    def after(self, package: Package, labels: UInt8, steps: Steps) -> Sheet:
        """The patch once its package was changed; files of other tools are not read again."""
        files = [path for path in self.drawn if not package.supersedes(path)]
        return replace(
            self,
            package=package,
            version=_version(package, files),
            standing=standing(package),
            labels=labels,
            steps=steps,
            source=None if package.correction_file.is_file() else self.source,
            drawn={path: self.drawn[path] for path in files},
        )


def read_sheet(entry: Entry, *, verify: bool = False) -> Sheet:
    """A patch as it is now.

    Args:
        entry: The patch.
        verify: Whether to check that its picture is the one that was exported.

    Raises:
        UserError: the package cannot be reviewed.
    """
    package = entry.read()
    predictor = RecordedPredictor(package.record)
    if verify:
        package.verify(predictor)
    prediction = predicted_labels(package, predictor)
    files = [*correcting_files(package, Refusals(entry.folder)), *(path for path in entry.beside if path.is_file())]
    files = [path for path in files if path != package.correction_file and not package.supersedes(path)]
    state = _version(package, files)
    drawn = {path: _reading(package, path) for path in files}
    drawn = {path: reading for path, reading in drawn.items() if reading is None or reading.changes(prediction)}
    usable = [reading for reading in drawn.values() if reading is not None]
    source = None
    if package.correction_file.is_file():
        labels = package.read_labels(package.correction_file, predictor)
    elif usable:
        labels, source = usable[0].labels, usable[0].source
    else:
        labels = prediction
    sheet = Sheet(
        package=package,
        version=_version(package, list(drawn)),
        standing=standing(package),
        labels=labels,
        prediction=prediction,
        steps=History(package.folder).steps(labels),
        source=source,
        drawn=drawn,
    )
    # Where another reviewer saved meanwhile, the labels may be of before and the version of after: whoever has both
    # could paint over that without being told.
    return sheet if _version(package, files) == state else read_sheet(entry, verify=verify)


def _reading(package: Package, path: Path) -> Reading | None:
    return Refusals(package.folder).attempt(path, partial(read_file, package, path, RecordedPredictor(package.record)))


def _version(package: Package, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in (package.folder / RECORD_FILE, package.correction_file, *files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:_VERSION_DIGITS]
