import hashlib
import json
from datetime import UTC, datetime

import pytest
from output_helpers import COMPUTATION, MODEL, slide_record, write_packages

from uga.errors import UserError
from uga.output.manifest import clear_outputs, is_complete, read_manifest, write_manifest
from uga.output.schema import InputRecord, RunIdentity

SOURCE = InputRecord(**slide_record().model_dump(), size_bytes=1000)
OPTIONS = {"uncertainty": "soft-cross-entropy", "overlap": 0.5, "mpp": None, "top": 2, "spacing_um": 1 / 3}
IDENTITY = RunIdentity(uga_version="1.0", input=SOURCE, model=MODEL, options=OPTIONS)
MAP = "images/segmentation/slide.tif"


@pytest.fixture
def finished(tmp_path):
    """A folder with a map, two packages and its manifest."""
    (tmp_path / MAP).parent.mkdir(parents=True)
    (tmp_path / MAP).write_bytes(b"abcdef")
    write_packages(tmp_path, 2, size=16)
    write(tmp_path)
    return tmp_path


def write(folder, **changes):
    values = {
        "started": datetime.now(UTC),
        "timings_s": {"inference": 1.5},
        "peak_memory_bytes": 7,
        "computation": COMPUTATION,
    }
    return write_manifest(folder, IDENTITY, **(values | changes))


def changed(**values):
    return IDENTITY.model_copy(update=values)


def package(folder):
    return min((folder / "patches").iterdir())


def test_manifest_lists_every_file_with_its_checksum(finished):
    content = json.loads((finished / "manifest.json").read_bytes())
    files = [path for path in finished.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert [o["path"] for o in content["outputs"]] == sorted(p.relative_to(finished).as_posix() for p in files)
    for output in content["outputs"]:
        data = (finished / output["path"]).read_bytes()
        assert (output["size_bytes"], output["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert content["options"] == OPTIONS
    assert {"python", "uga", "torch", "numpy"} <= set(content["versions"])
    assert content["timings_s"] == {"inference": 1.5}
    assert str(finished) not in (finished / "manifest.json").read_text()


def test_only_named_outputs_are_listed(finished):
    (finished / "notes.txt").write_text("mine")
    manifest = write(finished, outputs=[finished / MAP])
    assert [output.path for output in manifest.outputs] == [MAP]


def test_finished_folder_is_complete(finished):
    assert is_complete(finished, IDENTITY)
    assert is_complete(finished, IDENTITY, check_hashes=True)


@pytest.mark.parametrize(
    "expected",
    [
        changed(options=OPTIONS | {"overlap": 0.25}),
        changed(options=OPTIONS | {"mpp": 0.5}),
        changed(options=OPTIONS | {"new": 1}),
        changed(options={name: value for name, value in OPTIONS.items() if name != "top"}),
        changed(model=MODEL.model_copy(update={"sha256": "0" * 64})),
        changed(model=MODEL.model_copy(update={"folds": (0, 1)})),
        changed(input=SOURCE.model_copy(update={"size_bytes": 1001})),
        changed(input=SOURCE.model_copy(update={"quickhash": "other"})),
        changed(uga_version="1.1"),
    ],
)
def test_another_run_is_not_complete(finished, expected):
    assert not is_complete(finished, expected)


@pytest.mark.parametrize("name", [MAP, "patches/*/image.png", "patches/*/patch.json", "patches/*/annotation.geojson"])
def test_missing_file_is_noticed(finished, name):
    next(finished.glob(name)).unlink()
    assert not is_complete(finished, IDENTITY)


def test_truncated_file_is_noticed(finished):
    (finished / MAP).write_bytes(b"abcde")
    assert not is_complete(finished, IDENTITY)


def test_altered_file_of_the_same_size_is_noticed_by_its_checksum(finished):
    (finished / MAP).write_bytes(b"abcdeX")
    assert is_complete(finished, IDENTITY)
    assert not is_complete(finished, IDENTITY, check_hashes=True)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"outputs": [', b"\xff"])
def test_damaged_manifest_is_none(finished, content):
    (finished / "manifest.json").write_bytes(content)
    assert read_manifest(finished) is None
    assert not is_complete(finished, IDENTITY)


def test_no_manifest_is_not_complete(tmp_path):
    assert read_manifest(tmp_path) is None
    assert not is_complete(tmp_path / "none", IDENTITY)


@pytest.mark.parametrize("name", ["annotation.geojson", "correction.png"])
def test_work_of_a_clinician_keeps_the_folder_complete_and_is_never_cleared(finished, name):
    work = package(finished) / name
    work.write_bytes(b"{}")
    before = sorted(finished.rglob("*"))
    assert is_complete(finished, IDENTITY, check_hashes=True)
    with pytest.raises(UserError, match=f"{package(finished).name} holds a correction"):
        clear_outputs(finished)
    assert sorted(finished.rglob("*")) == before
    assert work.read_bytes() == b"{}"


def test_clearing_removes_what_a_run_wrote_and_nothing_else(finished):
    (finished / "notes.txt").write_text("mine")
    (finished / "patches" / "mine").mkdir()
    (finished / "patches" / "003_x_0_0.partial").mkdir()
    (finished / "images" / "x.tif.partial").write_bytes(b"")
    clear_outputs(finished)
    left = sorted(path.relative_to(finished).as_posix() for path in finished.rglob("*"))
    assert left == ["notes.txt", "patches", "patches/mine"]


def test_packages_of_a_killed_run_are_cleared_without_a_manifest(finished):
    (finished / "manifest.json").unlink()
    clear_outputs(finished)
    assert not (finished / "patches").exists()
    clear_outputs(finished / "not yet there")
