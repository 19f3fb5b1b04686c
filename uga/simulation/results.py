"""What came out for every test slide, label and cell: `results.csv` and its parts."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.evaluation.agreement import Agreement
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from uga.evaluation.slides import SlideEvaluation
    from uga.simulation.cells import CellKey
    from uga.training.cases import Case

RESULTS_FILE = "results.csv"
_COLUMNS = ("slide", "centre", "patient", "class", "label", "judged_px", "tp", "fp", "fn", "dice")
_CELL_COLUMNS = ("strategy", "budget", "seed", "rarity")


@dataclass(frozen=True, slots=True)
class SlideResult:
    """Agreement on one test slide for one label; counts are pixels of the working grid."""

    slide: str
    centre: str
    patient: str
    lesion: str
    label: str
    judged_px: int
    agreement: Agreement


def slide_results(evaluations: Iterable[SlideEvaluation]) -> list[SlideResult]:
    """The results of a cell, slide by slide."""
    return [
        SlideResult(one.case.id, one.case.centre, one.case.patient, one.case.lesion, label, one.judged_px, agreement)
        for one in evaluations
        for label, agreement in one.labels.items()
    ]


def write_slides(path: Path, results: Sequence[SlideResult]) -> None:
    """Write the table of a cell."""
    _write(path, _COLUMNS, (_row(result) for result in results))


def write_results(path: Path, cells: Mapping[CellKey, Sequence[SlideResult]]) -> None:
    """Write the table of all cells; the baseline has an empty strategy and budget 0."""
    rows = (
        (key.strategy or "", key.budget, key.seed, "" if key.rarity is None else key.rarity, *_row(result))
        for key, results in cells.items()
        for result in results
    )
    _write(path, (*_CELL_COLUMNS, *_COLUMNS), rows)


def read_slides(path: Path) -> list[SlideResult]:
    """Read the table of a cell.

    Raises:
        UserError: the file is missing or not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [
                SlideResult(
                    slide=row["slide"],
                    centre=row["centre"],
                    patient=row["patient"],
                    lesion=row["class"],
                    label=row["label"],
                    judged_px=int(row["judged_px"]),
                    agreement=Agreement(int(row["tp"]), int(row["fp"]), int(row["fn"])),
                )
                for row in csv.DictReader(stream, strict=True)
            ]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as the table of a cell ({error}); remove the cell's folder.") from error


def described(results: Iterable[SlideResult], cohort: Iterable[Case]) -> list[SlideResult]:
    """Results with centre, patient and class as the cohort has them now: counts do not depend on them."""
    cases = {case.id: case for case in cohort}
    return [
        replace(result, centre=case.centre, patient=case.patient, lesion=case.lesion)
        for result in results
        for case in (cases[result.slide],)
    ]


def _row(result: SlideResult) -> tuple[object, ...]:
    agreement = result.agreement
    dice = agreement.dice
    return (
        *(result.slide, result.centre, result.patient, result.lesion, result.label, result.judged_px),
        *agreement.counts,
        "" if dice is None else f"{dice:.6f}",
    )


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
