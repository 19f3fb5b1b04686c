"""Everything that tells about an experiment: results, summary, tables, figures, one HTML page."""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from uga.measures import Measure
from uga.output.files import write_atomic, write_json
from uga.output.manifest import installed_versions
from uga.simulation.analysis import Outcomes
from uga.simulation.cells import SLIDES_FILE, config_record, read_cell
from uga.simulation.figures import CAPTIONS, FIGURES_FOLDER, draw_figures
from uga.simulation.findings import findings
from uga.simulation.querying import (
    centre_pools,
    choices,
    home_is_least_uncertain,
    rarity_pools,
    score_qualities,
)
from uga.simulation.results import RESULTS_FILE, described, read_slides, write_results
from uga.simulation.shipped import flat
from uga.simulation.summary import Summary
from uga.simulation.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uga.simulation.cells import CellKey, CellManifest, Plan
    from uga.simulation.results import SlideResult
    from uga.simulation.run import SimulationRequest
    from uga.simulation.selection import Selector
    from uga.simulation.work import Experiment

log = logging.getLogger(__name__)

SUMMARY_FILE, TABLES_FILE, REPORT_FILE = "summary.json", "tables.md", "report.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(experiment: Experiment, plans: Sequence[Plan], selector: Selector, request: SimulationRequest) -> Path:
    """Write all reports over the cells that are finished.

    Args:
        experiment: The experiment.
        plans: All its cells.
        selector: The query pool, and what was offered to the cells.
        request: What makes the same experiment.

    Returns:
        The HTML page.
    """
    manifests = {
        plan.key: manifest
        for plan in plans
        if (manifest := read_cell(experiment.cell(plan.key))) is not None and manifest.identity == plan.identity
    }
    cohort = experiment.cohorts.test
    results = {key: described(read_slides(experiment.cell(key) / SLIDES_FILE), cohort) for key in manifests}
    write_results(experiment.output / RESULTS_FILE, results)
    summary = _summarise(experiment, plans, manifests, results, selector, request)
    write_json(experiment.output / SUMMARY_FILE, summary)
    tables = markdown(summary)
    text = "\n\n".join(f"### {title}\n\n{table}" for title, table in tables.items())
    write_atomic(experiment.output / TABLES_FILE, f"{text}\n".encode())
    figures = draw_figures(experiment.output / FIGURES_FOLDER, summary, selector.kept)
    page = experiment.output / REPORT_FILE
    _write_page(page, summary, tables, figures)
    if main := tables.get(f"Dice of {summary.label}"):
        log.info("\n%s\n", main)
    return page


def _summarise(
    experiment: Experiment,
    plans: Sequence[Plan],
    manifests: Mapping[CellKey, CellManifest],
    results: Mapping[CellKey, Sequence[SlideResult]],
    selector: Selector,
    request: SimulationRequest,
) -> Summary:
    config, runs, kept = experiment.config, selector.runs, selector.kept
    own = {
        key: [result for result in listed if result.label == config.evaluation.label] for key, listed in results.items()
    }
    outcomes = Outcomes(own, config.evaluation, runs.ranked.spacing_um)
    pools = centre_pools(kept)
    home = tuple(pool.centre for pool in pools if pool.shifted == 0)
    computed = [manifest for manifest in manifests.values() if manifest.shared_with is None]
    trained = [manifest for manifest in computed if manifest.cell.strategy is not None]
    return Summary(
        data_notice=experiment.cohorts.notice,
        name=config.name,
        title=config.title,
        description=config.description,
        label=config.evaluation.shown_as,
        unit=Measure(runs.ranked.uncertainty.measure).unit,
        per="a centre" if config.query.scope == "centre" else "in all",
        level=config.evaluation.level,
        resamples=config.evaluation.resamples,
        centres=outcomes.headline_centres if own else (),
        centres_left_out=outcomes.centres_left_out if own else (),
        dice_if_all=outcomes.dice_if_all if own else None,
        test_slides=len(experiment.cohorts.test),
        test_patients=len({case.patient for case in experiment.cohorts.test}),
        lone_patients=outcomes.lone_patients if own else 0,
        seeds=len({key.seed for key in own if key.strategy is not None}),
        compare_with=config.evaluation.compare_with,
        cells=len(plans),
        finished=len(manifests),
        points=outcomes.points if own else (),
        differences=outcomes.differences if own else (),
        areas=outcomes.areas if own else (),
        choices=choices(plans, manifests, _pools(experiment)),
        pool=pools,
        rarities=rarity_pools(selector, config.query.rarity, config.grid.seeds),
        scores=score_qualities(kept, config.evaluation),
        home_centres=home,
        home_is_least_uncertain=home_is_least_uncertain(pools, home),
        baseline=runs.ranked.model,
        given_baseline=request.model is not None,
        command=request.command,
        config=config_record(config),
        versions=installed_versions(),
        computed_on=tuple(sorted({f"{each.computation}, {each.threads} threads" for each in computed})),
        cell_seconds=_mean_seconds(trained),
        updated=datetime.now(UTC),
    )


def _pools(experiment: Experiment) -> int:
    """How many pools a budget is spent in."""
    by_centre = experiment.config.query.scope == "centre"
    return len({case.centre for case in experiment.cohorts.query}) if by_centre else 1


def _mean_seconds(manifests: Sequence[CellManifest]) -> dict[str, float]:
    stages = dict.fromkeys(stage for manifest in manifests for stage in manifest.timings_s)
    return {
        stage: round(float(np.mean([manifest.timings_s.get(stage, 0.0) for manifest in manifests])), 1)
        for stage in stages
    }


def _write_page(path: Path, summary: Summary, tables: Mapping[str, str], figures: Sequence[Path]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("simulation.html.j2").render(
        summary=summary,
        findings=findings(summary),
        tables={title: _rows(table) for title, table in tables.items()},
        figures={
            file.stem: "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode() for file in figures
        },
        captions=CAPTIONS,
        config=flat(summary.config),
    )
    write_atomic(path, page.encode())


def _rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, its head first."""
    head, _, *rows = table.splitlines()
    return [[cell.strip().replace(r"\*", "*") for cell in line.strip().strip("|").split("|")] for line in (head, *rows)]
