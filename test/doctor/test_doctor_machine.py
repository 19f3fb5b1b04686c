import numpy as np
import pytest
import torch

from uga.doctor import Verdict, machine
from uga.doctor.machine import check_devices, check_files, check_memory, check_processor
from uga.errors import UserError


@pytest.fixture
def cgroup(monkeypatch, tmp_path):
    """The control group batch/job, without limits so far; returns a function that writes a file below the root."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "own")
    (tmp_path / "own").write_text("2:cpu:/other\n0::/batch/job\n")

    def write(name, content):
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    return write


def notes(findings):
    return [each.sentence for each in findings if each.verdict is Verdict.NOTE]


@pytest.mark.parametrize(
    ("files", "threads", "quota"),
    [
        ({}, 8, None),
        ({"cpu.max": "max 100000\n"}, 8, None),
        ({"cpu.max": "150000 100000\n"}, 8, "1.5"),
        ({"cpu.max": "150000 100000\n"}, 1, None),
        ({"batch/job/cpu.max": "max 100000\n", "batch/cpu.max": "300000 100000\n"}, 8, "3"),
        ({"batch/job/cpu.max": "200000 100000\n", "cpu.max": "300000 100000\n"}, 8, "2"),
        ({"other/cpu.max": "100000 100000\n"}, 8, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, "4"),
    ],
)
def test_a_container_of_fewer_processors_than_threads_is_noted(cgroup, monkeypatch, files, threads, quota):
    for name, content in files.items():
        cgroup(name, content)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    found = list(check_processor())
    assert f"{threads} thread(s)" in found[0].sentence
    if quota is None:
        assert notes(found) == []
    else:
        (sentence,) = notes(found)
        assert f"may use {quota} processor(s)" in sentence
        assert f"OMP_NUM_THREADS={int(float(quota))}" in sentence


@pytest.mark.parametrize("name", ["memory.max", "batch/memory.max", "memory/memory.limit_in_bytes"])
def test_the_memory_of_a_container_is_what_counts(cgroup, name):
    without = next(iter(check_memory())).sentence
    cgroup(name, "max\n")
    assert next(iter(check_memory())).sentence == without
    cgroup(name, f"{3 << 29}\n")
    found = list(check_memory())
    assert found[0].sentence == "1.5 GiB of memory"
    assert len(notes(found)) == 1


def test_the_cpu_computes_where_it_was_asked_to():
    (found,) = check_devices("cpu")
    assert found.verdict is Verdict.FINE
    assert "as asked for" in found.sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_said_why():
    (found,) = check_devices("auto")
    assert "CUDA" in found.sentence or "--gpus all" in found.sentence
    with pytest.raises(UserError, match="No CUDA device"):
        list(check_devices("cuda"))


@pytest.mark.gpu
def test_every_gpu_computes():
    found = list(check_devices("cuda"))
    assert len(found) == torch.cuda.device_count()
    assert {each.verdict for each in found} == {Verdict.FINE}


@pytest.mark.parametrize("wrong", [False, True])
def test_a_gpu_that_computes_wrong_numbers_is_told(monkeypatch, wrong):
    monkeypatch.setattr(machine, "find_devices", lambda _: ("cpu:0",))  # stands in for a GPU
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 << 30, 4 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    right, calls = torch.nn.functional.conv2d, []

    def convolve(*arguments):
        calls.append(arguments)
        return right(*arguments) + (wrong and len(calls) == 1)

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)
    (found,) = check_devices("auto")
    assert len(calls) == 2
    if wrong:
        assert found.verdict is Verdict.FAILED
        assert "wrong numbers" in found.sentence
    else:
        assert found.verdict is Verdict.FINE
        assert "a GPU, 2.0 of 4.0 GiB free" in found.sentence


def test_a_gpu_that_fails_hides_no_other(monkeypatch):
    def memory(device):
        if device.index == 0:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
        return 2 << 30, 4 << 30

    monkeypatch.setattr(machine, "find_devices", lambda _: ("cpu:0", "cpu:1"))  # stand in for GPUs
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    first, second = check_devices("auto")
    assert first.verdict is Verdict.FAILED
    assert first.sentence.startswith("cpu:0: ")
    assert "busy" in first.sentence
    assert second.verdict is Verdict.FINE


def test_a_map_is_written_and_nothing_left(tmp_path):
    folder = tmp_path / "new" / "output"
    found = list(check_files(folder))
    assert found[0].verdict is Verdict.FINE
    assert str(folder) in found[0].sentence
    assert list(folder.iterdir()) == []


def test_pixels_that_come_back_otherwise_are_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.tifffile, "imread", lambda *_, **__: np.zeros((700, 1100), np.uint8))
    (found,) = check_files(tmp_path)
    assert found.verdict is Verdict.FAILED
    assert str(tmp_path) in found.sentence


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="file"):
        list(check_files(file))


def test_little_room_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_LITTLE_DISK", 1 << 62)
    assert len(notes(check_files(tmp_path))) == 1
