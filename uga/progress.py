"""Progress of long work as log lines with an estimate of the time left."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

_INTERVAL_S = 5.0


class ProgressLog:
    """Logs how much of ``title`` is done, at most every few seconds; call it with done and total."""

    def __init__(self, title: str, *, unit: str = "windows") -> None:
        self._title = title
        self._unit = unit
        self._start = time.monotonic()
        self._last = self._start

    def __call__(self, done: int, total: int) -> None:
        """Reports ``done`` of ``total``."""
        now = time.monotonic()
        if done < total and now - self._last < _INTERVAL_S:
            return
        self._last = now
        spent = now - self._start
        left = f"{duration(spent / done * (total - done))} left" if done < total else f"took {duration(spent)}"
        log.info("%s: %d of %d %s (%.0f %%), %s", self._title, done, total, self._unit, 100 * done / total, left)


def duration(seconds: float) -> str:
    """A time span for people: ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
