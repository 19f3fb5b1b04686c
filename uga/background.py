"""One thing computed while the next one is under way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType


class Background:
    """Does one call after another in a thread of its own, at most one behind; a context, left when all are done.

    What a call raises is raised by the next one, or at the end.

    Args:
        name: Of the thread.
        at_once: Have no thread, and do every call when it is made.
    """

    def __init__(self, name: str, *, at_once: bool = False) -> None:
        self._pool = None if at_once else ThreadPoolExecutor(1, thread_name_prefix=name)
        self._last: Future[None] | None = None

    def call(self, work: Callable[[], None]) -> None:
        """Starts ``work`` as soon as the call before it is done, and does not wait for its end."""
        self.wait()
        if self._pool is None:
            work()
        else:
            self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Waits for the last call."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._pool or nullcontext():
            if kind is None:
                self.wait()
