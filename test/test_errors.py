"""Errors told apart by who can mend them."""

import errno
import os

import pytest
import torch

from uga.errors import UserError, gpu_sentence, is_out_of_memory, lacks_kernel, storage_sentence


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54:\nResource temporarily unavailable\n"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\nstd::bad_alloc"),
        RuntimeError("Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\nFailed to allocate 6 bytes"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_lack_of_memory_has_many_names(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: an illegal memory access was encountered"), UserError("out of memory"), KeyError("x")],
)
def test_other_errors_are_not_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_storage_that_fails_is_named_with_its_place(number: int) -> None:
    sentence = storage_sentence(OSError(number, os.strerror(number), "/output/slide/map.tif"))
    assert sentence is not None
    assert sentence.startswith(f"{os.strerror(number)} at /output/slide/map.tif; check disk space and permissions")


@pytest.mark.parametrize(
    "error",
    [
        OSError("1000000 requested and 262112 written"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        RuntimeError("ITK ERROR: File cannot be written\nReason: No space left on device"),
    ],
)
def test_a_full_disk_has_many_names(error: Exception) -> None:
    assert storage_sentence(error) == "The disk is full; make room, then start again."


def test_torch_says_so_itself() -> None:
    with pytest.raises((OSError, RuntimeError)) as raised:
        torch.save(torch.zeros(100_000), "/dev/full")
    assert storage_sentence(raised.value) is not None


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), OSError("broken tile"), ValueError("Disk")],
)
def test_other_errors_are_not_the_disks(error: Exception) -> None:
    assert storage_sentence(error) is None


def test_a_missing_kernel_is_told_from_other_lack_of_memory() -> None:
    assert lacks_kernel(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert not lacks_kernel(torch.OutOfMemoryError("CUDA out of memory"))
    assert not lacks_kernel(MemoryError())


ILLEGAL = torch.AcceleratorError(
    "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in https://docs.nvidia.com"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ILLEGAL, "CUDA error: an illegal memory access was encountered"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "ECC error encountered"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_fault_of_the_gpu_is_one_sentence_with_a_remedy(error: Exception, reason: str) -> None:
    sentence = gpu_sentence(error)
    assert sentence is not None
    assert sentence.startswith("The GPU failed (")
    assert f"{reason}); leave it out with CUDA_VISIBLE_DEVICES or use the CPU (--device cpu" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm(handle)`"),
        KeyError("x"),
    ],
)
def test_other_errors_are_not_the_gpus(error: Exception) -> None:
    assert gpu_sentence(error) is None
