"""Jobs for processes of their own; a module of its own, so that they do not import torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from uga.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def succeed(path: Path) -> None:
    """Leave a file."""
    path.touch()


def fail(_path: Path) -> None:
    """Fail by the user's request."""
    raise UserError("The batch is too large; make it smaller.")


def die(_path: Path) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def lack_memory(_path: Path) -> None:
    """Need more memory than there is."""
    raise MemoryError


def wait(path: Path) -> None:
    """Tell who waits, and wait."""
    path.write_text(str(os.getpid()))
    time.sleep(120)


def wait_with_child(pids: Path) -> None:
    """Tell who waits, and wait together with a child."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    pids.write_text(f"{os.getpid()} {child.pid}")
    time.sleep(120)
