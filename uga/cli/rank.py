"""``uga rank``: another ranking of finished slides, without running the networks again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from uga.model.lookup import find_model
from uga.ranking import Exclusion, Scope, Strategy

log = logging.getLogger(__name__)


def rank(  # noqa: PLR0913 - each parameter is an option of the command
    folders: Annotated[list[Path], typer.Argument(help="Output folders of `uga infer`, one or several.")],
    *,
    output: Annotated[Path, typer.Option(help="New folder for ranked-patches.json and its packages.")],
    slides: Annotated[Path, typer.Option(help="Folder with the slides that were processed.")],
    model: Annotated[
        Path | None, typer.Option(envvar="UGA_MODEL", help="Model folder of the runs.  [default: as `uga infer`]")
    ] = None,
    top: Annotated[int, typer.Option(help="Patches from each part of the scope.", min=0)] = 20,
    strategy: Annotated[Strategy, typer.Option(help="Order of patches.")] = Strategy.MEAN,
    exclusion: Annotated[Exclusion, typer.Option(help="Rule that drops black and white patches.")] = Exclusion.PAPER,
    scope: Annotated[Scope, typer.Option(help="Rank per slide, per centre or over all.")] = Scope.COHORT,
    seed: Annotated[int, typer.Option(help="Seed of the seeded strategies.")] = 0,
    per_slide_cap: Annotated[
        int | None, typer.Option(help="Patches of one slide at most.", min=1, show_default="no cap")
    ] = None,
) -> None:
    """Rank the patches of finished slides anew and write their annotation packages.

    Reads patch-scores.csv of every finished slide below the folders; slides that one run left together and slides of
    several runs with the same model can be ranked as one cohort.

    entropy, disagreement, mutual-information, variation-ratio, threshold-dice, class-stratified and class-balanced
    order by scores that `uga infer` keeps with --extra-scores. uncertainty-diversity runs the encoder of one fold over
    the most uncertain patches.
    """
    from uga.model.folder import load_model  # noqa: PLC0415 - --help should not wait for torch
    from uga.reranking import Ranking, rerank  # noqa: PLC0415

    verified = load_model(find_model(model))
    ranking = Ranking(
        top=top, strategy=strategy, exclusion=exclusion, scope=scope, seed=seed, per_slide_cap=per_slide_cap
    )
    count = rerank(folders, output, slides, verified, ranking)
    log.info("%d patches ranked in %s", count, output / "ranked-patches.json")
