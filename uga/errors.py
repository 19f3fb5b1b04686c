"""What can go wrong, told apart by who can mend it.

Every message is one sentence a user can act on: it names the file and the remedy.
"""

import errno
import os
import re
from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes; the same for every command and both container images."""

    OK = 0
    SLIDE_FAILED = 1
    BAD_REQUEST = 2
    DEFECT = 70


class UgaError(Exception):
    """Base of all errors that UGA raises on purpose; the message is safe to show to a user."""

    exit_code = ExitCode.DEFECT


class UserError(UgaError):
    """The request cannot be carried out: arguments, missing input, a model that fails verification."""

    exit_code = ExitCode.BAD_REQUEST


class ModelError(UserError):
    """The model folder is incomplete, altered or does not fit; raised before any slide is opened."""


class SlideError(UgaError):
    """This slide cannot be processed; the others can."""

    exit_code = ExitCode.SLIDE_FAILED


class SpacingError(SlideError):
    """The slide's pixel size is missing or implausible, or too coarse for the model."""


class DeviceError(UgaError):
    """The device no longer computes for this process; another process may be well."""

    exit_code = ExitCode.SLIDE_FAILED


_NO_ENGINE = "unable to find an engine to execute this computation"
_LACK_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    _NO_ENGINE,  # cuDNN, where no kernel's workspace fits
    "bad_alloc",  # OpenVINO
    "ailed to allocate",  # OpenVINO, for the weights of a network
    "Resource temporarily unavailable",  # OpenVINO again, where there is no room for another thread's stack
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the device or the host; torch and OpenVINO tell of both with runtime errors."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in _LACK_OF_MEMORY)
    )


def lacks_kernel(error: BaseException) -> bool:
    """Whether cuDNN found no kernel: too little memory for any, or none for this GPU and precision; it does not say."""
    return isinstance(error, RuntimeError) and _NO_ENGINE in str(error)


def first_line(error: BaseException) -> str:
    """What torch says before it explains itself, without the full stop."""
    return str(error).partition("\n")[0].rstrip(".")


_OUR_OWN = "device-side assert"  # an index out of range, for instance
_EXECUTION_FAILED = "_STATUS_EXECUTION_FAILED"  # cuBLAS and cuDNN


def gpu_sentence(error: BaseException) -> str | None:
    """What to tell where a GPU fails through no fault of ours: busy, broken, without kernels; None for other errors."""
    text = str(error)
    # torch's class by its name: what catches errors should not wait for the import of torch.
    is_gpus = any(each.__name__ == "AcceleratorError" for each in type(error).__mro__) or (
        isinstance(error, RuntimeError) and _EXECUTION_FAILED in text
    )
    if not is_gpus or _OUR_OWN in text or is_out_of_memory(error):
        return None
    return (
        f"The GPU failed ({first_line(error)}); leave it out with CUDA_VISIBLE_DEVICES or use the CPU (--device cpu; "
        "uga train and uga simulate: --devices cpu)."
    )


_MENDED_BY_USERS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
)
_FULL_DISK = re.compile(
    f"{os.strerror(errno.ENOSPC)}"  # within the texts of libraries that raise errors of their own
    r"|\d+ requested and \d+ written"  # numpy, of items
    r"|unexpected pos \d+ vs \d+"  # torch, of a checkpoint
)


def machine_sentence(error: BaseException) -> str | None:
    """`storage_sentence` or `gpu_sentence`: what to tell where the machine is at fault; None for any other error."""
    return storage_sentence(error) or gpu_sentence(error)


def storage_sentence(error: BaseException) -> str | None:
    """What to tell where a disk is full, read-only or failing, or rights are missing; None for any other error."""
    if isinstance(error, OSError) and error.errno in _MENDED_BY_USERS:
        place = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}; check disk space and permissions, then start again."
    if _FULL_DISK.search(str(error)):
        return "The disk is full; make room, then start again."
    return None
