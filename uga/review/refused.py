"""Requests of the page that are not carried out; ``code`` is what the page tells them apart by."""

from __future__ import annotations

from http import HTTPStatus

from uga.errors import UgaError


class RefusedError(UgaError):
    """A request that is refused: an HTTP status, a code for the page, a sentence for people."""

    def __init__(self, status: HTTPStatus, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


def not_found(what: str) -> RefusedError:
    """Nothing of that name is in the tables."""
    return RefusedError(HTTPStatus.NOT_FOUND, "not-found", f"There is no such {what}; go back to the queue.")


def bad_request(sentence: str) -> RefusedError:
    """A request that the page itself would never send."""
    return RefusedError(HTTPStatus.BAD_REQUEST, "bad-request", sentence)


def unwritable(sentence: str) -> RefusedError:
    """What was done cannot be saved now; it can be tried again."""
    return RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, "unwritable", sentence)


def unusable(sentence: str) -> RefusedError:
    """A package that cannot be reviewed as it lies on disk."""
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "unusable", sentence)
