"""What a run does to every slide: a model and options, and how both are told to readers of its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.output.manifest import installed_versions
from uga.output.report import Provenance
from uga.output.schema import ModelRecord, UncertaintyRecord

if TYPE_CHECKING:
    from datetime import datetime

    from uga.model.folder import Model
    from uga.options import RunOptions


@dataclass(frozen=True)
class Recipe:
    """A verified model, the folds of it that are used, and the options of a run."""

    model: Model
    folds: tuple[int, ...]
    options: RunOptions

    @property
    def spacing_um(self) -> float:
        """Working spacing, um/px."""
        return self.model.spacing_um if self.options.spacing_um is None else self.options.spacing_um

    @property
    def model_record(self) -> ModelRecord:
        """The model, for the JSON files."""
        return ModelRecord(name=self.model.name, sha256=self.model.sha256, folds=self.folds)

    @property
    def uncertainty_record(self) -> UncertaintyRecord:
        """The measure, for the JSON files."""
        measure = self.options.uncertainty
        return UncertaintyRecord(measure=measure.value, unit=measure.unit, full_scale=measure.full_scale)

    def provenance(self, started: datetime, *, device: str, seconds: dict[str, float] | None = None) -> Provenance:
        """What the reports say about how a result was made."""
        return Provenance(
            model=self.model_record,
            uncertainty=self.uncertainty_record,
            labels=self.model.labels,
            tumour_label=self.model.tumour_label,
            options=self.options.model_dump(mode="json"),
            versions=installed_versions(),
            started=started,
            timings_s=seconds or {},
            device=device,
        )
