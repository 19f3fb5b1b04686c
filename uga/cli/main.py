"""``uga``: all commands."""

from __future__ import annotations

import typer

from uga.cli import model
from uga.cli.demo import demo
from uga.cli.infer import infer
from uga.cli.rank import rank

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Uncertainty-guided annotation for whole-slide segmentation. Research use only.",
)
app.command()(infer)
app.command()(rank)
app.command()(demo)
app.add_typer(model.app, name="model")
