"""In which order candidates are worth correcting. docs/method.md has each formula with its source.

A strategy is either a *key*, a number for each candidate by itself, largest first; or a *sequence*, in which the place
of a candidate depends on the ones before it. To add one: a member of `Strategy`, and an entry in `_KEYS` or
`_SEQUENCES`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from uga.errors import UserError
from uga.ranking.candidate import Candidate
from uga.ranking.diversity import farthest_first
from uga.ranking.extras import class_entropies, extra_scores
from uga.ranking.noise import power_noised, uniform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

Features = Callable[[Sequence[Candidate]], "NDArray[np.float32]"]
"""Gives a vector for each candidate, float32 (n, d)."""

_STRATIFIED_SHARE = 0.66
_BETA = 10.0
_UNCERTAIN_SHARE, _UNCERTAIN_LEAST = 0.25, 10


class Strategy(StrEnum):
    """How candidates are ordered."""

    MEAN = "mean"
    SUM = "sum"
    REFERENCE = "reference"
    ENTROPY = "entropy"
    DISAGREEMENT = "disagreement"
    MUTUAL_INFORMATION = "mutual-information"
    VARIATION_RATIO = "variation-ratio"
    THRESHOLD_DICE = "threshold-dice"
    RANDOM = "random"
    FOREGROUND_RANDOM = "foreground-random"
    CLASS_STRATIFIED = "class-stratified"
    CLASS_BALANCED = "class-balanced"
    UNCERTAINTY_DIVERSITY = "uncertainty-diversity"

    @property
    def needs_extra(self) -> bool:
        """Whether it orders by `Candidate.extra`."""
        return self in _EXTRA

    @property
    def needs_features(self) -> bool:
        """Whether it looks at what the ensemble's encoder makes of the patches."""
        return self is Strategy.UNCERTAINTY_DIVERSITY

    @property
    def is_seeded(self) -> bool:
        """Whether another seed gives another order."""
        return self in _SEEDED


def order(
    candidates: Iterable[Candidate], strategy: Strategy, *, seed: int = 0, features: Features | None = None
) -> list[Candidate]:
    """The candidates, best first. Ties go to the slide's name, then top to bottom, left to right.

    Args:
        candidates: In any order; the result does not depend on it.
        strategy: How to order.
        seed: Of the seeded strategies.
        features: For a strategy that needs them.

    Raises:
        UserError: the strategy needs extra scores that the candidates lack, or features that are not given.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.place)
    if strategy in _KEYS:
        key = _KEYS[strategy]
        return sorted(ordered, key=lambda candidate: key(candidate, seed), reverse=True)
    return _SEQUENCES[strategy](ordered, seed, features)


def merged(parts: Sequence[Sequence[Candidate]], strategy: Strategy, *, seed: int = 0) -> list[Candidate]:
    """One list of several parts that were ordered apart: by the key, or the parts' first, then their second, ones."""
    if strategy in _KEYS:
        return order((candidate for part in parts for candidate in part), strategy, seed=seed)
    longest = max(map(len, parts), default=0)
    return [part[place] for place in range(longest) for part in parts if place < len(part)]


def _extra(name: str) -> Callable[[Candidate, int], float]:
    def key(candidate: Candidate, _: int) -> float:
        scores = extra_scores(candidate.extra)
        if name not in scores:
            raise _lacks_extra(candidate)
        return scores[name]

    return key


def _lacks_extra(candidate: Candidate) -> UserError:
    return UserError(
        f"The scores of {candidate.slide_id} were kept without what this strategy orders by; run its slide with "
        "--extra-scores, or choose another --strategy."
    )


def _foreground_random(ordered: Sequence[Candidate], seed: int, _: Features | None) -> list[Candidate]:
    shuffled = sorted(ordered, key=lambda candidate: uniform(candidate, seed), reverse=True)
    return _stratified([[c for c in shuffled if c.tumour_fraction > 0]], shuffled)


def _class_stratified(ordered: Sequence[Candidate], seed: int, _: Features | None) -> list[Candidate]:
    return _by_class(ordered, seed, {})


