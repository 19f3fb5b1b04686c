import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest
from pydantic import BaseModel

from uga.output.files import remove_partials, sha256_file, write_atomic, write_json


def test_bytes_and_functions_are_written(tmp_path):
    write_atomic(tmp_path / "new" / "a.bin", b"abc")
    write_atomic(tmp_path / "new" / "b.bin", lambda path: path.write_text("func"))
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"abc"
    assert (tmp_path / "new" / "b.bin").read_text() == "func"
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(partial):
        partial.write_bytes(b"half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_has_the_partial_name_is_not_written_through(tmp_path):
    outside, path = tmp_path / "outside", tmp_path / "out" / "file"
    outside.write_bytes(b"theirs")
    path.parent.mkdir()
    for content in (b"ours", lambda partial: partial.write_bytes(b"ours")):
        (path.parent / "file.partial").symlink_to(outside)
        write_atomic(path, content)
        assert (outside.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"theirs", b"ours", False)


def test_killed_process_leaves_only_a_partial(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from uga.output.files import write_atomic\n"
        "def slow(p):\n p.write_bytes(b'half'); time.sleep(60)\n"
        "write_atomic(Path(sys.argv[1]), slow)"
    )
    target = tmp_path / "map.tif"
    partial = tmp_path / "map.tif.partial"
    process = subprocess.Popen([sys.executable, "-c", script, str(target)], env=os.environ | {"PYTHONPATH": _root()})
    try:
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.iterdir()) == [partial]
    assert remove_partials(tmp_path) == [partial]
    assert list(tmp_path.iterdir()) == []


def _root():
    return os.pathsep.join(sys.path)


def test_partials_are_removed_and_nothing_else(tmp_path):
    kept = tmp_path / "patches" / "001" / "image.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    folder = tmp_path / "patches" / "002.partial"
    (folder / "x.partial").mkdir(parents=True)
    (folder / "image.png").write_bytes(b"")
    outside = tmp_path.parent / "outside"
    outside.mkdir(exist_ok=True)
    link = tmp_path / "link.partial"
    link.symlink_to(outside)
    remove_partials(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == [kept]
    assert not folder.exists()
    assert not link.is_symlink()
    assert outside.exists()


def test_sha256_of_a_file_longer_than_a_chunk(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_json_is_utf8_without_empty_fields(tmp_path):
    class Thing(BaseModel):
        name: str
        centre: str | None = None

    write_json(tmp_path / "a.json", Thing(name="ü"))
    assert (tmp_path / "a.json").read_bytes() == '{\n  "name": "ü"\n}\n'.encode()
