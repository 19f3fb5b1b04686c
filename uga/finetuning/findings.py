"""What both ensembles say of corrections and old patches, gathered for the report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Literal

from uga.finetuning.comparison import ComparisonTally
from uga.finetuning.report import Album
from uga.finetuning.schema import Comparisons, UsedCorrection
from uga.output.schema import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uga.corrections import Correction
    from uga.finetuning.comparison import Comparison, Rivals
    from uga.finetuning.patches import LearningPatch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OldPatches:
    """Patches of the parent's training or hold-out, for the guard.

    Attributes:
        source: Where they are from; None if there are none.
        patches: The patches to compare on.
        judged_by: The fold that has not learned from a patch; patches that are not named are judged by the ensemble.
    """

    source: Literal["holdout", "replay"] | None
    patches: Sequence[LearningPatch]
    judged_by: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Findings:
    """All comparisons, and each correction on its own."""

    corrections: tuple[UsedCorrection, ...]
    comparisons: Comparisons
    album: Album


def gather(
    rivals: Rivals,
    corrections: Sequence[Correction],
    patches: Sequence[LearningPatch],
    held_out: Mapping[str, int | None],
    old: OldPatches,
    *,
    compare: bool = True,
) -> Findings:
    """Run both ensembles over everything.

    Args:
        rivals: The ensembles.
        corrections: Those learned from.
        patches: The same, in the same order.
        held_out: The fold that has not learned from each patch, None if all have.
        old: Old patches.
        compare: Whether to run them over the corrections too, which is most of the work if there are many.
    """
    labels = rivals.parent.model.labels
    unseen, whole, used, album = ComparisonTally(labels, held_out), ComparisonTally(labels, {}), [], Album()
    pairs = rivals.on(patches, "comparing on corrections") if compare else repeat(None, len(patches))
    for correction, patch, pair in zip(corrections, patches, pairs, strict=True):
        fold, alone = held_out[patch.name], ComparisonTally(labels, {})
        if pair is not None:
            for tally in (whole, alone) if fold is None else (whole, alone, unseen):
                tally.add(pair)
            album.add(pair)
        used.append(_used(correction, fold, alone.result()))
    remembered = ComparisonTally(labels, old.judged_by)
    for pair in rivals.on(old.patches, "comparing on old patches"):
        remembered.add(pair)
    compared = Comparisons(
        held_out_corrections=unseen.result(),
        corrections=whole.result(),
        old=remembered.result(),
        old_source=old.source,
    )
    for name, comparison in (
        ("Held-out corrections", compared.held_out_corrections),
        ("Corrections, as learned", compared.corrections),
        ("Old patches", compared.old),
    ):
        if comparison is not None:
            log.info("%s: %s.", name, comparison.sentence)
    return Findings(tuple(used), compared, album)


def _used(correction: Correction, fold: int | None, alone: Comparison | None) -> UsedCorrection:
    judged = correction.labels != NOT_JUDGED
    changed = (correction.labels != correction.prediction) & judged
    return UsedCorrection(
        name=correction.name,
        slide=correction.slide_id,
        centre=correction.centre,
        kind=correction.kind,
        sha256=correction.sha256,
        judged=float(judged.mean()),
        changed=float(changed.sum() / max(1, judged.sum())),
        fold=fold,
        before={} if alone is None else alone.before.dice,
        after={} if alone is None else alone.after.dice,
    )
