"""What is wrong with a request, gathered so that a user can mend all of it before anything starts."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from uga.errors import SlideError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


class Faults:
    """Sentences about one subject, such as a cohort."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Note a fault."""
        self._sentences.append(sentence)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Note what a block raises on behalf of the user, and go on after it."""
        try:
            yield
        except (UserError, SlideError) as error:
            self.add(str(error))

    def raise_if_any(self) -> None:
        """Stop here if there are faults.

        Raises:
            UserError: the only fault, or how many there are after each was logged as an error.
        """
        if len(self._sentences) > 1:
            for sentence in self._sentences:
                log.error("%s", sentence)
            raise UserError(f"{self._subject} has {len(self._sentences)} faults, named above; mend them, start again.")
        if self._sentences:
            raise UserError(self._sentences[0])
