"""What may be asked of the page, and how much of it; everything else is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from uga.review.refused import RefusedError, bad_request

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_NAME_CHARACTERS = 80


def parameter(request: Request, name: str) -> str:
    """A parameter of the address.

    Raises:
        RefusedError: it is not there.
    """
    value = request.query_params.get(name)
    if value is None:
        raise bad_request(f"The address has to hold {name}.")
    return value


def reviewer_name(name: object) -> str:
    """A name as it goes into records: one printable line.

    Raises:
        RefusedError: it is none.
    """
    text = " ".join(str(name).split()) if isinstance(name, str) else ""
    if not 0 < len(text) <= _MAX_NAME_CHARACTERS or not text.isprintable():
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, "reviewer", f"A reviewer's name has 1 to {_MAX_NAME_CHARACTERS} characters."
        )
    return text


def expect_kind(request: Request, kind: str) -> None:
    """Refuse content of another kind, which a plain form of a foreign page could send.

    Raises:
        RefusedError: it is of another kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != kind:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", f"The content has to be {kind}.")


async def read_body(request: Request, limit: int) -> bytes:
    """The content of a request; reading stops where it gets larger than ``limit`` bytes.

    Raises:
        RefusedError: it is larger.
    """
    too_large = RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"The content is larger than {limit} bytes."
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise too_large
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > limit:
            raise too_large
    return bytes(data)
