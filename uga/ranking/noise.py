"""Random numbers that belong to a candidate.

Each is a hash of the seed and the candidate's place, so that it depends neither on the order nor on the number of the
candidates: the start of a slide's own list and of the list over all slides agree.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uga.ranking.candidate import Candidate

_BITS = 52


def uniform(candidate: Candidate, seed: int, purpose: str = "") -> float:
    """Uniform between 0 and 1, both excluded; independent for different seeds, places and purposes."""
    text = "\0".join((str(seed), purpose, candidate.slide_id, str(candidate.x), str(candidate.y)))
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> (64 - _BITS)
    return math.ldexp(number + 0.5, -_BITS)


def power_noised(score: float, candidate: Candidate, seed: int, purpose: str, *, beta: float) -> float:
    """ln(score) + Gumbel noise of scale 1 / beta; minus infinity for a score of 0.

    The largest of these is a draw with probabilities proportional to score^beta. Source: Kirsch et al. 2023,
    "Stochastic batch acquisition: a simple baseline for deep active learning", on scores of patches as in nnActive.
    """
    if score <= 0:
        return -math.inf
    return math.log(score) - math.log(-math.log(uniform(candidate, seed, purpose))) / beta