def _class_balanced(ordered: Sequence[Candidate], seed: int, _: Features | None) -> list[Candidate]:
    """As class-stratified, with the background as one more class: what is no tumour and looks like it."""
    entropy = _KEYS[Strategy.ENTROPY]

    def of_background(candidate: Candidate) -> float:
        # p_c sum to 1, so the p_c H(p) sum to H(p).
        return max(0.0, entropy(candidate, seed) - sum(class_entropies(candidate.extra).values()))

    return _by_class(ordered, seed, {"background": of_background})


def _by_class(
    ordered: Sequence[Candidate], seed: int, also: Mapping[str, Callable[[Candidate], float]]
) -> list[Candidate]:
    entropy = _KEYS[Strategy.ENTROPY]

    def noised(score: Callable[[Candidate], float], purpose: str) -> list[Candidate]:
        noise = {c: power_noised(score(c), c, seed, purpose, beta=_BETA) for c in ordered}
        return sorted(ordered, key=lambda candidate: noise[candidate], reverse=True)

    anywhere = noised(lambda c: entropy(c, seed), "")
    labels = sorted({label for c in ordered for label in class_entropies(c.extra)})
    if ordered and not labels:
        raise _lacks_extra(ordered[0])
    strata = [noised(lambda c, label=label: class_entropies(c.extra)[label], label) for label in labels]  # type: ignore[misc]
    strata += [noised(score, name) for name, score in also.items()]
    return _stratified(strata, anywhere)


def _stratified(strata: Sequence[Sequence[Candidate]], anywhere: Sequence[Candidate]) -> list[Candidate]:
    """About two picks in three from the strata in turn, while they last, the others from anywhere.

    Source: the 66 % of nnActive's class_pe66, also of its foreground-aware random baseline.
    """
    queues = [deque(stratum) for stratum in strata]
    rest, turns = deque(anywhere), cycle(queues)
    taken: dict[Candidate, None] = {}
    from_strata = 0
    while len(taken) < len(anywhere):
        due = any(queues) and from_strata < _STRATIFIED_SHARE * (len(taken) + 1)
        queue = next(turn for turn in turns if turn) if due else rest
        candidate = queue.popleft()
        if candidate not in taken:
            taken[candidate] = None
            from_strata += due
    return list(taken)


def _uncertainty_diversity(ordered: Sequence[Candidate], _: int, features: Features | None) -> list[Candidate]:
    """The most uncertain ones, diverse first; then the others as they come."""
    if features is None:
        raise UserError("The strategy uncertainty-diversity looks at the patches again; use it with `uga rank`.")
    by_score = sorted(ordered, key=lambda candidate: candidate.score_mean, reverse=True)
    count = max(_UNCERTAIN_LEAST, round(_UNCERTAIN_SHARE * len(by_score)))
    uncertain, others = by_score[:count], by_score[count:]
    if not uncertain:
        return []
    scores = np.array([candidate.score_mean for candidate in uncertain])
    return [uncertain[index] for index in farthest_first(scores, features(uncertain))] + others


# Their names are those of the extra scores that they order by.
_BY_EXTRA = {
    Strategy.ENTROPY,
    Strategy.DISAGREEMENT,
    Strategy.MUTUAL_INFORMATION,
    Strategy.VARIATION_RATIO,
    Strategy.THRESHOLD_DICE,
}
_KEYS: dict[Strategy, Callable[[Candidate, int], float]] = {
    Strategy.MEAN: lambda candidate, _: candidate.score_mean,
    Strategy.SUM: lambda candidate, _: candidate.score_sum,
    Strategy.REFERENCE: lambda candidate, _: candidate.reference_key,
    **{strategy: _extra(strategy.value) for strategy in _BY_EXTRA},
    Strategy.RANDOM: uniform,
}
_SEQUENCES: dict[Strategy, Callable[[Sequence[Candidate], int, Features | None], list[Candidate]]] = {
    Strategy.FOREGROUND_RANDOM: _foreground_random,
    Strategy.CLASS_STRATIFIED: _class_stratified,
    Strategy.CLASS_BALANCED: _class_balanced,
    Strategy.UNCERTAINTY_DIVERSITY: _uncertainty_diversity,
}
_BY_CLASS = {Strategy.CLASS_STRATIFIED, Strategy.CLASS_BALANCED}
_EXTRA = _BY_EXTRA | _BY_CLASS
_SEEDED = {Strategy.RANDOM, Strategy.FOREGROUND_RANDOM, *_BY_CLASS}
