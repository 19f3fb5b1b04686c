"""Entry point of the fine-tune image: corrections in /input, a model to /output. See ``python finetune.py --help``."""

import typer

from uga.cli.console import execute
from uga.cli.finetune import finetune
from uga.stopping import leave

app = typer.Typer(add_completion=False)
app.command()(finetune)

if __name__ == "__main__":
    leave(execute(app))
