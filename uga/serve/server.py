"""grand-challenge's invoke API: the ensemble is loaded once, then each POST runs one case.

``GET /health`` answers 200 as soon as cases can be run, 503 before. ``POST /invoke`` runs what lies in the input folder
now and answers 201 when the outputs are complete; 4xx or 5xx if there are none, with the reason as the last line on
stderr and as the body. Cases run one after the other in the main thread, where signals arrive. A device that no longer
computes ends the server, so that whoever watches over it starts another.
"""

from __future__ import annotations

import gc
import logging
import select
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import TYPE_CHECKING

from uga.errors import DeviceError, ExitCode, UgaError, UserError, is_out_of_memory, machine_sentence
from uga.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

log = logging.getLogger(__name__)

PORT = 4743
"""Where the platform looks for the server."""

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - published ports and probes of a container come in from outside
_REQUEST_TIMEOUT_S = 30.0
_CLIENT_CHECK_S = 0.2
_MAX_BODY_BYTES = 1 << 20
_STATUS = {
    ExitCode.OK: HTTPStatus.CREATED,
    ExitCode.SLIDE_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ExitCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ExitCode.DEFECT: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class _Abandoned(BaseException):
    """The client of the running case has gone: its time is over, and its input may already be another's."""


class _Job:
    """One POST: waits for the main thread, or runs in it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.abandoned = False
        self.status = HTTPStatus.INTERNAL_SERVER_ERROR
        self.sentence = "The case was stopped."

    def answer(self, code: ExitCode, sentence: str) -> None:
        self.status, self.sentence = _STATUS[code], sentence
        self.done.set()


class InvokeServer(ThreadingHTTPServer):
    """Takes requests in threads of its own and hands the cases to the main thread."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        try:
            super().__init__((_ANY_ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(f"Port {port} cannot be used ({error.strerror}); name another with --port.") from error
        self.ready = threading.Event()
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.was_cut_off = False
        """Whether a signal ended the server within a case."""
        self._running: _Job | None = None

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's names
        """Notes a connection that broke off; the base class would write a traceback to stderr."""
        log.debug("request of %s broke off", client_address)

    def run_next(self, case: Callable[[], ExitCode]) -> None:
        """Waits for the next request and runs the case; does not fail because the case does, but the device may."""
        job = self.jobs.get()
        try:
            self._running = job
            if not job.abandoned:
                job.answer(*_run(case))
        except _Abandoned:
            log.warning("The client has gone, so the case was stopped and its outputs were removed.")
        except DeviceError as error:
            job.sentence = str(error)
            raise
        except Stopped:
            self.was_cut_off = True
            raise
        finally:
            self._running = None
            job.done.set()
            gc.collect()

    def abandon(self, job: _Job) -> None:
        """Stops a job whose client has gone, or keeps it from starting; called from a request's thread."""
        job.abandoned = True
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGUSR1)

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """Answers requests until the block ends; must be entered in the main thread."""

        def on_abandoned(_: int, __: FrameType | None) -> None:
            if self._running is not None and self._running.abandoned and not self._running.done.is_set():
                raise _Abandoned

        before = signal.signal(signal.SIGUSR1, on_abandoned)
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            signal.signal(signal.SIGUSR1, before)


def serve(port: int, prepare: Callable[[], Callable[[], ExitCode]]) -> ExitCode:
    """Serves until a signal ends it.

    Args:
        port: TCP port; 0 takes a free one.
        prepare: loads what all cases share and returns what runs one case.

    Returns:
        OK when the server was stopped between two cases.

    Raises:
        UserError: the port cannot be used, or what ``prepare`` raises.
        DeviceError: the device no longer computes; the client was told.
        Stopped: a signal came while a case was running; its outputs are gone.
    """
    with InvokeServer(port) as server, server.accepting():
        log.info("listening on port %d, loading the model", server.server_port)
        case = prepare()
        try:
            server.ready.set()
            log.info("ready on port %d", server.server_port)
            while True:
                server.run_next(case)
        except Stopped as stopped:
            if server.was_cut_off:
                raise
            log.info("stopped between two cases (%s)", stopped.signal_name)
            return ExitCode.OK


def _run(case: Callable[[], ExitCode]) -> tuple[ExitCode, str]:
    """Runs one case; the sentence of a failure is the last line on stderr."""
    try:
        code = case()
    except DeviceError:
        raise
    except UgaError as error:
        code, sentence = error.exit_code, str(error)
        sys.stderr.write(f"{sentence}\n")
    except Exception as error:
        if is_out_of_memory(error):
            code, sentence = ExitCode.SLIDE_FAILED, "Memory ran out; give the run more memory or use a GPU with more."
        elif trouble := machine_sentence(error):
            code, sentence = ExitCode.SLIDE_FAILED, trouble
        else:
            log.exception("unexpected error")
            code = ExitCode.DEFECT
            sentence = f"A defect of UGA stopped this case ({type(error).__name__}); report it with the log."
        sys.stderr.write(f"{sentence}\n")
    else:
        sentence = "done" if code is ExitCode.OK else "The case failed; failures.json and the log say why."
    return code, sentence


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection per request, as a case may take an hour."""

    server: InvokeServer
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path != "/health":
            self._answer(HTTPStatus.NOT_FOUND, "Ask for /health, or POST to /invoke.")
        elif self.server.ready.is_set():
            self._answer(HTTPStatus.OK, "ready")
        else:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "loading the model")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self.rfile.read(min(int(length), _MAX_BODY_BYTES) if length.isdecimal() else 0)
        if self.path != "/invoke":
            self._answer(HTTPStatus.NOT_FOUND, "Ask for /health, or POST to /invoke.")
        elif not self.server.ready.is_set():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "loading the model")
        else:
            job = _Job()
            self.server.jobs.put(job)
            while not job.done.wait(_CLIENT_CHECK_S):
                if not job.abandoned and _has_gone(self.connection):
                    self.server.abandon(job)
            if not job.abandoned:
                self._answer(job.status, job.sentence)

    def _answer(self, status: HTTPStatus, sentence: str) -> None:
        body = f"{sentence}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        log.debug(format, *arguments)


def _has_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    readable, _, _ = select.select([connection], [], [], 0)
    try:
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
