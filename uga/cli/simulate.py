"""``uga simulate``: the whole human-in-the-loop experiment from one configuration."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from uga.errors import ExitCode, UserError

log = logging.getLogger(__name__)


def _show(name: str | None) -> None:
    if name is not None:
        from uga.simulation.config import config_text, shipped_configs  # noqa: PLC0415

        if name not in shipped_configs():
            raise UserError(f"There is no configuration '{name}'; use one of {', '.join(shipped_configs())}.")
        typer.echo(config_text(name))
        raise typer.Exit


def simulate(  # noqa: PLR0913 - each parameter is an option of the command
    config: Annotated[
        str,
        typer.Argument(
            help="virtual, virtual-mini, nuclei, glas, glas-grade, glas-rare, camelyon; a TOML file; or a cell's "
            "manifest.json, which repeats that cell."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option(help="Folder of the experiment; a second run with it goes on.")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="UGA_DATA", help="Folder with the slides or tiles that the configuration reads."),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies with commas, such as mean,foreground-random, instead of the configuration's. The one that "
            "all are compared with must be among them.",
            show_default="the configuration's",
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Numbers of corrected patches with commas, such as 5,10; the baseline, 0, is always there.",
            show_default="the configuration's",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Seeds of the training and of seeded strategies, such as 0,1,2; each repeats all cells.",
            show_default="the configuration's",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(envvar="UGA_MODEL", help="Baseline, instead of the configuration's.")
    ] = None,
    devices: Annotated[
        str,
        typer.Option(envvar="UGA_DEVICES", help="auto (the first GPU, else the CPU), cpu, or such as cuda:0,cuda:1."),
    ] = "auto",
    parallel: Annotated[
        int, typer.Option(envvar="UGA_PARALLEL", help="Cells at the same time on each device.", min=1)
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(envvar="UGA_THREADS", help="CPU threads of a cell.", min=1, show_default="the cores, shared out"),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Work on no cell; write the reports over those that are finished.")
    ] = False,
    show_config: Annotated[  # noqa: ARG001 - its callback does the work
        str | None,
        typer.Option("--show-config", help="Print a configuration to copy and change.", callback=_show, is_eager=True),
    ] = None,
) -> ExitCode:
    """Simulate the loop: query patches, correct them from references, fine-tune, test; strategies x budgets x seeds.

    Query slides are segmented once by the baseline. Each cell of the grid corrects its patches as a perfect pathologist
    would, fine-tunes the ensemble and segments the test slides. Cells are kept, so that a run that was killed goes on,
    and a changed configuration redoes what it touches. OUTPUT gets results.csv, summary.json, tables.md, figures and
    report.html. docs/simulation.md explains the configuration. --strategies, --budgets and --seeds cut or widen its
    grid: cells that are there already are kept, and what is shown says how the grid differs from a shipped one.

    Exit codes: 0 all cells done, 1 some cell failed (failures.json says why), 2 bad request, 70 a defect of UGA.
    """
    from uga.simulation.config import load_config  # noqa: PLC0415 - --help should not wait for torch
    from uga.simulation.run import SimulationRequest  # noqa: PLC0415
    from uga.simulation.run import simulate as run  # noqa: PLC0415
    from uga.simulation.workers import Compute  # noqa: PLC0415
    from uga.training.workers import resolve_devices  # noqa: PLC0415

    loaded = load_config(config).with_grid(strategies=strategies, budgets=budgets, seeds=seeds)
    return run(
        SimulationRequest(
            loaded=loaded,
            output=output,
            compute=Compute(resolve_devices(devices), parallel, threads or loaded.threads),
            data=data,
            model=model,
            only_report=report,
        )
    )
