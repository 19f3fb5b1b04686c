"""What is computed with, from what is asked for and what the machine has."""

import pytest
import torch

from uga.errors import UserError
from uga.model import arithmetic
from uga.model.arithmetic import REFERENCE, find_devices, resolve_arithmetic
from uga.model.gpus import Gpus

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def names(*arguments):
    return [str(choice) for choice in resolve_arithmetic(*arguments)]


@pytest.fixture
def machine(monkeypatch):
    """Pretends what the machine has."""

    def pretend(*, openvino=False, bf16=False, capability=None):
        monkeypatch.setattr(arithmetic, "has_openvino", lambda: openvino)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    return pretend


def test_devices(machine, monkeypatch):
    machine()
    assert find_devices("auto") == find_devices("cpu") == ("cpu",)
    with pytest.raises(UserError, match="--device cpu"):
        find_devices("cuda")
    machine(capability=(8, 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_devices("auto") == find_devices("cuda") == ("cuda:0", "cuda:1")
    assert find_devices("cpu") == ("cpu",)


@pytest.mark.parametrize(
    ("usable", "expected", "warnings"), [(("cuda:0", "cuda:2"), ("cuda:0", "cuda:2"), 1), ((), ("cpu",), 2)]
)
def test_auto_leaves_out_what_does_not_compute_and_cuda_refuses_it(monkeypatch, caplog, usable, expected, warnings):
    gpus = Gpus(usable, {"cuda:1": "cuda:1 has no kernels; use another base."})
    monkeypatch.setattr(arithmetic, "find_gpus", lambda: gpus)
    assert find_devices("auto") == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warnings
    assert caplog.records[0].message == gpus.faults["cuda:1"]
    with pytest.raises(UserError, match="cuda:1 has no kernels; use another base"):
        find_devices("cuda")
    assert find_devices("cpu") == ("cpu",)


@pytest.mark.parametrize(
    ("openvino", "bf16", "expected"),
    [
        (False, False, ["torch fp32"]),
        (False, True, ["torch bf16", "torch fp32"]),
        (True, False, ["openvino fp32", "torch fp32"]),
        (True, True, ["openvino bf16", "torch bf16", "openvino fp32", "torch fp32"]),
    ],
)
def test_auto_on_a_cpu_ends_with_the_reference(machine, openvino, bf16, expected):
    machine(openvino=openvino, bf16=bf16)
    assert names("auto", "auto", CPU) == expected
    assert resolve_arithmetic("auto", "auto", CPU)[-1] == REFERENCE


def test_amx_counts_as_bf16_too(machine, monkeypatch):
    machine()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert names("torch", "auto", CPU) == ["torch bf16", "torch fp32"]


@pytest.mark.parametrize(("capability", "low"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_on_a_gpu(machine, capability, low):
    machine(openvino=True, capability=capability)
    assert names("auto", "auto", CUDA) == [f"torch {low}", "torch fp32"]


def test_what_is_named_is_taken(machine):
    machine(openvino=True, bf16=True)
    assert names("torch", "fp32", CPU) == ["torch fp32"]
    assert names("openvino", "fp32", CPU) == ["openvino fp32"]
    assert names("openvino", "auto", CPU) == ["openvino bf16", "openvino fp32"]
    assert names("auto", "bf16", CPU) == ["openvino bf16", "torch bf16"]


@pytest.mark.parametrize(
    ("has", "request_", "remedy"),
    [
        ({}, ("openvino", "auto", CPU), "install the package openvino"),
        ({}, ("auto", "fp16", CPU), "--precision fp32 or bf16"),
        ({"openvino": True, "capability": (8, 0)}, ("openvino", "auto", CUDA), "--engine torch"),
        ({"capability": (7, 5)}, ("auto", "bf16", CUDA), "fp16 or fp32"),
    ],
)
def test_what_is_not_there_is_refused(machine, has, request_, remedy):
    machine(**has)
    with pytest.raises(UserError, match=remedy):
        resolve_arithmetic(*request_)
