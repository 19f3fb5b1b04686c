"""The corrections of a folder as one ZIP file, written while it is sent."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from uga.output.files import PARTIAL_SUFFIX
from uga.review.audit import AUDIT_FILE
from uga.review.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.review.queue import Entry
    from uga.review.store import ReviewStore

_ROOT = "corrections"


class _Pipe(io.RawIOBase):
    """Takes what is written and gives it away piece by piece; cannot seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def corrections_zip(store: ReviewStore) -> Iterator[bytes]:
    """The packages that teach something, whole, and the audit log; `uga finetune` takes the unpacked folder.

    Yields:
        The file in pieces of one package at most.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for entry in store.queue.entries.values():
            for name, data in _files(store, entry):
                archive.writestr(f"{_ROOT}/{entry.name}/{name}", data)
            yield pipe.take()
        log = store.queue.folder / AUDIT_FILE
        if log.is_file() and not log.is_symlink():
            archive.writestr(f"{_ROOT}/{AUDIT_FILE}", log.read_bytes())
    yield pipe.take()


def _files(store: ReviewStore, entry: Entry) -> list[tuple[str, bytes]]:
    """The files of a package that is corrected or confirmed, as they are at one moment; none of another."""
    with store.quiet():
        try:
            if store.standing(entry).state not in ("corrected", "confirmed"):
                return []
        except RefusedError:
            return []
        shown = (
            path
            for path in sorted(entry.folder.iterdir())
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        )
        return [(path.name, path.read_bytes()) for path in shown if path.suffix != PARTIAL_SUFFIX]
