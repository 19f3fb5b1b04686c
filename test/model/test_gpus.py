"""Which GPUs can be computed on, on a machine whose GPUs are made up."""

from dataclasses import dataclass, field

import pytest
import torch

from uga.model import gpus
from uga.model.gpus import Gpus, find_gpus

CUDA_12_6 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@dataclass
class Machine:
    """GPUs by their compute capability; those that do not compute; those that were tried."""

    capabilities: list[tuple[int, int]]
    broken: set[int] = field(default_factory=set)
    tried: list[int] = field(default_factory=list)
    initialised: bool = False

    def compute(self, device: torch.device) -> None:
        self.tried.append(device.index)
        if device.index in self.broken:
            raise torch.AcceleratorError(
                "CUDA error: no kernel image is available for execution on the device\nSearch for it."
            )

    def init(self) -> None:
        self.initialised = True

    def count(self) -> int:
        return len(self.capabilities) if self.initialised else 7  # of NVML, which does not see how GPUs are split


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that makes up the machine, and torch's list of kernels."""

    def make_up(*capabilities, kernels=CUDA_12_6, broken=()):
        made_up = Machine(list(capabilities), set(broken))
        replaced = {
            "is_available": lambda: bool(capabilities),
            "init": made_up.init,
            "device_count": made_up.count,
            "get_device_capability": made_up.capabilities.__getitem__,
            "get_device_name": lambda index: f"GPU number {index}",
            "get_arch_list": lambda: kernels,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(torch.cuda, name, function)
        monkeypatch.setattr(torch.version, "cuda", "12.6")
        monkeypatch.setattr(gpus, "_compute", made_up.compute)
        return made_up

    return make_up


def test_without_gpus_nothing_is_started(machine):
    made_up = machine()
    assert find_gpus() == Gpus()
    assert not made_up.initialised


def test_gpus_are_those_that_cuda_counts_once_it_has_started(machine):
    machine((9, 0), (9, 0))
    assert find_gpus() == Gpus(("cuda:0", "cuda:1"))


@pytest.mark.parametrize(
    "capability", [(5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)], ids="{0[0]}.{0[1]}".format
)
def test_a_gpu_that_torch_names_kernels_for_is_not_tried(machine, capability):
    made_up = machine(capability, broken={0})
    assert find_gpus().usable == ("cuda:0",)
    assert made_up.tried == []


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [
        ((12, 0), CUDA_12_6),
        ((10, 0), CUDA_12_6),
        ((7, 0), CUDA_13),
        ((8, 0), ["sm_86"]),
        ((12, 0), ["compute_90"]),
        ((8, 0), []),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_gpu_that_torch_names_no_kernels_for_counts_if_it_computes(machine, capability, kernels, broken):
    made_up = machine((9, 0), capability, kernels=[*kernels, "sm_90"], broken={1} if broken else ())
    found = find_gpus()
    assert found.usable == (("cuda:0",) if broken else ("cuda:0", "cuda:1"))
    assert made_up.tried == [1]
    assert list(found.faults) == (["cuda:1"] if broken else [])
    for sentence in found.faults.values():
        assert sentence.startswith("cuda:1 (GPU number 1) does not compute (CUDA error: no kernel image is available")
        assert (
            f"built for CUDA 12.6, has no kernels for compute capability {capability[0]}.{capability[1]};" in sentence
        )
        assert "build.sh --base-image, docs/deploy.md" in sentence
        assert "CUDA_VISIBLE_DEVICES" in sentence
        assert "\n" not in sentence


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpus_here_compute():
    found = find_gpus()
    assert found.faults == {}
    for name in found.usable:
        gpus._compute(torch.device(name))
