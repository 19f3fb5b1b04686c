"""``uga``: all commands."""

from __future__ import annotations

import typer

from uga.cli import model
from uga.cli.infer import infer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Uncertainty-guided annotation for whole-slide segmentation. Research use only.",
)
app.command()(infer)
app.add_typer(model.app, name="model")
