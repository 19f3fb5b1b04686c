"""What reviewers do to patches, kept on disk: label maps, decisions, steps to undo, the audit log.

Everything is written atomically: the steps first, which may be ahead of the label map; then ``patch.json``, which says
``started`` before the first changed label map is written, and ``corrected`` only after it, so that no crash leaves half
a correction that looks accepted; the log last. Whoever saves names the version that was shown; if somebody else has
saved another one by now, nothing is written.
"""

from __future__ import annotations

import fcntl
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

from uga.corrections.refusals import Refusals
from uga.output.files import sha256_file, write_atomic, write_json
from uga.output.package import RECORD_FILE
from uga.output.schema import NOT_JUDGED, Review
from uga.review.audit import AUDIT_FILE, AuditLine, append, last_of
from uga.review.change import Asked, Change
from uga.review.history import History
from uga.review.labelmap import encode_png, labels_sha256
from uga.review.queue import standing
from uga.review.refused import RefusedError, unusable, unwritable
from uga.review.sheet import read_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.corrections.package import Package
    from uga.review.history import Steps
    from uga.review.queue import Entry, Queue, Standing, State
    from uga.review.sheet import Sheet

    UInt8 = NDArray[np.uint8]

log = logging.getLogger(__name__)

Decision = Literal["accept", "skip", "reopen"]
_T = TypeVar("_T")


class ConflictError(RefusedError):
    """Somebody else has saved the patch since it was shown; ``sheet`` is how it stands now."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(HTTPStatus.CONFLICT, "conflict", "The patch was saved by somebody else; nothing was changed.")
        self.sheet = sheet


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What a change leads to, and what writes it and gives the steps then."""

    labels: UInt8
    state: State
    write: Callable[[], Steps]


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
        return self._told(entry, partial(read_sheet, entry, verify=verify))

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

        def plan(sheet: Sheet) -> _Plan | None:
            if np.array_equal(labels, sheet.labels):
                return None

            def write() -> Steps:
                steps = History(sheet.package.folder).add(sheet.labels, labels)
                _write_labels(sheet.package, reviewer, labels)
                return steps

            return _Plan(labels, "started", write)

        return self._change(entry, Asked(base, reviewer, "edit", labels_sha256(labels)), plan)

    def step(self, entry: Entry, base: str, reviewer: str, direction: Literal["undo", "redo"]) -> Sheet:
        """Go one step back, or forth again.

        Raises:
            ConflictError: ``base`` is not the version on disk.
            RefusedError: there is no such step; or as `sheet`.
        """

        def plan(sheet: Sheet) -> _Plan:
            history, position = History(sheet.package.folder), sheet.steps.position + (-1 if direction == "undo" else 1)
            possible = 0 <= position < len(sheet.steps.sha256)
            labels = history.at(sheet.steps, position, sheet.labels.shape) if possible else None
            if labels is None:
                raise RefusedError(HTTPStatus.CONFLICT, "no-step", f"There is nothing to {direction}.")

            def write() -> Steps:
                steps = sheet.steps.model_copy(update={"position": position})
                history.note(steps)
                _write_labels(sheet.package, reviewer, labels)
                return steps

            return _Plan(labels, "started", write)

        return self._change(entry, Asked(base, reviewer, direction), plan)

    def decide(self, entry: Entry, base: str, reviewer: str, decision: Decision) -> Sheet:
        """Accept a patch (corrected, or confirmed if it is as predicted), skip it, or take the decision back.

        Raises:
            ConflictError: ``base`` is not the version on disk.
            RefusedError: nothing is judged in a patch that is accepted; or as `sheet`.
        """

        def plan(sheet: Sheet) -> _Plan:
            state = _decided(sheet, decision)

            def write() -> Steps:
                _write_decision(sheet, decision, reviewer)
                return sheet.steps

            return _Plan(sheet.labels, state, write)

        return self._change(entry, Asked(base, reviewer, decision), plan)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is written inside the block, by this or another process."""
        with self._lock, _folder_lock(self.queue.folder):
            yield

    def _change(self, entry: Entry, asked: Asked, plan: Callable[[Sheet], _Plan | None]) -> Sheet:
        """Do what is asked for, once: if it is asked for again, as the answer was lost, it is found done."""
        with self.quiet():
            sheet = self._told(entry, partial(read_sheet, entry))
            self._standings.pop(entry.id, None)
            try:
                if sheet.version != asked.base and _is_done(sheet, asked):
                    self._log(entry, asked, sheet, again=True)
                    return sheet
                planned = plan(sheet)
                if planned is None:
                    return sheet
                _begun(asked, sheet, planned).note(entry.folder)
                steps = planned.write()
                sheet = sheet.after(entry.read(), planned.labels, steps)
                self._log(entry, asked, sheet)
            except OSError as error:
                sentence = f"{entry.name} cannot be written ({error.strerror}); make room, or check rights."
                raise unwritable(sentence) from error
            return sheet

    def _log(self, entry: Entry, asked: Asked, sheet: Sheet, *, again: bool = False) -> None:
        """Add what was done to the log; ``again``: unless it is there."""
        file = self.queue.folder / AUDIT_FILE
        line = AuditLine(
            at=_now(),
            reviewer=asked.reviewer,
            action=asked.action,
            state=sheet.standing.state,
            slide=entry.record.slide.id,
            patch=entry.name,
            labels_sha256=labels_sha256(sheet.labels),
            changed_px=int((sheet.labels != sheet.prediction).sum()),
        )
        if not (again and line.is_like(last_of(file, entry.name))):
            append(file, line)

    def _told(self, entry: Entry, function: Callable[[], _T]) -> _T:
        """The function's value; what keeps a package from being read is told with paths from the folder on."""
        refusals = Refusals(self.queue.folder)
        value = refusals.attempt(entry.folder, function)
        if value is None:
            raise unusable(refusals.noted[-1].reason)
        return value


