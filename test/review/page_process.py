"""`python -m uga review` as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue

ROOT = Path(__file__).parents[2]


class PageProcess:
    """A page that is being served; its lines on stdout and stderr are kept."""

    def __init__(self, output: Path, *arguments: object) -> None:
        command = [sys.executable, "-m", "uga", "review", str(output), "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
        )
        self.lines: Queue[str] = Queue()
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.next_address()

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.address)[1])

    def next_address(self) -> str:
        """The next address that the page announces."""
        while True:
            try:
                line = self.lines.get(timeout=60)
            except Empty:
                raise AssertionError(f"no address was announced:\n{self.text}") from None
            if line.startswith("Open "):
                return line.removeprefix("Open ").strip()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.text += line
            self.lines.put(line)
