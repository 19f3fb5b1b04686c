"""Folds in processes of their own: the same weights, no survivors, errors that reach the user."""

import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from job_helpers import (
    abort,
    die,
    fail,
    fail_once,
    fill_the_disk,
    ignore_the_end,
    lack_memory,
    lose_the_gpu,
    succeed,
    succeed_and_fall_apart,
    wait,
    wait_in_order,
)
from training_helpers import tiny_preset, write_synthetic_dataset

from uga.errors import UserError
from uga.model.gpus import Gpus
from uga.processes import _GRACE_S, Job, run_together
from uga.training import workers
from uga.training.dataset import Dataset, preprocess
from uga.training.folds import Compute, results_folder, train_folds, validation_dice
from uga.training.workers import Slot, _visible, deal, resolve_devices, train_rank, train_slots


@pytest.fixture(autouse=True)
def _environment():
    before, threads = dict(os.environ), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)


def _prepared(work: Path, **settings: int) -> Dataset:
    preset = tiny_preset(**settings)
    dataset = write_synthetic_dataset(work, preset)
    preprocess(dataset, preset, folds=2, seed=0)
    return dataset


def _hash(dataset: Dataset, fold: int) -> str:
    content = torch.load(results_folder(dataset) / f"fold_{fold}" / "checkpoint_final.pth", weights_only=True)
    digest = hashlib.sha256()
    for name, tensor in content["network_weights"].items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("folds", "devices", "options", "expected"),
    [
        (5, ["cpu"], {}, [("cpu", (0, 1, 2, 3, 4))]),
        (5, ["cpu"], {"parallel": 2}, [("cpu", (0, 2, 4)), ("cpu", (1, 3))]),
        (5, ["cuda:0", "cuda:1"], {}, [("cuda:0", (0, 2, 4)), ("cuda:1", (1, 3))]),
        (3, ["cuda:0", "cuda:1"], {"parallel": 3}, [("cuda:0", (0,)), ("cuda:1", (1,)), ("cuda:0", (2,))]),
        (2, ["cuda:0", "cuda:1"], {"devices_per_fold": 2}, [("cuda:0 cuda:1", (0, 1))]),
        (
            3,
            ["cuda:0", "cuda:1", "cuda:2", "cuda:3"],
            {"devices_per_fold": 2},
            [("cuda:0 cuda:1", (0, 2)), ("cuda:2 cuda:3", (1,))],
        ),
    ],
    ids=["sequence", "parallel", "gpus", "fewer-folds", "ddp", "ddp-groups"],
)
def test_folds_are_dealt_to_devices(folds, devices, options, expected):
    assert deal(range(folds), devices, **options) == [Slot(tuple(d.split()), f) for d, f in expected]


