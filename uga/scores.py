"""``patch-scores.csv``: the score of every patch with tissue, so that slides can be ranked anew without inference."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.output.files import write_atomic
from uga.ranking import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCORES_FILE = "patch-scores.csv"
_COLUMNS = [field.name for field in fields(Candidate) if field.name != "extra"]
_EXTRA = "mean "
_INTEGERS = {"x", "y", "size"}
_TEXTS = {"slide_id", "centre"}


def write_scores(folder: Path, candidates: Iterable[Candidate]) -> None:
    """Write the table; ``x``, ``y``, ``size`` are pixels of the working grid, ``x``, ``y`` the top-left corner.

    Extra scores, which all candidates of a table have or none, get columns named ``mean`` and what they are.
    """
    rows = list(candidates)
    extra = list(rows[0].extra) if rows else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(_EXTRA + name for name in extra)])
    for candidate in rows:
        values = [getattr(candidate, name) for name in _COLUMNS]
        writer.writerow([*values, *(candidate.extra[name] for name in extra)])
    write_atomic(folder / SCORES_FILE, text.getvalue().encode())


def read_scores(folder: Path) -> list[Candidate]:
    """Read the table of an output folder; numbers come back exactly.

    Raises:
        UserError: the file is missing or not such a table.
    """
    path = folder / SCORES_FILE
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = list(reader.fieldnames or ())
            extra = names[len(_COLUMNS) :]
            if names[: len(_COLUMNS)] != _COLUMNS or not all(name.startswith(_EXTRA) for name in extra):
                raise ValueError(names)  # noqa: TRY301 - told to the user below like any other fault
            return [_candidate(row, extra) for row in reader]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        msg = f"{path} cannot be read as a table of patch scores; run the slide again."
        raise UserError(msg) from error


def _candidate(row: dict[str, str], extra: Iterable[str]) -> Candidate:
    means = {name.removeprefix(_EXTRA): float(row[name]) for name in extra}
    return Candidate(**{name: _value(name, row[name]) for name in _COLUMNS}, extra=means)  # type: ignore[arg-type]


def _value(name: str, text: str) -> str | int | float:
    if name in _TEXTS:
        return text
    return int(text) if name in _INTEGERS else float(text)
