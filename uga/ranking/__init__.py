"""Which patches of slides are worth correcting: candidates with scores, strategies that order them, a greedy choice."""

from uga.ranking.candidate import Candidate
from uga.ranking.choice import Scope, choose, rank
from uga.ranking.exclusion import Exclusion
from uga.ranking.gathering import PatchScores, black_and_white, to_uint8
from uga.ranking.grid import PatchGrid, check_stride
from uga.ranking.strategies import Features, Strategy, order

__all__ = [
    "Candidate",
    "Exclusion",
    "Features",
    "PatchGrid",
    "PatchScores",
    "Scope",
    "Strategy",
    "black_and_white",
    "check_stride",
    "choose",
    "order",
    "rank",
    "to_uint8",
]
