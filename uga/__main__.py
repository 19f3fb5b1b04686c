"""``python -m uga``."""

import sys

from uga.cli.console import execute
from uga.cli.main import app

sys.exit(execute(app))
