"""A new ranked list over finished slides, with annotation packages, from their scores and maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.exporting import FinishedRuns
from uga.output.files import write_json
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.schema import RankedPatches
from uga.ranking import rank
from uga.scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.model.folder import Model
    from uga.output.schema import RankedPatch
    from uga.ranking import Candidate, Exclusion, Scope, Strategy


def rerank(  # noqa: PLR0913 - the options of the command
    folders: Sequence[Path],
    output: Path,
    slides: Path,
    model: Model,
    *,
    top: int,
    strategy: Strategy,
    exclusion: Exclusion,
    scope: Scope,
    seed: int,
) -> int:
    """Ranks all patches of finished slides and writes the list and a package per patch into ``output``.

    Args:
        folders: output folders of one or several runs.
        output: a new or empty folder.
        slides: where the slides lie.
        model: the model of the runs; names the labels.
        top: patches from each part of ``scope``.
        strategy: order of the patches.
        exclusion: which patches are dropped.
        scope: per slide, per centre or over all.
        seed: of the random strategies.

    Returns:
        The number of patches ranked.

    Raises:
        UserError: the folders hold no finished slide, do not belong together, or a slide is missing.
    """
    if output.exists() and any(output.iterdir()):
        msg = f"{output} is not empty; name a new folder with --output."
        raise UserError(msg)
    runs = FinishedRuns.find(folders, slides, model)
    candidates = [candidate for one in runs.finished.values() for candidate in read_scores(one.folder)]
    chosen = rank(candidates, top=top, strategy=strategy, exclusion=exclusion, scope=scope, seed=seed)
    runs.require(candidate.slide_id for candidate in chosen)
    ranked = RankedPatches(
        slides=tuple(one.record for one in runs.finished.values()),
        model=runs.ranked.model,
        uncertainty=runs.ranked.uncertainty,
        patch_size_px=runs.ranked.patch_size_px,
        spacing_um=runs.ranked.spacing_um,
        patches=tuple(_export(number, candidate, runs, output) for number, candidate in enumerate(chosen, start=1)),
    )
    write_json(output / DEFAULT_LAYOUT.ranked_patches, ranked)
    return len(ranked.patches)


def _export(number: int, candidate: Candidate, runs: FinishedRuns, output: Path) -> RankedPatch:
    with runs.exporter(candidate.slide_id, output) as exporter:
        package, patch = exporter.export(candidate, number)
    folder = package.relative_to(output).as_posix()
    return patch.model_copy(update={"slide_id": candidate.slide_id, "folder": folder})
