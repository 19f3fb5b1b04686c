"""The command that learns from what was reviewed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UgaError
from uga.model.card import CARD_FILE, read_card

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from uga.output.schema import ModelRecord
    from uga.review.queue import Queue

_UNKNOWN_MODEL = "MODEL"
_UNUSUAL = r"[^\w.-]+"


@dataclass(frozen=True, slots=True)
class FinetuneCommand:
    """A command for the shell.

    Attributes:
        text: The command.
        model: The model whose predictions were reviewed.
        is_complete: Whether the model's folder is known; ``MODEL`` stands for it otherwise.
    """

    text: str
    model: ModelRecord
    is_complete: bool


def finetune_commands(queue: Queue, models: Sequence[Path]) -> list[FinetuneCommand]:
    """The commands for a queue: one per model whose predictions are in it.

    Args:
        queue: What was reviewed.
        models: Model folders; one is named in the command of the packages that it made.
    """
    folders = {sha256: folder for folder in models if (sha256 := _sha256(folder)) is not None}
    records = {entry.record.model.sha256: entry.record.model for entry in queue.entries.values()}
    reviewed = queue.folder.resolve()
    named: set[Path] = set()
    commands = []
    for sha256, record in records.items():
        folder = folders.get(sha256)
        ending = f"-{re.sub(_UNUSUAL, '-', record.name)}" if len(records) > 1 else ""
        output = _free(reviewed.with_name(f"{reviewed.name}-finetuned{ending}"), named)
        named.add(output)
        words = [*("python", "-m", "uga", "finetune"), *("--input", str(reviewed)), *("--output", str(output))]
        words += ["--model", _UNKNOWN_MODEL if folder is None else str(folder.resolve())]
        commands.append(FinetuneCommand(shlex.join(words), record, folder is not None))
    return commands


def _sha256(model: Path) -> str | None:
    """Identity of the model in a folder, or in the one folder below it; None if there is no such."""
    cards = [card for card in (model / CARD_FILE, *sorted(model.glob(f"*/{CARD_FILE}"))) if card.is_file()]
    try:
        return read_card(cards[0]).sha256 if cards else None
    except UgaError:
        return None


def _free(folder: Path, named: Collection[Path]) -> Path:
    """The folder, or the first of its name with a number, that neither exists nor is named already."""
    number, free = 2, folder
    while free.exists() or free in named:
        number, free = number + 1, folder.with_name(f"{folder.name}-{number}")
    return free
