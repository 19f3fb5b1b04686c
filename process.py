"""Entry point of the inference image: slides from /input, results to /output. See ``python process.py --help``."""

import typer

from uga.cli.console import execute
from uga.cli.infer import infer
from uga.stopping import leave

app = typer.Typer(add_completion=False)
app.command()(infer)

if __name__ == "__main__":
    leave(execute(app))
