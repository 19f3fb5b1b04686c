"""``uga review``: the reviewer's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uga.model.lookup import PLATFORM_MODEL, SHIPPED_MODEL


def review(
    output: Annotated[
        Path,
        typer.Argument(help="Output folder of `uga infer` (one slide or several), `uga rank` or `uga export-patches`."),
    ],
    *,
    slides: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_SLIDES",
            help="Folder with the slides, to see the tissue around a patch.",
            show_default="patches alone",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(envvar="UGA_PORT", help="TCP port; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    host: Annotated[
        str, typer.Option(envvar="UGA_HOST", help="Address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name under which the page may be opened too, such as a proxy's; may be repeated."),
    ] = None,
    token: Annotated[
        bool,
        typer.Option("--token/--no-token", help="Whether a browser needs the one-time token."),
    ] = True,
    model: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_MODEL",
            help="Model folder of the run, for the `finetune` command that the page shows.",
            show_default="as `uga infer`",
        ),
    ] = None,
) -> None:
    """Correct ranked patches in a browser: paint, confirm, skip. Ctrl+C ends it; everything is saved as it is done.

    Shows an address with a token that lets one browser in; after each use it shows the next. Writes correction.png and
    the decision into the packages, and who did what and when into OUTPUT/reviews.jsonl. `uga finetune` takes OUTPUT as
    it is. docs/reviewing.md has all of it.
    """
    from uga.review.server import ReviewRequest  # noqa: PLC0415 - --help should not wait for the libraries
    from uga.review.server import review as run  # noqa: PLC0415

    models = (PLATFORM_MODEL, SHIPPED_MODEL) if model is None else (model,)
    run(ReviewRequest(output, slides, models, host, port, tuple(name or ()), with_token=token))
