"""``uga``: all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from uga import __version__
from uga.cli import model
from uga.cli.demo import demo
from uga.cli.doctor import doctor
from uga.cli.evaluate import evaluate
from uga.cli.export_patches import export_patches
from uga.cli.finetune import finetune
from uga.cli.infer import infer
from uga.cli.rank import rank
from uga.cli.review import review
from uga.cli.simulate import simulate
from uga.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Uncertainty-guided annotation for whole-slide segmentation. Research use only.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"uga {__version__}")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(infer)
app.command()(rank)
app.command()(export_patches)
app.command()(review)
app.command()(evaluate)
app.command()(demo)
app.command()(train)
app.command()(finetune)
app.command()(simulate)
app.command()(doctor)
app.add_typer(model.app, name="model")
