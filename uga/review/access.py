"""Who may talk to the page: one browser per token, under the page's own name, from the page itself.

Three checks, in front of everything else. The *Host* must be an address or a name given at the start, so that no
foreign name that was rebound to this machine gets through. A request that changes anything must come from the page's
own *Origin*. And the browser must have the cookie that it gets for the token, which works once; without it there is
nothing but the page's code.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

TOKEN_PARAMETER = "token"  # noqa: S105 - the parameter's name
_TOKEN_BYTES = 32
_CODE = "/static/"
_SAFE_METHODS = {"GET", "HEAD"}
_OWN_SITE = {"same-origin", "none"}

# The one rule that OpenSeadragon adds to a page by itself, named by its hash.
_VIEWER_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {_VIEWER_STYLE}; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


@dataclass
class Tokens:
    """The token that is good for the next browser, and the cookies of those that came.

    Attributes:
        announce: Called with every new token, for whoever started the page.
    """

    announce: Callable[[str], None]
    _token: str = ""
    _sessions: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """Make the token for the next browser, and announce it."""
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.announce(self._token)

    def exchange(self, token: str) -> str | None:
        """A cookie's value for the token, which is used up then; None for any other."""
        with self._lock:
            if not self._token or not hmac.compare_digest(token.encode(), self._token.encode()):
                return None
            session = secrets.token_urlsafe(_TOKEN_BYTES)
            self._sessions.add(session)
            self.renew()
            return session

    def knows(self, session: str) -> bool:
        """Whether a cookie's value is of a browser that came with a token."""
        return any(hmac.compare_digest(session.encode(), known.encode()) for known in self._sessions)


@dataclass(frozen=True, slots=True)
class GatePages:
    """HTML: for a browser without a token, and for one that has just shown it."""

    locked: str
    enter: str


@dataclass(frozen=True)
class Gate:
    """ASGI middleware with the checks; adds the security headers to every answer.

    Attributes:
        app: What lies behind.
        names: Host names, besides ``localhost`` and numeric addresses, under which the page may be opened.
        tokens: None lets every browser in.
        cookie: Name of the cookie; cookies do not tell ports apart, so it should.
        pages: What a browser sees before it is in.
    """

    app: ASGIApp
    names: frozenset[str]
    tokens: Tokens | None
    cookie: str
    pages: GatePages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the app."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no web sockets

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._check(scope)
        await (self.app if answer is None else answer)(scope, receive, send_safely)

    def _check(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return _refusal(
                HTTPStatus.MISDIRECTED_REQUEST, "host", "The page is not known under this name; see --name."
            )
        if scope["method"] not in _SAFE_METHODS and not _is_from(headers, hosts[0]):
            return _refusal(HTTPStatus.FORBIDDEN, "origin", "The request does not come from the page itself.")
        return None if self.tokens is None else self._check_token(self.tokens, scope, headers)

    def _check_token(self, tokens: Tokens, scope: Scope, headers: Headers) -> Response | None:
        if scope["path"].startswith(_CODE):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] == "GET" and scope["path"] == "/" and TOKEN_PARAMETER in query:
            session = tokens.exchange(query[TOKEN_PARAMETER][0])
            if session is not None:
                # A page of ours leads on: after a redirect a browser that came from elsewhere keeps a strict cookie.
                answer = HTMLResponse(self.pages.enter)
                answer.set_cookie(self.cookie, session, path="/", httponly=True, samesite="strict")
                return answer
        if any(tokens.knows(value) for value in _cookies(headers, self.cookie)):
            return None
        if scope["path"].startswith("/api/"):
            return _refusal(HTTPStatus.UNAUTHORIZED, "token", "This browser has no token; open the address shown.")
        return HTMLResponse(self.pages.locked, HTTPStatus.UNAUTHORIZED)

    def _is_ours(self, host: str) -> bool:
        """A numeric address cannot be rebound to another machine; a name can."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in {"localhost", *self.names}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_from(headers: Headers, host: str) -> bool:
    """Whether a browser says that the page itself has made a request."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    if origin is None or site not in _OWN_SITE:
        return False
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _cookies(headers: Headers, name: str) -> list[str]:
    # Without Python's parser, which drops all cookies where one, perhaps of another page on this host, is none.
    pairs = (pair.partition("=") for header in headers.getlist("cookie") for pair in header.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def _refusal(status: HTTPStatus, code: str, sentence: str) -> Response:
    return JSONResponse({"code": code, "sentence": sentence}, status)
