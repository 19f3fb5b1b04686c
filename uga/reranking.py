"""A new ranked list over finished slides, with annotation packages, from their scores and maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.exporting import FinishedRuns
from uga.output.files import write_json
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.schema import RankedPatches
from uga.ranking import Exclusion, Scope, Strategy, rank
from uga.scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from uga.model.folder import Model
    from uga.output.schema import RankedPatch
    from uga.ranking import Candidate, Features


@dataclass(frozen=True, slots=True)
class Ranking:
    """How patches are ranked; see `uga.ranking.rank`."""

    top: int = 20
    strategy: Strategy = Strategy.MEAN
    exclusion: Exclusion = Exclusion.PAPER
    scope: Scope = Scope.COHORT
    seed: int = 0
    per_slide_cap: int | None = None

    def of(self, candidates: Sequence[Candidate], features: Features | None) -> list[Candidate]:
        """The ranked candidates, best first."""
        return rank(
            candidates,
            top=self.top,
            strategy=self.strategy,
            exclusion=self.exclusion,
            scope=self.scope,
            seed=self.seed,
            per_slide_cap=self.per_slide_cap,
            features=features,
        )


def rerank(folders: Sequence[Path], output: Path, slides: Path, model: Model, ranking: Ranking) -> int:
    """Ranks all patches of finished slides and writes the list and a package per patch into ``output``.

    Args:
        folders: output folders of one or several runs.
        output: a new or empty folder.
        slides: where the slides lie.
        model: the model of the runs; names the labels.
        ranking: how to rank.

    Returns:
        The number of patches ranked.

    Raises:
        UserError: the folders hold no finished slide, do not belong together, a slide is missing, or the strategy needs
            what the runs did not keep.
    """
    if output.exists() and any(output.iterdir()):
        msg = f"{output} is not empty; name a new folder with --output."
        raise UserError(msg)
    runs = FinishedRuns.find(folders, slides, model)
    candidates = [candidate for one in runs.finished.values() for candidate in read_scores(one.folder)]
    chosen = ranking.of(candidates, _features(runs) if ranking.strategy.needs_features else None)
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


def _features(runs: FinishedRuns) -> Features:
    """What the ensemble's encoder makes of patches, on the CPU: the few most uncertain ones do not need more."""
    import torch  # noqa: PLC0415 - only this strategy needs it

    from uga.features import PatchEncoder, features_of  # noqa: PLC0415

    encoder = PatchEncoder(runs.model, torch.device("cpu"))

    def features(candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        runs.require(candidate.slide_id for candidate in candidates)
        return features_of(candidates, encoder, runs.open)

    return features


def _export(number: int, candidate: Candidate, runs: FinishedRuns, output: Path) -> RankedPatch:
    with runs.exporter(candidate.slide_id, output) as exporter:
        package, patch = exporter.export(candidate, number)
    folder = package.relative_to(output).as_posix()
    return patch.model_copy(update={"slide_id": candidate.slide_id, "folder": folder})
