"""Files that appear whole or not at all.

Everything is written as ``<name>.partial`` beside its final place, flushed to disk, then renamed; a killed run
leaves only ``*.partial`` names, which `remove_partials` clears away.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from typing import TYPE_CHECKING

from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import BaseModel

log = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
_CHUNK_BYTES = 1 << 20


def partial_path(path: Path) -> Path:
    """The name ``path`` has while it is being written."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def check_writable(folder: Path, remedy: str) -> None:
    """Make a folder if it is missing, and try to write in it, before hours are spent on what goes there.

    Args:
        folder: Of the outputs.
        remedy: What the user can do, as the end of the sentence.

    Raises:
        UserError: it cannot be written.
    """
    probe = partial_path(folder / ".uga-write-test")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.unlink(missing_ok=True)  # a link of that name would be followed
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be written ({error.strerror}); {remedy}.") from error


def sync(path: Path) -> None:
    """Flush a file, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(partial: Path, path: Path) -> None:
    """Flush ``partial`` to disk and give it its final name; an older file of that name is replaced."""
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def write_atomic(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write a file so that it is seen complete or not at all.

    Args:
        path: Final name; missing parent folders are made.
        content: The bytes, or a function that writes the file at the path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    partial.unlink(missing_ok=True)  # a link of that name would be followed
    try:
        if callable(content):
            content(partial)
        else:
            partial.write_bytes(content)
        commit(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, model: BaseModel) -> None:
    """Write a record as indented UTF-8 JSON, atomically; None fields are left out."""
    write_atomic(path, (model.model_dump_json(indent=2, exclude_none=True) + "\n").encode())


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def remove_partials(folder: Path) -> list[Path]:
    """Remove what a killed run left unfinished below ``folder``; links are not followed.

    Returns:
        The ``*.partial`` files and folders removed, sorted.
    """
    found = sorted(path for path in folder.rglob(f"*{PARTIAL_SUFFIX}"))
    for path in found:
        log.info("removing the unfinished %s of an earlier run", path.name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found
