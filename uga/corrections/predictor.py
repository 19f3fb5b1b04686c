"""What reading corrections has to know about the model that predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uga.output.schema import PatchRecord


class Predictor(Protocol):
    """A verified model, or what a package says of its own."""

    @property
    def name(self) -> str:
        """Name from the card."""

    @property
    def sha256(self) -> str:
        """Identity of the model."""

    @property
    def labels(self) -> dict[str, int]:
        """Label names to the values in label maps; background is 0."""

    @property
    def tumour_label(self) -> str:
        """Name of the label that means tumour."""

    @property
    def tumour_value(self) -> int:
        """Its value."""

    @property
    def spacing_um(self) -> float:
        """Micrometres per pixel of label maps."""


@dataclass(frozen=True, slots=True)
class RecordedPredictor:
    """The model as a package's record names it; for tools that have the packages but not the model."""

    record: PatchRecord

    @property
    def name(self) -> str:
        """See `Predictor.name`."""
        return self.record.model.name

    @property
    def sha256(self) -> str:
        """See `Predictor.sha256`."""
        return self.record.model.sha256

    @property
    def labels(self) -> dict[str, int]:
        """See `Predictor.labels`."""
        return self.record.labels

    @property
    def tumour_label(self) -> str:
        """See `Predictor.tumour_label`."""
        return self.record.tumour_label

    @property
    def tumour_value(self) -> int:
        """See `Predictor.tumour_value`."""
        return self.record.labels[self.record.tumour_label]

    @property
    def spacing_um(self) -> float:
        """See `Predictor.spacing_um`."""
        return self.record.spacing_um
