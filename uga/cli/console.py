"""How every command talks: progress on stdout, warnings on stderr, one final sentence, one exit code."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import typer

from uga.errors import ExitCode, UgaError, gpu_sentence, is_out_of_memory, storage_sentence
from uga.stopping import Stopped, stopping_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def execute(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code; an error's sentence is the last line on stderr."""
    configure_logging()
    try:
        with stopping_on_signals():
            result = app(args=arguments, standalone_mode=False)
    except typer.TyperException as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return ExitCode.BAD_REQUEST
    except UgaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        return stopped.exit_code
    except Exception as error:  # noqa: BLE001 - nothing may end a command without a sentence
        code, sentence = _explain(error)
        sys.stderr.write(f"{sentence}\n")
        return code
    return int(result) if isinstance(result, int) else ExitCode.OK


def _explain(error: Exception) -> tuple[ExitCode, str]:
    if is_out_of_memory(error):
        return ExitCode.SLIDE_FAILED, "Memory ran out; give the run more memory or use a GPU with more."
    if sentence := storage_sentence(error):
        return ExitCode.BAD_REQUEST, sentence
    if sentence := gpu_sentence(error):
        return ExitCode.SLIDE_FAILED, sentence
    log.error("unexpected error", exc_info=error)
    return ExitCode.DEFECT, f"UGA stopped by a defect of its own ({type(error).__name__}); report it with this log."


def configure_logging() -> None:
    """Sends our information to stdout and everybody's warnings to stderr."""
    plain = logging.Formatter("%(message)s")
    out = logging.StreamHandler(sys.stdout)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    out.setFormatter(plain)
    err = logging.StreamHandler(sys.stderr)
    err.setLevel(logging.WARNING)
    err.setFormatter(plain)
    ours = logging.getLogger("uga")
    ours.setLevel(logging.INFO)
    ours.handlers = [out, err]
    ours.propagate = False
