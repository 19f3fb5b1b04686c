"""The user's own slides, named in cohort files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.simulation.sources.cohorts import Cohorts
from uga.training.cases import read_cohort
from uga.training.labels import LabelMapping

if TYPE_CHECKING:
    from pathlib import Path

    from uga.simulation.config import CohortData

NOTICE = "Figures from the slides that the configuration names."


def prepare(data: CohortData, folder: Path) -> Cohorts:
    """Read the cohort files.

    Raises:
        UserError: a file that cannot be used.
    """
    query = read_cohort(folder / data.query)
    return Cohorts(
        training=() if data.train is None else read_cohort(folder / data.train),
        query=query,
        test=read_cohort(folder / data.test),
        mapping=LabelMapping.parse(data.labels),
        unannotated=data.unannotated,
        shifted=frozenset(case.id for case in query if case.centre not in data.home),
        notice=NOTICE,
    )
