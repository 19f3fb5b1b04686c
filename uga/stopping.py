"""How processes end. SIGTERM and SIGINT end a run in order: what is half written goes, one sentence stays.

A platform whose time limit is over sends SIGTERM and kills a few seconds later. As the first process of a container,
Python would not even see a signal that it has no handler for.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SHELL_OFFSET = 128


class Stopped(BaseException):
    """Somebody asked the run to end; no `Exception`, so that nobody takes it for the failure of one slide."""

    def __init__(self, number: int) -> None:
        self.exit_code = _SHELL_OFFSET + number
        self.signal_name = signal.Signals(number).name
        super().__init__(f"Stopped by {self.signal_name}; unfinished outputs were removed, start the run again.")


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raises `Stopped` in the main thread when the first signal comes; a second one ends the process at once.

    Processes forked inside the block keep the usual behaviour. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """Ends the process as soon as all that was registered for its end is done.

    Python's own way goes on to take every library apart. That takes torch a second, which a stopped run may not have,
    and has been seen to end in a segmentation fault: a run that had done all its work would be taken for a failure.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
