"""The command: what it says, whom it serves, how it ends."""

import json
import signal
import socket
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
from page_process import PageProcess
from review_helpers import REVIEWER, corrected, png, predicted, store_of, write_output

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import UserError
from uga.review import server
from uga.review.server import ReviewRequest, review


def uga(*arguments):
    return execute(app, ["review", *map(str, arguments)])


@pytest.fixture
def page(tmp_path):
    write_output(tmp_path)
    running = PageProcess(tmp_path)
    yield running
    running.stop(signal.SIGKILL)


def browser(page):
    origin = page.address.partition("/?")[0]
    client = httpx2.Client(base_url=origin, headers={"Origin": origin})
    assert client.get(page.address).status_code == 200
    return client


def paint(client, labels):
    patch = client.get("/api/patches").json()["patches"][0]
    base = client.get(f"/api/patches/{patch['id']}").json()["version"]
    answer = client.put(
        f"/api/patches/{patch['id']}/labels",
        params={"base": base, "reviewer": REVIEWER},
        headers={"Content-Type": "image/png"},
        content=png(labels),
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_page_is_served_until_a_signal_ends_it(page, number):
    assert page.address.startswith("http://127.0.0.1:")
    client = browser(page)
    assert client.get("/api/patches").json()["patches"][0]["state"] == "new"
    assert page.next_address() != page.address
    assert page.stop(number) == 0
    assert "3 patches of " in page.text
    assert page.text.rstrip().endswith("everything was saved")
    assert "Traceback" not in page.text


def test_nothing_is_lost_when_the_server_is_killed(page, tmp_path):
    client = browser(page)
    paint(client, corrected())
    page.process.kill()
    page.process.wait(20)
    store = store_of(tmp_path)
    entry = next(iter(store.queue.entries.values()))
    sheet = store.sheet(entry)
    np.testing.assert_array_equal(sheet.labels, corrected())
    undone = store.step(entry, sheet.version, REVIEWER, "undo")
    np.testing.assert_array_equal(undone.labels, predicted())
    assert json.loads((tmp_path / "reviews.jsonl").read_text().splitlines()[0])["action"] == "edit"


def test_it_listens_on_this_machine_alone(page):
    assert listening_addresses(page.port) == {("tcp", socket.inet_aton("127.0.0.1"))}
    with socket.create_server(("0.0.0.0", 0)) as everywhere:  # noqa: S104 - what it must not do, and is seen if done
        port = everywhere.getsockname()[1]
        assert listening_addresses(port) == {("tcp", socket.inet_aton("0.0.0.0"))}  # noqa: S104


def listening_addresses(port):
    """Table and address of every socket of this machine that listens on a port, as the kernel has them."""
    found = set()
    for table in ("tcp", "tcp6"):
        file = Path("/proc/net", table)
        for line in file.read_text().splitlines()[1:] if file.exists() else ():
            local, _, state = line.split()[1:4]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
                found.add((table, b"".join(word.to_bytes(4, sys.byteorder) for word in words)))
    return found


def test_a_name_counts_whatever_its_case(tmp_path):
    write_output(tmp_path)
    running = PageProcess(tmp_path, "--no-token", "--name", "Proxy.Example")
    try:
        for host, status in (("proxy.example", 200), ("PROXY.example", 200), ("other.example", 421)):
            assert httpx2.get(f"{running.address}api/patches", headers={"Host": host}).status_code == status
    finally:
        running.stop()


def test_a_probe_that_is_a_link_is_not_followed(tmp_path, monkeypatch):
    write_output(tmp_path / "out")
    (tmp_path / "out" / ".uga-write-test.partial").symlink_to(tmp_path / "outside")
    monkeypatch.setattr(server, "_serve", lambda *_: None)
    made = []
    monkeypatch.setattr("pathlib.Path.touch", lambda path: made.append(path.is_symlink()) or path.write_bytes(b""))
    review(ReviewRequest(tmp_path / "out", port=0))
    assert made == [False]
    assert not (tmp_path / "outside").exists()


def test_without_a_token(tmp_path):
    write_output(tmp_path)
    running = PageProcess(tmp_path, "--no-token")
    try:
        assert "token" not in running.address
        assert httpx2.get(f"{running.address}api/patches").status_code == 200
        assert httpx2.get(f"{running.address}api/patches", headers={"Host": "evil.example"}).status_code == 421
        assert httpx2.post(f"{running.address}api/patches/x/review", json={}).status_code == 403
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--no-token", "--host", "0.0.0.0"), "would let anybody on the network change corrections; leave one out"),  # noqa: S104
        (
            ("--slides", "/does/not/exist"),
            "/does/not/exist is not a folder; name the folder with the slides by --slides",
        ),
        (("--host", "192.0.2.1"), "cannot be used"),
        (("--host", "no.such.host.invalid"), "cannot be used"),
        (("--port", "99999"), "Invalid value for '--port'"),
    ],
)
def test_bad_requests_are_one_sentence(tmp_path, capsys, arguments, sentence):
    write_output(tmp_path)
    assert uga(tmp_path, *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in last


def test_a_port_that_is_taken(tmp_path, capsys):
    write_output(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert uga(tmp_path, "--port", other.getsockname()[1]) == 2
    assert "name another with --port" in capsys.readouterr().err


def test_a_folder_without_patches(tmp_path, capsys):
    assert uga(tmp_path) == 2
    assert "holds no patch to review" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    write_output(tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\); corrections are saved there"):
        review(ReviewRequest(tmp_path))


def test_packages_that_are_not_shown_are_warned_of(tmp_path, monkeypatch):
    packages = write_output(tmp_path)
    (packages[0] / "patch.json").write_text("{}")
    monkeypatch.setattr(server, "_serve", lambda *_: None)
    warned = []
    monkeypatch.setattr(server.log, "warning", lambda message, *values: warned.append(message % values))
    review(ReviewRequest(tmp_path, port=0))
    assert len(warned) == 1
    assert warned[0].startswith("Not shown: patches/001_")


def test_help_teaches(capsys):
    assert uga("--help") == 0
    text = capsys.readouterr().out
    for word in ("--slides", "--no-token", "reviews.jsonl", "uga finetune"):
        assert word in text


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("here", "here")],  # noqa: S104
)
def test_addresses_as_they_are_shown(host, shown):
    assert server._shown(host) == shown
