"""Entry point of the inference image: slides from /input, results to /output. See ``python process.py --help``."""

from uga.memory import configure_heap

configure_heap()  # before anything that follows starts a thread

import typer  # noqa: E402

from uga.cli.console import execute  # noqa: E402
from uga.cli.infer import infer  # noqa: E402
from uga.stopping import leave  # noqa: E402

app = typer.Typer(add_completion=False)
app.command()(infer)

if __name__ == "__main__":
    leave(execute(app))
