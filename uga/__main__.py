"""``python -m uga``."""

import sys

from uga.memory import keep_one_heap

keep_one_heap()  # before anything that follows starts a thread

from uga.cli.console import execute  # noqa: E402
from uga.cli.main import app  # noqa: E402

sys.exit(execute(app))
