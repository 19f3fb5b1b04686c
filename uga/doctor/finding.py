"""What an examination found, sentence by sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uga.errors import UgaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Verdict(StrEnum):
    """Whether UGA can work with what was found."""

    FINE = "ok"
    NOTE = "note"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried; the sentence of a failure names the remedy."""

    verdict: Verdict
    sentence: str


def fine(sentence: str) -> Finding:
    """It works."""
    return Finding(Verdict.FINE, sentence)


def note(sentence: str) -> Finding:
    """It works, but worse than it could."""
    return Finding(Verdict.NOTE, sentence)


def failed(sentence: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.FAILED, sentence)


def guarded(what: str, check: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of a check; whatever it raises is one more, so that the checks after it are made all the same."""
    try:
        yield from check
    except UgaError as error:
        yield failed(str(error))
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        yield failed(f"{what}: {type(error).__name__}: {error}")
