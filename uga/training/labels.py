"""How the values of a reference mask become the labels of the model."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from uga.errors import UserError

BACKGROUND = "background"
TUMOUR = "tumour"
IGNORE = "ignore"

_UNMAPPED = 255


class LabelMapping(BaseModel):
    """Model labels in order, each with the reference values that mean it.

    Attributes:
        labels: Label name -> reference values; the position is the model's label value, `background` is first.
        ignore: Reference values that are not annotated: nnU-Net's ignore label, never background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, tuple[int, ...]]
    ignore: tuple[int, ...] = Field(default=())

    @model_validator(mode="after")
    def _check(self) -> LabelMapping:
        names = list(self.labels)
        if len(names) < 2 or names[0] != BACKGROUND or IGNORE in names:
            raise ValueError("the label mapping must start with background and name at least one more label")
        values = [value for group in (*self.labels.values(), self.ignore) for value in group]
        if len(values) != len(set(values)):
            raise ValueError("the label mapping gives one reference value two meanings")
        if any(not 0 <= value <= 254 for value in values):
            raise ValueError("the label mapping holds a reference value outside 0..254")
        return self

    @classmethod
    def parse(cls, text: str) -> LabelMapping:
        """Read ``background=0,1 tumour=2 ignore=3``.

        Raises:
            UserError: the text is not such a list.
        """
        groups: dict[str, tuple[int, ...]] = {}
        try:
            for part in text.split():
                name, _, values = part.partition("=")
                groups[name] = tuple(int(value) for value in values.split(","))
            ignore = groups.pop(IGNORE, ())
            return cls(labels=groups, ignore=ignore)
        except ValueError as error:
            raise UserError(f"Label mapping '{text}' is not of the form 'background=0,1 tumour=2': {error}.") from error

    @property
    def ignore_label(self) -> int:
        """Value of the ignore label in training masks."""
        return len(self.labels)

    def value_of(self, name: str) -> int:
        """Model label value of a label name."""
        return list(self.labels).index(name)

    @property
    def dataset_labels(self) -> dict[str, int]:
        """`labels` of nnU-Net's dataset.json."""
        values = {name: value for value, name in enumerate(self.labels)}
        return {**values, IGNORE: self.ignore_label} if self.ignore else values

    @cached_property
    def _table(self) -> npt.NDArray[np.uint8]:
        table = np.full(256, _UNMAPPED, np.uint8)
        for label, values in enumerate(self.labels.values()):
            table[list(values)] = label
        table[list(self.ignore)] = self.ignore_label
        return table

    def apply(self, reference: npt.NDArray[np.uint8], source: str) -> npt.NDArray[np.uint8]:
        """Model labels of reference values, same shape, uint8.

        Args:
            reference: Values of a reference mask.
            source: File name for the message.

        Raises:
            UserError: a value without a meaning.
        """
        labels = self._table[reference]
        if (labels == _UNMAPPED).any():
            unknown = sorted(int(value) for value in np.unique(reference[labels == _UNMAPPED]))
            raise UserError(f"{source} holds the values {unknown}, which the label mapping does not name; add them.")
        return labels


DEMO_MAPPING = LabelMapping(labels={BACKGROUND: (0, 1), TUMOUR: (2,)})
"""Virtual slides and Camelyon masks: 0 glass, 1 benign, 2 tumour."""
