"""The files of the page, read once into a table; what is not in it cannot be asked for."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

from uga.review.access import GatePages
from uga.review.refused import not_found

if TYPE_CHECKING:
    from starlette.requests import Request

_STATIC = Path(__file__).parent / "static"
PAGE = "index.html"
_REVALIDATE = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page."""

    data: bytes
    kind: str
    etag: str


@lru_cache(maxsize=1)
def _static_files() -> dict[str, StaticFile]:
    """All files of the page by their name in addresses, read once."""
    mimetypes.add_type("text/javascript", ".js")  # whatever this machine's own table says
    files = {}
    for path in sorted(path for path in _STATIC.rglob("*") if path.is_file()):
        data = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "text/plain"
        files[path.relative_to(_STATIC).as_posix()] = StaticFile(data, kind, f'"{hashlib.sha256(data).hexdigest()}"')
    return files


def gate_pages() -> GatePages:
    """What a browser sees before it is in."""
    locked, enter = (_static_files()[name].data.decode() for name in ("locked.html", "enter.html"))
    return GatePages(locked, enter)


def file_response(name: str, request: Request) -> Response:
    """The file of a name in addresses, or that the browser has it already.

    Raises:
        RefusedError: there is none.
    """
    file = _static_files().get(name)
    if file is None:
        raise not_found("file")
    headers = {"ETag": file.etag, **_REVALIDATE}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.data, media_type=file.kind, headers=headers)
