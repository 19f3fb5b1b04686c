"""Which patches are not worth a clinician's time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uga.ranking.candidate import Candidate


class Exclusion(StrEnum):
    """A rule that drops patches.

    ``paper``: black or white pixels exceed 70 % of the patch. ``reference``: the authors' code, which keeps a patch of
    at most 40 % black that is at most 30 % white or holds predicted tumour.
    """

    PAPER = "paper"
    REFERENCE = "reference"
    NONE = "none"

    def excludes(self, candidate: Candidate) -> bool:
        """Whether the candidate is dropped."""
        if self is Exclusion.PAPER:
            return candidate.black_fraction > 0.7 or candidate.white_fraction > 0.7
        if self is Exclusion.REFERENCE:
            return candidate.black_fraction > 0.4 or (candidate.white_fraction > 0.3 and candidate.tumour_fraction == 0)
        return False
