"""The invoke API as the platform uses it: /health, /invoke, one case at a time, failures, time-outs, signals."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue

import pytest
from slide_files import write_tiff
from test_process import tissue_like
from test_sockets import check_importable, job
from test_sockets import socket as input_socket

ROOT = Path(__file__).parents[2]

# Cases whose course a test prescribes by the file `case`; what they did stands in the file `log`.
SCRIPTED = """
import pathlib, sys, time, typer
from uga.cli.console import execute
from uga.errors import DeviceError, ExitCode, SlideError, UserError
from uga.serve.server import serve
folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def note(text):
    with (folder / "log").open("a") as log:
        log.write(text + "\\n")
def case():
    what = (folder / "case").read_text()
    note("begin")
    try:
        if what == "long":
            for _ in range(3000):
                time.sleep(0.01)
        elif what == "short":
            time.sleep(0.3)
        elif what != "ok":
            raise {"user": UserError("The input is wrong."), "slide": SlideError("The slide is torn."),
                   "memory": MemoryError(), "defect": KeyError("x"),
                   "device": DeviceError("cuda:0 no longer computes (CUDA error: lost); start again."),
                   "gpu": type("AcceleratorError", (RuntimeError,), {})("CUDA error: busy"),
                   "disk": OSError(28, "No space left on device", "/output/map.tif")}[what]
    finally:
        note("end")
    return ExitCode.OK
def prepare():
    while not (folder / "go").exists():
        time.sleep(0.01)
    return case
app = typer.Typer()
@app.command()
def main():
    return serve(port, prepare)
sys.exit(execute(app, []))
"""


class Server:
    """A serving process; its lines on stdout and stderr are kept as they come."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip
        self.out: Queue[str] = Queue()
        self.err: list[str] = []
        for stream, keep in ((self.process.stdout, self.out.put), (self.process.stderr, self.err.append)):
            threading.Thread(target=self._read, args=(stream, keep), daemon=True).start()
        self.port = int(self.wait_for("listening on port ").partition("listening on port ")[2].split(",")[0])

    @staticmethod
    def _read(stream, keep: Callable[[str], object]) -> None:
        for line in stream:
            keep(line.rstrip("\n"))

    def wait_for(self, text: str) -> str:
        while True:
            line = self.out.get(timeout=60)
            if text in line:
                return line

    def ask(self, method: str, path: str, timeout: float = 120) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode().strip()
        finally:
            connection.close()

    def last_error(self, sentence: str) -> bool:
        """Whether the sentence becomes the last line on stderr (the pipe is read by a thread of its own)."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (not self.err or sentence not in self.err[-1]):
            time.sleep(0.02)
        return bool(self.err) and sentence in self.err[-1]

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@contextmanager
def serving(command: list[str]) -> Iterator[Server]:
    server = Server(command)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    (tmp_path / "case").write_text("ok")
    with serving([sys.executable, "-c", SCRIPTED, str(tmp_path), "0"]) as server:
        yield server, tmp_path


@pytest.fixture
def ready(scripted: tuple[Server, Path]) -> tuple[Server, Path]:
    server, folder = scripted
    (folder / "go").touch()
    server.wait_for("ready")
    return server, folder


def wait_for_log(folder: Path, lines: list[str]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (folder / "log").is_file() and (folder / "log").read_text().split() == lines:
            return
        time.sleep(0.02)
    pytest.fail(f"log is not {lines}: {(folder / 'log').read_text()}")


def test_health_is_200_only_once_the_model_is_loaded(scripted: tuple[Server, Path]) -> None:
    server, folder = scripted
    assert server.ask("GET", "/health")[0] == 503
    assert server.ask("POST", "/invoke")[0] == 503
    (folder / "go").touch()
    server.wait_for("ready")
    assert server.ask("GET", "/health")[0] == 200
    assert server.ask("POST", "/invoke")[0] == 201
    assert server.ask("GET", "/invoke")[0] == 404
    assert server.ask("POST", "/health")[0] == 404
    assert not server.err


@pytest.mark.parametrize(
    ("case", "status", "sentence"),
    [
        ("user", 400, "The input is wrong."),
        ("slide", 422, "The slide is torn."),
        ("memory", 422, "Memory ran out"),
        ("disk", 422, "No space left on device at /output/map.tif; check disk space"),
        ("gpu", 422, "The GPU failed (CUDA error: busy); leave it out"),
        ("defect", 500, "defect of UGA"),
    ],
)
def test_a_failing_case_says_why_and_the_next_one_works(
    ready: tuple[Server, Path], case: str, status: int, sentence: str
) -> None:
    server, folder = ready
    (folder / "case").write_text(case)
    answer, body = server.ask("POST", "/invoke")
    assert answer == status
    assert sentence in body
    assert server.last_error(sentence)
    (folder / "case").write_text("ok")
    assert server.ask("POST", "/invoke")[0] == 201


def test_a_device_that_no_longer_computes_ends_the_server(ready: tuple[Server, Path]) -> None:
    server, folder = ready
    (folder / "case").write_text("device")
    assert server.ask("POST", "/invoke") == (500, "cuda:0 no longer computes (CUDA error: lost); start again.")
    assert server.process.wait(timeout=30) == 1
    assert server.last_error("no longer computes")


def test_cases_run_one_at_a_time_and_health_answers_meanwhile(ready: tuple[Server, Path]) -> None:
    server, folder = ready
    (folder / "case").write_text("short")
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(server.ask("POST", "/invoke")[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert server.ask("GET", "/health", timeout=2)[0] == 200
    for thread in threads:
        thread.join()
    assert answers == [201, 201, 201]
    assert (folder / "log").read_text().split() == ["begin", "end"] * 3


def test_a_case_whose_client_has_gone_is_stopped(ready: tuple[Server, Path]) -> None:
    """When the time is over the platform hangs up, empties the folders and goes on with somebody else's slide."""
    server, folder = ready
    (folder / "case").write_text("long")
    with pytest.raises(TimeoutError):
        server.ask("POST", "/invoke", timeout=0.5)
    wait_for_log(folder, ["begin", "end"])
    (folder / "case").write_text("ok")
    assert server.ask("POST", "/invoke", timeout=5)[0] == 201
    assert (folder / "log").read_text().split() == ["begin", "end"] * 2


