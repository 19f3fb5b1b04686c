"""Collects what is refused while reading goes on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from uga.corrections.correction import Refusal
from uga.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")


def printable(text: str) -> str:
    """The text, with escapes for what no report can hold, such as the bytes of a name that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


@dataclass
class Refusals:
    """The refusals below a folder; their sentences show paths from there on, so that a report names no machine's."""

    folder: Path
    noted: list[Refusal] = field(default_factory=list)

    def note(self, path: Path, reason: str) -> None:
        """Refuse a file or package."""
        prefix = re.escape(f"{self.folder}{os.sep}")
        self.noted.append(Refusal(path, printable(re.sub(rf"(?<![\w./-]){prefix}", "", reason))))

    def attempt(self, path: Path, function: Callable[[], _T]) -> _T | None:
        """The function's value; None where it fails, which refuses the path."""
        try:
            return function()
        except UserError as error:
            self.note(path, str(error))
        except OSError as error:
            self.note(path, f"{error.filename or path} cannot be read ({error.strerror}); check its rights.")
        return None