def _is_done(sheet: Sheet, asked: Asked) -> bool:
    """Whether what is asked for on another version than the one on disk was done; False if it was only begun.

    Raises:
        ConflictError: somebody else has saved.
    """
    last, current = Change.last(sheet.package.folder), labels_sha256(sheet.labels)
    if last is not None and last.is_of(asked):
        if last.is_done(current, sheet.standing.state):
            return True
        if last.is_half_done(current):
            return False
    raise ConflictError(sheet)


def _begun(asked: Asked, sheet: Sheet, planned: _Plan) -> Change:
    return Change(
        base=asked.base,
        reviewer=asked.reviewer,
        action=asked.action,
        before_sha256=labels_sha256(sheet.labels),
        labels_sha256=labels_sha256(planned.labels),
        state=planned.state,
    )


def _decided(sheet: Sheet, decision: Decision) -> State:
    """The state that a decision leads to.

    Raises:
        RefusedError: nothing is judged in a patch that is accepted.
    """
    if decision == "skip":
        return "skipped"
    if decision == "reopen":
        return "started" if sheet.package.correction_file.is_file() else _untouched(sheet.package)
    if (sheet.labels == NOT_JUDGED).all():
        raise RefusedError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "nothing-judged", "Nothing in the patch is judged; skip it instead."
        )
    return "confirmed" if np.array_equal(sheet.labels, sheet.prediction) else "corrected"


def _untouched(package: Package) -> State:
    """The state of a package without a review."""
    return standing(replace(package, record=package.record.model_copy(update={"review": None}))).state


def _write_decision(sheet: Sheet, decision: Decision, reviewer: str) -> None:
    package = sheet.package
    if decision == "accept":
        _write_acceptance(sheet, reviewer)
    elif decision == "skip":
        _write_review(package, _review(package, "skipped", reviewer))
    else:
        started = package.correction_file.is_file()
        _write_review(package, _review(package, "started", reviewer) if started else None)


def _write_acceptance(sheet: Sheet, reviewer: str) -> None:
    """Write that a patch is accepted, after its label map if that was read from elsewhere so far."""
    package, file = sheet.package, sheet.package.correction_file
    as_predicted = np.array_equal(sheet.labels, sheet.prediction)
    is_first = not as_predicted and not file.is_file()
    if is_first:
        write_atomic(file, encode_png(sheet.labels))
    try:
        review = _review(package, "confirmed" if as_predicted else "corrected", reviewer)
        superseded = (review.superseded or {}) | {path.name: sha256_file(path) for path in sheet.drawn}
        accepted = sha256_file(file) if file.is_file() else None
        changed = {"correction_sha256": accepted, "superseded": superseded or None}
        _write_review(package, review.model_copy(update=changed))
    except OSError:
        if is_first:
            with suppress(OSError):  # so that the next try finds the version it names
                file.unlink()
        raise


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