def test_devices_must_make_whole_groups_and_exist(monkeypatch):
    with pytest.raises(UserError, match="3 devices do not make groups of 2"):
        deal(range(5), ["cuda:0", "cuda:1", "cuda:2"], devices_per_fold=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_devices("auto") == resolve_devices("cpu") == ("cpu",)
    with pytest.raises(UserError, match="no GPU was found"):
        resolve_devices("cuda")
    monkeypatch.setattr(workers, "find_gpus", lambda: Gpus(("cuda:0", "cuda:1")))
    assert resolve_devices("auto") == resolve_devices("cuda") == ("cuda:0",)
    assert resolve_devices("cuda:1, cuda:0") == ("cuda:1", "cuda:0")
    for choice in ("cuda:2", "cuda:0,cuda:0", "cpu,cuda:0", "tpu"):
        with pytest.raises(UserError, match="the GPUs found are cuda:0, cuda:1"):
            resolve_devices(choice)


def test_a_gpu_that_does_not_compute_is_left_out_or_refused(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)  # a command that ran before has cut it off
    gpus = Gpus(("cuda:1",), {"cuda:0": "cuda:0 has no kernels; use another base."})
    monkeypatch.setattr(workers, "find_gpus", lambda: gpus)
    assert resolve_devices("auto") == ("cuda:1",)
    assert gpus.faults["cuda:0"] in caplog.text
    assert resolve_devices("cuda:1") == ("cuda:1",)
    for choice in ("cuda", "cuda:1,cuda:0"):
        with pytest.raises(UserError, match="cuda:0 has no kernels; use another base"):
            resolve_devices(choice)


@pytest.mark.parametrize(("shown", "expected"), [(None, "1"), ("2,3", "3"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_gpu_keeps_its_name_where_only_some_are_shown(monkeypatch, shown, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert _visible(torch.device("cuda:1")) == expected


def test_parallel_folds_have_the_weights_of_a_sequence(tmp_path):
    sequence, parallel = _prepared(tmp_path / "a", epochs=2), _prepared(tmp_path / "b", epochs=2)
    sequence.folders.activate()
    train_folds(sequence, [0, 1], device=torch.device("cpu"), threads=1)
    parallel.folders.activate()
    train_slots(parallel, deal([0, 1], ["cpu"], parallel=2), threads=1, augmentation_processes=0)
    hashes = [[_hash(dataset, fold) for fold in (0, 1)] for dataset in (sequence, parallel)]
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[0][1]


def _rank_on_cpu(rank, size, store, folds, dataset, compute):
    """`train_rank` on a CPU; nnU-Net wraps networks for GPUs only."""
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module  # noqa: N813, PLC0415

    wrapper = module.DDP
    module.DDP = lambda network, device_ids: wrapper(network)
    torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda network: network
    train_rank(rank, size, store, folds, dataset, compute)


@pytest.mark.slow
def test_two_processes_train_a_fold_together(tmp_path):
    dataset = _prepared(tmp_path / "work", epochs=12, iterations=6)
    compute = Compute(torch.device("cpu"), threads=1)
    rest = (2, tmp_path / "store", (0,), dataset, compute)
    run_together([Job("Training fold 0", _rank_on_cpu, (rank, *rest)) for rank in range(2)])
    assert validation_dice(results_folder(dataset), 0)["tumour"].dice > 0.6
    content = torch.load(results_folder(dataset) / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert not any(name.startswith("module.") for name in content["network_weights"])
    # Half of the batch of two each: were the gradients not shared, this would be the training of one half.
    alone = _prepared(tmp_path / "alone", epochs=12, iterations=6)
    alone.folders.activate()
    train_folds(alone, [0], device=torch.device("cpu"), threads=1)
    assert _hash(alone, 0) != _hash(dataset, 0)


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        (fail, "The batch is too large; make it smaller."),
        (die, r"Job 1 was killed \(signal 9\), often for lack of memory"),
        (abort, r"Job 1 was killed \(signal 6\), often a fault of the GPU"),
        (lose_the_gpu, r"Job 1: The GPU failed \(CUDA error: unspecified launch failure\); leave it out"),
        (lack_memory, "Job 1 ran out of memory"),
        (fill_the_disk, "Job 1: No space left on device"),
    ],
)
def test_a_failure_reaches_the_user_and_stops_the_others(tmp_path, failing, message):
    pid = tmp_path / "pid"
    with pytest.raises(UserError, match=message) as caught:
        run_together([Job("Job 0", wait, (pid,)), Job("Job 1", failing, (tmp_path,))])
    assert "\n" not in str(caught.value)
    if pid.exists():  # else it was stopped before it began
        assert not _is_running(int(pid.read_text()))


def test_no_library_can_spoil_the_end_of_a_job(tmp_path):
    run_together([Job("Job", succeed_and_fall_apart, (tmp_path / "file",))])
    assert (tmp_path / "file").exists()


def test_others_may_go_on_after_a_failure(tmp_path):
    jobs = [
        Job("Job 0", die, (tmp_path,)),
        Job("Job 1", succeed, (tmp_path / "file",)),
        Job("Job 2", fail, (tmp_path,)),
    ]
    died, ended, failed = run_together(jobs, keep_going=True)
    assert "Job 0 was killed (signal 9)" in str(died)
    assert ended is None
    assert str(failed) == "The batch is too large; make it smaller."
    assert (tmp_path / "file").exists()


def test_all_are_stopped_at_once(tmp_path):
    ready = [tmp_path / "a", tmp_path / "b"]
    jobs = [Job(path.name, ignore_the_end, (path,)) for path in ready]
    with pytest.raises(UserError, match="too large"):
        run_together([*jobs, Job("failing", fail_once, (ready,))])
    first, second = (float(path.with_suffix(".stopped").read_text()) for path in ready)
    assert abs(first - second) < _GRACE_S / 2  # one after the other, the second had waited all of it


def test_a_stopped_process_is_silent(tmp_path, capfd):
    ready = tmp_path / "ready"
    with pytest.raises(UserError, match="too large"):
        run_together([Job("waiting", wait_in_order, (ready,)), Job("failing", fail_once, ([ready],))])
    assert "Traceback" not in capfd.readouterr().err


def test_a_defect_is_told_apart(tmp_path):
    with pytest.raises(RuntimeError, match="Job 0: FileNotFoundError"):
        run_together([Job("Job 0", succeed, (tmp_path / "no" / "such",))])
    run_together([Job("Job 0", succeed, (tmp_path / "file",))])
    assert (tmp_path / "file").exists()


_PARENT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from job_helpers import wait_with_child
from uga.processes import Job, run_together
run_together([Job("waiting", wait_with_child, (Path(sys.argv[1]),))])
"""


def test_nobody_outlives_a_killed_parent(tmp_path):
    script, pids = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(_PARENT.replace("run_together([", 'if __name__ == "__main__":\n    run_together(['))
    parent = subprocess.Popen([sys.executable, str(script), str(pids), *sys.path])
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    family = [int(pid) for pid in pids.read_text().split()]
    assert all(_is_running(pid) for pid in family)
    parent.kill()
    parent.wait()
    while any(_is_running(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_is_running(pid) for pid in family)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
