"""``python -m uga``."""

from uga.memory import configure_heap

configure_heap()  # before anything that follows starts a thread

from uga.cli.console import execute  # noqa: E402
from uga.cli.main import app  # noqa: E402
from uga.stopping import leave  # noqa: E402

leave(execute(app))
