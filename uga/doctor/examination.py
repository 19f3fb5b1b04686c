"""All checks, in the order in which one depends on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.doctor.finding import Verdict, guarded
from uga.doctor.packages import check_packages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.doctor.finding import Finding
    from uga.model.choices import DeviceChoice


@dataclass(frozen=True, slots=True)
class Request:
    """What to examine.

    Attributes:
        model: Model folder.
        device: Where a run would compute.
        slides: Input folder of a run, or None.
        output: Output folder of a run; None tries the folder for temporary files.
        mpp: Pixel size of the slides in um/px in place of the files' own.
    """

    model: Path
    device: DeviceChoice = "auto"
    slides: Path | None = None
    output: Path | None = None
    mpp: float | None = None


def examine(request: Request) -> Iterator[Finding]:
    """Tries one thing after another and tells what it found; raises nothing that a check raises."""
    sound = True
    for finding in check_packages():
        sound = sound and finding.verdict is not Verdict.FAILED
        yield finding
    if sound:  # what follows needs all of them
        yield from guarded("installation", _with_packages(request))


def _with_packages(request: Request) -> Iterator[Finding]:
    # Only now: with a package broken these could not be imported.
    import torch  # noqa: PLC0415

    from uga.doctor.machine import check_devices, check_files, check_memory, check_processor  # noqa: PLC0415
    from uga.doctor.work import Trial  # noqa: PLC0415
    from uga.model.gpus import find_gpus  # noqa: PLC0415

    yield from guarded("processor", check_processor())
    yield from guarded("memory", check_memory())
    yield from guarded("devices", check_devices(request.device))
    yield from guarded("files", check_files(request.output))
    gpus = () if request.device == "cpu" else find_gpus().usable
    trial = Trial(request.model, torch.device(next(iter(gpus), "cpu")))
    yield from guarded("model", trial.check_model())
    if request.slides is not None:
        yield from guarded("slides", trial.check_slides(request.slides, request.mpp, output=request.output))
