"""Virtual slides: every centre its own tissues, every slide a patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.progress import ProgressLog
from uga.simulation.sources.cohorts import Cohorts, made_folder
from uga.training.cases import Case
from uga.training.labels import DEMO_MAPPING
from uga.virtual.slide import make_cohort
from uga.virtual.spec import LesionClass, SlideSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uga.simulation.config import VirtualData, VirtualSlides

NOTICE = (
    "Virtual slides are drawings. They show that the loop works and how strategies compare on tissue whose truth is "
    "known; they say nothing about patients' slides."
)
_FIRST_SEED = 10_000_000
"""Beyond the seeds of the demo ensemble's slides, so that no tissue is met again."""
_SEEDS_PER_EXPERIMENT, _SEEDS_PER_PART, _SEEDS_PER_CENTRE = 100_000, 30_000, 3_000


def prepare(data: VirtualData, folder: Path) -> Cohorts:
    """Draw the slides; those that are there are kept."""
    made_folder(folder, data)
    parts = {
        "train": specs(data, data.train, 0, data.home),
        "query": specs(data, data.query, 1, data.centres),
        "test": specs(data, data.test, 2, data.centres),
    }
    cases = {name: _draw(folder / name, wanted) for name, wanted in parts.items()}
    home = {str(centre) for centre in data.home}
    return Cohorts(
        training=cases["train"],
        query=cases["query"],
        test=cases["test"],
        mapping=DEMO_MAPPING,
        unannotated="background",
        shifted=frozenset(case.id for case in cases["query"] if case.centre not in home),
        notice=NOTICE,
    )


def _draw(folder: Path, wanted: Sequence[SlideSpec]) -> tuple[Case, ...]:
    if not wanted:
        return ()
    progress = ProgressLog(f"slides to {folder.name}", unit="%")
    return tuple(
        Case(
            id=line.slide.stem.replace("_", "-"),
            slide=folder / line.slide,
            annotation=folder / line.mask,
            centre=str(line.centre),
            patient=line.patient,
            lesion=LesionClass(line.lesion).value,
        )
        for line in make_cohort(folder, wanted, progress=lambda share: progress(round(100 * share), 100))
    )


def specs(data: VirtualData, slides: VirtualSlides | None, part: int, centres: tuple[int, ...]) -> list[SlideSpec]:
    """The slides of one part of the experiment, centre by centre, the largest lesions first."""
    if slides is None:
        return []
    counts = {lesion: getattr(slides, lesion.value) for lesion in reversed(LesionClass)}
    return [
        SlideSpec(
            seed=_FIRST_SEED
            + _SEEDS_PER_EXPERIMENT * data.seed
            + _SEEDS_PER_PART * part
            + _SEEDS_PER_CENTRE * centre
            + number,
            centre_id=centre,
            lesion=lesion,
            width_um=slides.size_um,
            height_um=slides.size_um,
            node_um=slides.node_um,
            folds=slides.folds,
            blurred_areas=slides.blurred_areas,
        )
        for centre in centres
        for number, lesion in enumerate(lesion for lesion, count in counts.items() for _ in range(count))
    ]
