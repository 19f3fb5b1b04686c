"""Parent and fine-tuned ensemble on the same patches, and whether the new one may be released."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from uga.finetuning.assess import Scores, Tally, fold_probabilities
from uga.progress import ProgressLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from uga.finetuning.patches import LearningPatch
    from uga.model.ensemble import Ensemble

_COLLAPSE = 0.5


class Comparison(BaseModel):
    """Scores of the parent and of the fine-tuned ensemble on the same patches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Scores
    after: Scores

    def loss(self, label: str) -> float:
        """Dice lost for a label; for one that the reference does not hold, whose Dice says little, area newly given it.

        Returns:
            Dice, or a share of the judged pixels; negative where it became better.
        """
        if label in self.before.absent:
            return self.after.absent[label] - self.before.absent[label]
        before, after = self.before.dice[label], self.after.dice[label]
        assert before is not None and after is not None  # noqa: S101, PT018 - the reference holds it
        return before - after

    @property
    def sentence(self) -> str:
        """Such as ``Dice tumour 0.655 to 0.812``."""
        before, after = self.before.dice, self.after.dice
        return ", ".join(f"Dice {name} {shown_dice(before[name])} to {shown_dice(after[name])}" for name in before)

    @property
    def folds_have_converged(self) -> bool:
        """Whether the folds disagree less than half as much as before: their uncertainty would say little."""
        return self.after.disagreement < _COLLAPSE * self.before.disagreement


def shown_dice(value: float | None) -> str:
    """For people."""
    return "none" if value is None else f"{value:.3f}"


class Verdict(BaseModel):
    """What the guard says.

    Attributes:
        passed: Whether no label lost more than the tolerance; None if there were no old patches to look at.
        tolerance: Dice a label may lose, or share of the area that a label may wrongly gain.
        lost: For each foreground label, see `Comparison.loss`.
        sentence: The same for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool | None
    tolerance: float
    lost: dict[str, float]
    sentence: str


class Pair(NamedTuple):
    """A patch and the fold softmaxes (K, C, h, w) of both ensembles on it."""

    patch: LearningPatch
    before: torch.Tensor
    after: torch.Tensor


@dataclass(frozen=True)
class Rivals:
    """The parent and the fine-tuned ensemble."""

    parent: Ensemble
    tuned: Ensemble

    def on(self, patches: Sequence[LearningPatch], title: str) -> Iterator[Pair]:
        """Both ensembles on each patch in turn."""
        progress = ProgressLog(title, unit="patches")
        for done, patch in enumerate(patches, start=1):
            image = patch.read_image()
            yield Pair(patch, fold_probabilities(self.parent, image), fold_probabilities(self.tuned, image))
            progress(done, len(patches))


class ComparisonTally:
    """Gathers a `Comparison`; a patch that was held out of a fold is judged by that fold alone."""

    def __init__(self, labels: Mapping[str, int], held_out: Mapping[str, int | None]) -> None:
        self._tallies = Tally(labels), Tally(labels)
        self._held_out = held_out

    def add(self, pair: Pair) -> None:
        """Add a patch."""
        reference, fold = pair.patch.read_labels(), self._held_out.get(pair.patch.name)
        for tally, probabilities in zip(self._tallies, (pair.before, pair.after), strict=True):
            tally.add(probabilities, reference, fold=fold)

    def result(self) -> Comparison | None:
        """None if no pixel was judged."""
        before, after = (tally.scores() for tally in self._tallies)
        return None if before is None or after is None else Comparison(before=before, after=after)


def judge(old: Comparison | None, tolerance: float) -> Verdict:
    """Whether the fine-tuned ensemble still does on old patches what its parent did."""
    if old is None:
        return Verdict(
            passed=None,
            tolerance=tolerance,
            lost={},
            sentence="There are no old patches (no hold-out or replay pack), so nothing guards against forgetting: "
            "evaluate the new model on slides of the old centres before use.",
        )
    lost = {label: old.loss(label) for label in old.before.dice}
    worst = max(lost, key=lambda label: lost[label])
    passed = lost[worst] <= tolerance
    amount, more = f"{abs(lost[worst]):.3f}", lost[worst] > 0
    if worst in old.before.absent:
        change = f", which they do not hold, is found on {amount} {'more' if more else 'less'} of their area"
    else:
        change = f" {'lost' if more else 'gained'} {amount} Dice"
    return Verdict(
        passed=passed,
        tolerance=tolerance,
        lost=lost,
        sentence=f"On old patches {worst}{change}; {tolerance:g} may be lost.",
    )


def subset(patches: Sequence[LearningPatch], count: int, *, seed: int) -> list[LearningPatch]:
    """At most ``count`` patches (0: all), spread over the slides, in their own order."""
    if not count or len(patches) <= count:
        return list(patches)
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    queues: dict[str, list[int]] = {}
    for index in rng.sample(range(len(patches)), len(patches)):
        queues.setdefault(patches[index].slide, []).append(index)
    in_turn = sorted((place, slide, index) for slide, queue in queues.items() for place, index in enumerate(queue))
    return [patches[index] for index in sorted(index for _, _, index in in_turn[:count])]