def test_a_waiting_case_whose_client_has_gone_never_starts(ready: tuple[Server, Path]) -> None:
    server, folder = ready
    (folder / "case").write_text("short")
    first = threading.Thread(target=server.ask, args=("POST", "/invoke"))
    first.start()
    wait_for_log(folder, ["begin"])
    with pytest.raises(TimeoutError):
        server.ask("POST", "/invoke", timeout=0.05)
    first.join()
    assert server.ask("POST", "/invoke")[0] == 201
    assert (folder / "log").read_text().split() == ["begin", "end"] * 2


def test_a_client_that_sends_nonsense_or_nothing_harms_nobody(ready: tuple[Server, Path]) -> None:
    server, _ = ready
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"POST /invoke HTTP/1.1\r\nContent-Length: -3\r\n\r\n")
            assert b" 201 " in raw.recv(4096)
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
            assert b" 400 " in raw.recv(4096)
        assert server.ask("POST", "/invoke")[0] == 201
        silent.close()
    assert not server.err


def test_sigterm_between_cases_is_a_good_end(ready: tuple[Server, Path]) -> None:
    server, _ = ready
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) == 0
    assert not server.err


def test_sigterm_within_a_case_ends_it(ready: tuple[Server, Path]) -> None:
    server, folder = ready
    (folder / "case").write_text("long")
    answers: list[int] = []

    def ask() -> None:
        with suppress(OSError):
            answers.append(server.ask("POST", "/invoke")[0])

    client = threading.Thread(target=ask)
    client.start()
    wait_for_log(folder, ["begin"])
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) == 128 + signal.SIGTERM
    assert (folder / "log").read_text().split() == ["begin", "end"]
    assert server.last_error("Stopped by SIGTERM")
    client.join()
    assert 201 not in answers


def test_a_port_in_use_is_a_bad_request(scripted: tuple[Server, Path], tmp_path: Path) -> None:
    server, _ = scripted
    command = [sys.executable, "-c", SCRIPTED, str(tmp_path), str(server.port)]
    second = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert second.returncode == 2
    assert "--port" in second.stderr.splitlines()[-1]


def put_case(folder: Path, name: str, size: int, seed: int) -> None:
    """Empties the input folder and puts a job with one slide there."""
    shutil.rmtree(folder, ignore_errors=True)
    job(folder, input_socket("wsi", "images/wsi"))
    (folder / "images" / "wsi").mkdir(parents=True)
    write_tiff(folder / "images" / "wsi" / f"{name}.tif", tissue_like(size, size, seed=seed))


def test_three_cases_with_the_real_pipeline(tmp_path: Path, tiny_model: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    command = [sys.executable, str(ROOT / "process.py"), "--serve", "--port", "0", "--input", str(source),
               "--output", str(output), "--model", str(tiny_model), "--patch", "128"]  # fmt: skip
    memory = []
    with serving(command) as server:
        server.wait_for("ready")
        source.mkdir()
        for name in ("one", "two"):
            write_tiff(source / f"{name}.tif", tissue_like(320, 300, seed=9))
        assert server.ask("POST", "/invoke")[0] == 201
        assert {path.name for path in output.iterdir()} == {"one", "two", "ranked-patches.json", "report.html"}
        (output / "notes.txt").write_text("a user's")
        for number, (name, size) in enumerate((("a", 500), ("b", 620), ("broken", 0), ("c", 560))):
            if name == "broken":
                put_case(source, name, 300, number)
                (source / "images" / "wsi" / "broken.tif").write_bytes(b"no slide")
                status, _ = server.ask("POST", "/invoke")
                assert status == 422
                assert server.last_error("broken.tif")
                assert not list((output / "images").rglob("*.tif"))
                assert not (output / "manifest.json").exists()
                assert (output / "notes.txt").exists()
                continue
            put_case(source, name, size, number)
            assert server.ask("POST", "/invoke")[0] == 201
            assert json.loads((output / "manifest.json").read_text())["input"]["id"] == name
            assert not (output / "one").exists()
            assert not (output / "two").exists()
            check_importable(output / "images" / "segmentation", segments=frozenset({0, 1, 2}))
            shutil.rmtree(output / "images" / "segmentation-imported")
            assert not (output / "failures.json").exists()
            memory.append(server.memory_bytes())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
    assert memory[2] < 1.15 * memory[1]
