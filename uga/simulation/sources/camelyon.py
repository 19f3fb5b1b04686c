"""Camelyon16 to train on, Camelyon17 to query and to test on, as in the paper.

The paper takes Camelyon17's 50 annotated slides and 50 benign ones, queries 75 and tests on 25. Which ones is not
published; here they are drawn with a seed: benign slides centre by centre, and a split by patient.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.simulation.sources.cohorts import Cohorts
from uga.training.camelyon import find_camelyon
from uga.training.cases import LESION_CLASSES, Case
from uga.training.labels import DEFAULT_MAPPING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from uga.simulation.config import CamelyonData

NOTICE = (
    "Camelyon16 and Camelyon17 (CC0). The benign slides and the split are drawn here; the paper's are not published."
)
_CAMELYON17 = re.compile(r"patient_\d{3}", re.IGNORECASE)


def prepare(data: CamelyonData, given: Path) -> Cohorts:
    """Find the slides.

    Raises:
        UserError: the folder lacks slides of a part.
    """
    found = find_camelyon(given)
    of_17 = [slide for slide in found if _CAMELYON17.match(slide.patient)]
    training = [slide for slide in found if slide not in of_17 and slide.centre in data.train_centres]
    centres = data.centres or tuple(sorted({slide.centre for slide in of_17}))
    query: list[Case] = []
    test: list[Case] = []
    for centre in centres:
        own = _chosen([slide for slide in of_17 if slide.centre == centre], data, centre)
        for_test = _test_patients(own, data.test_share, f"{data.seed} {centre}")
        query += [slide for slide in own if slide.patient not in for_test]
        test += [slide for slide in own if slide.patient in for_test]
    return Cohorts(
        training=tuple(training),
        query=tuple(query),
        test=tuple(test),
        mapping=DEFAULT_MAPPING,
        unannotated="background",
        shifted=frozenset(case.id for case in query if case.centre not in data.home),
        notice=NOTICE,
    )


def _chosen(slides: Sequence[Case], data: CamelyonData, centre: str) -> list[Case]:
    """All annotated slides of a centre, and as many benign ones as asked for."""
    annotated = [slide for slide in slides if slide.lesion != "negative"]
    benign = sorted((slide for slide in slides if slide.lesion == "negative"), key=lambda slide: slide.slide.name)
    if not annotated:
        raise UserError(
            f"Camelyon17's {centre} has no annotated slide in the folder; add its XML files, or name other centres in "
            "the configuration."
        )
    random.Random(f"{data.seed} {centre} benign").shuffle(benign)  # noqa: S311 - a choice, not a secret
    return annotated + benign[: round(data.benign_per_annotated * len(annotated))]


def _test_patients(slides: Iterable[Case], share: float, seed: str) -> set[str]:
    """Patients whose slides are tested on: dealt class by class, so that both parts hold all classes where they can.

    A patient counts as the worst of its slides. Every patient is dealt to the part that lacks most of its share.
    """
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for slide in slides:
        by_patient[slide.patient].append(slide)
    worst = {
        patient: max(LESION_CLASSES.index(slide.lesion) if slide.lesion != "unknown" else 0 for slide in own)
        for patient, own in by_patient.items()
    }
    patients = sorted(by_patient)
    random.Random(seed).shuffle(patients)  # noqa: S311 - a split, not a secret
    patients.sort(key=lambda patient: -worst[patient])
    test: set[str] = set()
    dealt = tested = 0
    for patient in patients:
        count = len(by_patient[patient])
        dealt += count
        if share * dealt - tested >= count / 2:
            test.add(patient)
            tested += count
    return test
