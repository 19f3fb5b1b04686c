"""Where the model of a run lies; free of torch, so that ``--help`` and `uga doctor` need not wait for it."""

from __future__ import annotations

from pathlib import Path

PLATFORM_MODEL = Path("/opt/ml/model")
SHIPPED_MODEL = Path(__file__).parents[2] / "weights"


def find_model(choice: Path | None) -> Path:
    """The model folder to use: the user's, else the platform's, else the shipped one."""
    if choice is not None:
        return choice
    return PLATFORM_MODEL if holds_model(PLATFORM_MODEL) else SHIPPED_MODEL


def holds_model(path: Path) -> bool:
    """Whether a folder is meant to hold a model: it exists and is not empty (hidden files aside).

    A folder with anything in it is taken at its word, so that a broken model is reported and never passed over.
    """
    return path.is_dir() and any(
        not entry.name.startswith(".") and entry.name != "lost+found" for entry in path.iterdir()
    )
