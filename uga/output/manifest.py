"""The manifest of a finished output folder, and whether a folder can be kept as it is."""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uga import __version__
from uga.errors import UserError
from uga.model.arithmetic import has_openvino
from uga.output.files import PARTIAL_SUFFIX, remove_partials, sha256_file, write_json
from uga.output.package import ANNOTATION_FILE, PACKAGES_FOLDER, RECORD_FILE, holds_correction, work_beside
from uga.output.schema import Manifest, OutputRecord, RunIdentity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from uga.output.schema import ComputationRecord

log = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"
_PACKAGES = ("torch", "nnunetv2", "numpy", "openslide-python", "tifffile", "imagecodecs", "opencv-python-headless")


def installed_versions() -> dict[str, str]:
    """Versions of Python, UGA and the packages that decide the pixels."""
    found = {"python": python_version(), "uga": __version__, **{name: version(name) for name in _PACKAGES}}
    return found | {"openvino": version("openvino")} if has_openvino() else found


def write_manifest(
    folder: Path,
    identity: RunIdentity,
    *,
    started: datetime,
    timings_s: Mapping[str, float],
    peak_memory_bytes: int,
    computation: ComputationRecord,
    outputs: Iterable[Path] | None = None,
) -> Manifest:
    """Hash the outputs and write ``manifest.json``; to be called when everything else is in place.

    Args:
        folder: Output folder of one slide.
        identity: What decided the result.
        started: When the run began, with time zone.
        timings_s: Seconds per stage.
        peak_memory_bytes: Largest resident memory of the process.
        computation: What computed the networks.
        outputs: The files to list; all files below ``folder`` if None.
    """
    files = _all_files(folder) if outputs is None else sorted(outputs)
    manifest = Manifest(
        **identity.model_dump(),
        versions=installed_versions(),
        computation=computation,
        started=started.astimezone(UTC),
        finished=datetime.now(UTC),
        timings_s=dict(timings_s),
        peak_memory_bytes=peak_memory_bytes,
        outputs=tuple(
            OutputRecord(
                path=file.relative_to(folder).as_posix(), size_bytes=file.stat().st_size, sha256=sha256_file(file)
            )
            for file in files
        ),
    )
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None if there is none or it is not one of ours."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        log.warning("%s cannot be read, so the slide is processed again: %s", folder / MANIFEST_FILE, error)
        return None


def is_complete(folder: Path, expected: RunIdentity, *, check_hashes: bool = False) -> bool:
    """Whether ``folder`` holds the whole result of a run like ``expected``.

    An ``annotation.geojson`` that a clinician has changed since, or a review, does not make a folder incomplete.

    Args:
        folder: Output folder of one slide.
        expected: The run that is about to start.
        check_hashes: Also compare the content of every file, not only its size.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    fields = set(RunIdentity.model_fields)
    if manifest.model_dump(mode="json", include=fields) != expected.model_dump(mode="json"):
        return False
    return all(_is_intact(folder / output.path, output, check_hashes=check_hashes) for output in manifest.outputs)


def clear_outputs(folder: Path) -> None:
    """Make room for a new run: remove the manifest first, then what it lists, packages and unfinished files.

    Raises:
        UserError: A package holds a correction; nothing has been removed then.
    """
    packages = sorted(record.parent for record in (folder / PACKAGES_FOLDER).glob(f"*/{RECORD_FILE}"))
    for package in packages:
        if holds_correction(package) or work_beside(package):
            raise UserError(
                f"{package} holds a correction that a new run would overwrite; "
                "move it to a safe place or choose another output folder."
            )
    manifest = read_manifest(folder)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    for package in packages:
        shutil.rmtree(package, ignore_errors=True)
    listed = [folder / output.path for output in manifest.outputs] if manifest is not None else []
    discard(folder, [*listed, *(package / RECORD_FILE for package in packages)])


def discard(folder: Path, files: Collection[Path]) -> None:
    """Remove files below ``folder``, what a killed run left unfinished there, and the folders that are empty then."""
    for file in files:
        file.unlink(missing_ok=True)
    remove_partials(folder)
    above = {folder / parent for file in files for parent in file.relative_to(folder).parents} - {folder}
    for place in sorted(above, key=lambda place: len(place.parts), reverse=True):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _all_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != PARTIAL_SUFFIX and path != folder / MANIFEST_FILE
    )


def _is_intact(file: Path, output: OutputRecord, *, check_hashes: bool) -> bool:
    if not file.is_file():
        return False
    if file.name in (ANNOTATION_FILE, RECORD_FILE):  # the latter takes the review
        return True
    if file.stat().st_size != output.size_bytes:
        return False
    return not check_hashes or sha256_file(file) == output.sha256
