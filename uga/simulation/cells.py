"""Cells of the grid: what one is, what decides its result, and whether a folder already holds it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from uga import __version__
from uga.finetuning.options import RECIPE, TrainingOptions
from uga.model.card import RESEARCH_USE
from uga.output.files import sha256_file, write_json
from uga.output.schema import (
    SCHEMA_VERSION,
    ComputationRecord,
    ModelRecord,
    OutputRecord,
    Record,
    Seconds,
    Sha256,
)
from uga.simulation.oracle import Choosing  # noqa: TC001 - pydantic reads the annotations
from uga.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from uga.exporting import FinishedRuns
    from uga.model.choices import Precision
    from uga.simulation.config import SimulationConfig
    from uga.simulation.pool import PoolPatch
    from uga.simulation.sources import Cohorts
    from uga.training.cases import Case

log = logging.getLogger(__name__)

CELLS_FOLDER = "cells"
MANIFEST_FILE, SELECTED_FILE, SLIDES_FILE, REPORT_FILE = "manifest.json", "patches.csv", "slides.csv", "report.json"
MODEL_FOLDER = "model"


class CellKey(Record):
    """Which cell: a strategy, a budget, a seed, a rarity of the pool; no strategy is the baseline."""

    strategy: Choosing | None = None
    budget: int = 0
    seed: int = 0
    rarity: float | None = None

    @property
    def name(self) -> str:
        """The cell's folder."""
        if self.strategy is None:
            return "baseline"
        rarity = "" if self.rarity is None else f"-rarity{self.rarity:g}"
        return f"{self.strategy}-{self.budget:03d}-seed{self.seed}{rarity}"

    def __str__(self) -> str:
        if self.strategy is None:
            return "baseline"
        rarity = "" if self.rarity is None else f", {100 * self.rarity:g} % shifted"
        return f"{self.strategy}, {self.budget} patches, seed {self.seed}{rarity}"


BASELINE = CellKey()


def cell_keys(config: SimulationConfig) -> list[CellKey]:
    """All cells: the baseline, then seed by seed, so that a grid that is stopped early holds whole seeds."""
    grid = config.grid
    return [BASELINE] + [
        CellKey(strategy=strategy, budget=budget, seed=seed, rarity=rarity)
        for seed in grid.seeds
        for rarity in config.query.rarity or (None,)
        for budget in grid.budgets
        for strategy in grid.strategies
    ]


@dataclass(frozen=True)
class Plan:
    """A cell and the patches it corrects, with their ranks; cells of one ``identity`` have one result."""

    key: CellKey
    patches: tuple[PoolPatch, ...]
    ranks: tuple[int, ...]
    identity: str


class Guard(Record):
    """What the fine-tuning's guard said; the cell is evaluated all the same."""

    passed: bool | None
    sentence: str


class CellManifest(Record):
    """``manifest.json`` of a cell, written last: its presence means that the cell is complete.

    ``identity`` is a hash of what decides the result: baseline, corrected patches with slides and references, options,
    seed, test slides. ``shared_with`` names the cell whose result this is, where both have one identity. ``config`` is
    the whole configuration, so that `uga simulate manifest.json` repeats the cell.
    """

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    uga_version: str
    cell: CellKey
    identity: Sha256
    shared_with: str | None = None
    baseline: ModelRecord
    model: ModelRecord
    corrected: int
    replayed: int
    guard: Guard | None = None
    training: TrainingOptions | None = None
    config: dict[str, JsonValue]
    threads: int = Field(ge=1)
    computation: ComputationRecord
    versions: dict[str, str]
    started: AwareDatetime
    finished: AwareDatetime
    timings_s: dict[str, Seconds]
    outputs: tuple[OutputRecord, ...]


class Identifier:
    """Says what decides the results of cells.

    Args:
        config: The experiment.
        cohorts: Its slides.
        runs: The query slides, segmented by the baseline.
        precision: What is trained in.
    """

    def __init__(self, config: SimulationConfig, cohorts: Cohorts, runs: FinishedRuns, precision: Precision) -> None:
        self._config = config
        self._precision = precision
        self._common = {
            "uga": __version__,
            "baseline": runs.model.sha256,
            "mapping": cohorts.mapping.model_dump(mode="json"),
            "test": sorted(case_facts(case, cohorts) for case in cohorts.test),
            "inference": config.inference.model_dump(mode="json"),
        }
        self._query = {
            case.id: [runs.finished[case.id].manifest.input.quickhash, *_reference_facts(case, cohorts)]
            for case in cohorts.query
        }

    def identify(self, key: CellKey, patches: Sequence[PoolPatch]) -> str:
        """The identity of a cell; neither its strategy nor the order of its patches matters, only the set."""
        if key.strategy is None:
            return _sha256(self._common)
        chosen = sorted(patch.candidate.place for patch in patches)
        content = {
            **self._common,
            "slides": {slide: self._query[slide] for slide in sorted({place[0] for place in chosen})},
            "patches": chosen,
            "patch_px": self._config.query.patch_px,
            "unsure_um": self._config.query.unsure_um,
            "recipe": RECIPE,
            "finetuning": self._config.finetuning.options(key.seed, self._precision).model_dump(mode="json"),
        }
        return _sha256(content)


def config_record(config: SimulationConfig) -> dict[str, JsonValue]:
    """A configuration as manifests have it."""
    record: dict[str, JsonValue] = config.model_dump(mode="json", exclude_none=True)
    return record


def read_cell(folder: Path) -> CellManifest | None:
    """The manifest of a cell's folder; None if there is none that is whole."""
    file = folder / MANIFEST_FILE
    try:
        manifest = CellManifest.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        log.warning("%s cannot be read, so the cell is done again: %s", file, error)
        return None
    intact = all(
        (folder / each.path).is_file() and (folder / each.path).stat().st_size == each.size_bytes
        for each in manifest.outputs
    )
    return manifest if intact else None


def output_records(folder: Path, names: Iterable[str]) -> tuple[OutputRecord, ...]:
    """Records of files of a cell."""
    files = [folder / name for name in names]
    return tuple(
        OutputRecord(path=file.relative_to(folder).as_posix(), size_bytes=file.stat().st_size, sha256=sha256_file(file))
        for file in files
    )


def write_manifest(folder: Path, manifest: CellManifest) -> None:
    """Write the manifest; to be called when everything else is in place."""
    write_json(folder / MANIFEST_FILE, manifest)


def case_facts(case: Case, cohorts: Cohorts) -> list[Any]:
    """What tells a slide and its reference from others: their content, and what area outside all shapes is."""
    with open_slide(case.slide) as slide:
        return [case.id, slide.quickhash, *_reference_facts(case, cohorts)]


def _reference_facts(case: Case, cohorts: Cohorts) -> list[Any]:
    reference = "" if case.annotation is None else sha256_file(case.annotation)
    tissue = "" if case.tissue is None else sha256_file(case.tissue)
    return [reference, tissue, str(cohorts.resolved(case).unannotated)]


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
