"""What no clinic can have: patches chosen by what the reference calls wrong, to measure strategies against."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from uga.ranking import Strategy
from uga.ranking.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uga.ranking import Candidate
    from uga.simulation.pool import PoolPatch


class Oracle(StrEnum):
    """Beside the strategies of a grid."""

    ORACLE = "oracle"


Choosing = Strategy | Oracle
"""How a cell chooses its patches."""


def most_wrong(patches: Sequence[PoolPatch], *, top: int, per_slide_cap: int | None) -> list[Candidate]:
    """The ``top`` patches of one pool with the largest area that the baseline has wrong, largest first.

    Ties go to the slide's name, then top to bottom, left to right.
    """

    def wrong_px(patch: PoolPatch) -> int:
        return patch.agreement.false_positive + patch.agreement.false_negative

    ordered = sorted(patches, key=lambda patch: (-wrong_px(patch), patch.candidate.place))
    return choose([patch.candidate for patch in ordered], top=top, per_slide_cap=per_slide_cap)
