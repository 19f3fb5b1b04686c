"""``uga doctor``: try the machine before a run."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from uga.errors import UserError
from uga.model.choices import DeviceChoice
from uga.model.lookup import find_model

log = logging.getLogger(__name__)


def doctor(
    *,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with slides to open, as `uga infer` would.", show_default="no slides"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder that results will go to; made if missing.", show_default="the temporary folder"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(envvar="UGA_MODEL", help="Model folder.", show_default="as `uga infer`")
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(envvar="UGA_DEVICE", help="Where the networks run.")] = "auto",
    mpp: Annotated[
        float | None,
        typer.Option(envvar="UGA_MPP", help="Pixel size of the slides in um/px, where files lack it or are wrong."),
    ] = None,
) -> None:
    """Try everything that a run needs, and say how long slides will take here.

    Imports the packages; looks at processors, memory and GPUs, and at what a container may use of them; writes a map
    and reads it back; verifies the model and times its networks; opens the slides and counts their windows. Nothing is
    kept. Each line begins with ok, note (it works, but worse than it could) or FAILED.

    Exit codes: 0 nothing failed, 2 something did.
    """
    from uga.doctor import Request, Verdict, examine  # noqa: PLC0415 - --help should not wait

    counts: Counter[Verdict] = Counter()
    for finding in examine(Request(find_model(model), device, input_, output, mpp)):
        counts[finding.verdict] += 1
        log.info("%-6s  %s", finding.verdict, finding.sentence)
    if counts[Verdict.FAILED]:
        raise UserError(f"{counts[Verdict.FAILED]} check(s) failed; the lines marked {Verdict.FAILED} say what to do.")
    log.info("All checks passed, with %d note(s).", counts[Verdict.NOTE])
