"""What reviewers do to patches, kept on disk: label maps, decisions, steps to undo, the audit log.

Everything is written atomically. ``patch.json`` says ``started`` before the first changed label map is written, and
says ``corrected`` only after it, so that no crash leaves half a correction that looks accepted. Whoever saves names the
version that was shown; if another one is on disk by now, nothing is written.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from uga.corrections.correcting import correcting_files, predicted_labels, read_file
from uga.corrections.predictor import RecordedPredictor
from uga.corrections.refusals import Refusals
from uga.output.files import sha256_file, write_atomic, write_json
from uga.output.package import RECORD_FILE
from uga.output.schema import NOT_JUDGED, Review
from uga.review.audit import AUDIT_FILE, AuditLine, append
from uga.review.history import History
from uga.review.labelmap import encode_png, labels_sha256
from uga.review.queue import standing
from uga.review.refused import RefusedError, unusable, unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.correcting import Reading
    from uga.corrections.package import Package
    from uga.review.audit import Action
    from uga.review.history import Steps
    from uga.review.queue import Entry, Queue, Standing

    UInt8 = NDArray[np.uint8]

log = logging.getLogger(__name__)

Decision = Literal["accept", "skip", "reopen"]
_T = TypeVar("_T")
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


class ConflictError(RefusedError):
    """Somebody else has saved the patch since it was shown; ``sheet`` is how it stands now."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(HTTPStatus.CONFLICT, "conflict", "The patch was saved by somebody else; nothing was changed.")
        self.sheet = sheet


@dataclass
class ReviewStore:
    """Reads and writes the packages of a queue; safe to use from several threads and processes."""

    queue: Queue
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _standings: dict[str, tuple[str, Standing]] = field(default_factory=dict)

    def sheet(self, entry: Entry, *, verify: bool = True) -> Sheet:
        """A patch as it is now.

        Args:
            entry: The patch.
            verify: Whether to check that its picture is the one that was exported.

        Raises:
            RefusedError: the package cannot be reviewed; the sentence says why.
        """
        return self._told(entry, partial(_sheet, entry, verify=verify))

    def standing(self, entry: Entry) -> Standing:
        """What has become of a patch; cheap where nothing was touched since it was last asked for.

        Raises:
            RefusedError: as `sheet`.
        """
        stamp = entry.stamp()
        known = self._standings.get(entry.id)
        if known is None or known[0] != stamp:
            known = stamp, self._told(entry, lambda: standing(entry.read()))
            self._standings[entry.id] = known
        return known[1]

    def save(self, entry: Entry, base: str, reviewer: str, labels: UInt8) -> Sheet:
        """Save a changed label map (h, w) of label values and `NOT_JUDGED`; the patch is ``started`` then.

        Raises:
            ConflictError: ``base`` is not the version on disk.
            RefusedError: it cannot be written; or as `sheet`.
        """
        with self._exclusive(entry, base) as sheet:
            if np.array_equal(labels, sheet.labels):
                return sheet
            _write_labels(sheet.package, reviewer, labels)
            steps = History(sheet.package.folder).add(sheet.labels, labels)
            return self._note(entry, reviewer, "edit", sheet, labels, steps)

    def step(self, entry: Entry, base: str, reviewer: str, direction: Literal["undo", "redo"]) -> Sheet:
        """Go one step back, or forth again.

        Raises:
            ConflictError: ``base`` is not the version on disk.
            RefusedError: there is no such step; or as `sheet`.
        """
        with self._exclusive(entry, base) as sheet:
            history, position = History(sheet.package.folder), sheet.steps.position + (-1 if direction == "undo" else 1)
            possible = 0 <= position < len(sheet.steps.sha256)
            labels = history.at(sheet.steps, position, sheet.labels.shape) if possible else None
            if labels is None:
                raise RefusedError(HTTPStatus.CONFLICT, "no-step", f"There is nothing to {direction}.")
            _write_labels(sheet.package, reviewer, labels)
            steps = sheet.steps.model_copy(update={"position": position})
            history.note(steps)
            return self._note(entry, reviewer, direction, sheet, labels, steps)

    def decide(self, entry: Entry, base: str, reviewer: str, decision: Decision) -> Sheet:
        """Accept a patch (corrected, or confirmed if it is as predicted), skip it, or take the decision back.

        Raises:
            ConflictError: ``base`` is not the version on disk.
            RefusedError: nothing is judged in a patch that is accepted; or as `sheet`.
        """
        with self._exclusive(entry, base) as sheet:
            package = sheet.package
            if decision == "accept":
                _write_review(package, _acceptance(sheet, reviewer))
            elif decision == "skip":
                _write_review(package, _review(package, "skipped", reviewer))
            else:
                started = package.correction_file.is_file()
                _write_review(package, _review(package, "started", reviewer) if started else None)
            return self._note(entry, reviewer, decision, sheet, sheet.labels, sheet.steps)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is written inside the block, by this or another process."""
        with self._lock, _folder_lock(self.queue.folder):
            yield

    @contextmanager
    def _exclusive(self, entry: Entry, base: str) -> Iterator[Sheet]:
        with self.quiet():
            sheet = self._told(entry, partial(_sheet, entry))
            if sheet.version != base:
                raise ConflictError(sheet)
            self._standings.pop(entry.id, None)
            try:
                yield sheet
            except OSError as error:
                sentence = f"{entry.name} cannot be written ({error.strerror}); make room, or check rights."
                raise unwritable(sentence) from error

    def _note(self, entry: Entry, reviewer: str, action: Action, before: Sheet, labels: UInt8, steps: Steps) -> Sheet:
        """Add what was done to the log; returns the patch as it is now."""
        package = entry.read()
        files = [path for path in before.drawn if not package.supersedes(path)]
        sheet = replace(
            before,
            package=package,
            version=_version(package, files),
            standing=standing(package),
            labels=labels,
            steps=steps,
            source=None if package.correction_file.is_file() else before.source,
            drawn={path: before.drawn[path] for path in files},
        )
        line = AuditLine(
            at=_now(),
            reviewer=reviewer,
            action=action,
            state=sheet.standing.state,
            slide=entry.record.slide.id,
            patch=entry.name,
            labels_sha256=labels_sha256(labels),
            changed_px=int((labels != sheet.prediction).sum()),
        )
        append(self.queue.folder / AUDIT_FILE, line)
        return sheet

    def _told(self, entry: Entry, function: Callable[[], _T]) -> _T:
        """The function's value; what keeps a package from being read is told with paths from the folder on."""
        refusals = Refusals(self.queue.folder)
        value = refusals.attempt(entry.folder, function)
        if value is None:
            raise unusable(refusals.noted[-1].reason)
        return value


