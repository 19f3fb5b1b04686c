"""Serves the page until somebody stops it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from uga.errors import UserError
from uga.output.files import check_writable
from uga.review.access import TOKEN_PARAMETER, Gate, Tokens
from uga.review.app import ReviewPage
from uga.review.pages import gate_pages
from uga.review.queue import Queue
from uga.review.store import ReviewStore
from uga.review.tiles import SlideTiles
from uga.stopping import Stopped

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

PORT = 8080
LOCAL_HOST = "127.0.0.1"
_GRACE_S = 5


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """What is reviewed, and where the page is served.

    Attributes:
        output: Folder with packages.
        slides: Folder with the slides they are of; None shows patches without the tissue around.
        models: Model folders that may be the run's, for the command that is shown.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        names: Host names, besides ``localhost`` and numeric addresses, under which the page may be opened.
        with_token: Whether a browser needs the one-time token.
    """

    output: Path
    slides: Path | None = None
    models: tuple[Path, ...] = ()
    host: str = LOCAL_HOST
    port: int = PORT
    names: tuple[str, ...] = ()
    with_token: bool = True


def review(request: ReviewRequest) -> None:
    """Serve the page until a signal ends it.

    Raises:
        UserError: nothing to review, a folder that cannot be written, an address that cannot be used.
    """
    if not request.with_token and not _is_loopback(request.host):
        raise UserError(
            f"--no-token with --host {request.host} would let anybody on the network change corrections; leave one out."
        )
    queue = Queue.find(request.output)
    for problem in queue.problems:
        log.warning("Not shown: %s", problem.reason)
    check_writable(request.output, "corrections are saved there, so give it the rights to write")
    page = ReviewPage(ReviewStore(queue), SlideTiles.below(request.slides, without=[request.output]), request.models)
    with _listen(request.host, request.port) as listener:
        port = listener.getsockname()[1]
        address = f"http://{_shown(request.host)}:{port}/"
        log.info("%d patches of %s", len(queue.entries), request.output)
        tokens = None
        if request.with_token:
            tokens = Tokens(announce=lambda token: log.info("Open %s?%s=%s", address, TOKEN_PARAMETER, token))
            tokens.renew()
        else:
            log.info("Open %s", address)
        gate = Gate(
            page.app(), frozenset(name.lower() for name in request.names), tokens, f"uga_review_{port}", gate_pages()
        )
        _serve(gate, listener)


def _serve(gate: Gate, listener: socket.socket) -> None:
    config = uvicorn.Config(
        gate,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except Stopped as stopped:
        log.info("stopped (%s); everything was saved", stopped.signal_name)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # whoever opens the address as soon as it is shown is to be served
    except OSError as error:
        raise UserError(
            f"Port {port} of {host} cannot be used ({error.strerror}); name another with --port or --host."
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    """The host as it stands in an address; one that means all addresses is shown as this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return LOCAL_HOST
    return f"[{host}]" if address.version == 6 else host