def _sheet(entry: Entry, *, verify: bool = False) -> Sheet:
    package = entry.read()
    predictor = RecordedPredictor(package.record)
    if verify:
        package.verify(predictor)
    prediction = predicted_labels(package, predictor)
    files = [*correcting_files(package, Refusals(entry.folder)), *(path for path in entry.beside if path.is_file())]
    files = [path for path in files if path != package.correction_file and not package.supersedes(path)]
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
    return Sheet(
        package=package,
        version=_version(package, list(drawn)),
        standing=standing(package),
        labels=labels,
        prediction=prediction,
        steps=History(package.folder).steps(labels),
        source=source,
        drawn=drawn,
    )


def _reading(package: Package, path: Path) -> Reading | None:
    return Refusals(package.folder).attempt(path, partial(read_file, package, path, RecordedPredictor(package.record)))


def _version(package: Package, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in (package.folder / RECORD_FILE, package.correction_file, *files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:_VERSION_DIGITS]


def _acceptance(sheet: Sheet, reviewer: str) -> Review:
    """The review of a patch that is accepted; its label map is written if it was read from elsewhere so far."""
    package, file = sheet.package, sheet.package.correction_file
    if (sheet.labels == NOT_JUDGED).all():
        raise RefusedError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "nothing-judged", "Nothing in the patch is judged; skip it instead."
        )
    as_predicted = np.array_equal(sheet.labels, sheet.prediction)
    if not as_predicted and not file.is_file():
        write_atomic(file, encode_png(sheet.labels))
    review = _review(package, "confirmed" if as_predicted else "corrected", reviewer)
    superseded = (review.superseded or {}) | {path.name: sha256_file(path) for path in sheet.drawn}
    accepted = sha256_file(file) if file.is_file() else None
    return review.model_copy(update={"correction_sha256": accepted, "superseded": superseded or None})


def _write_labels(package: Package, reviewer: str, labels: UInt8) -> None:
    _write_review(package, _review(package, "started", reviewer))
    try:
        write_atomic(package.correction_file, encode_png(labels))
    except OSError:
        with suppress(OSError):  # so that the next try finds the version it names
            _write_review(package, package.record.review)
        raise


def _review(package: Package, state: Literal["started", "corrected", "confirmed", "skipped"], reviewer: str) -> Review:
    before = package.record.review
    superseded = None if before is None else before.superseded
    return Review(state=state, reviewer=reviewer, at=_now(), superseded=superseded)


def _write_review(package: Package, review: Review | None) -> None:
    write_json(package.folder / RECORD_FILE, package.record.model_copy(update={"review": review}))


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing; where the file system has no locks, one process is all that is safe."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s cannot be locked (%s); start one `uga review` on it at a time.", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def _now() -> datetime:
    return datetime.now(UTC)
