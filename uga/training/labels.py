"""How the values of a reference mask and the class names of shapes become the labels of the model."""

from __future__ import annotations

import shlex
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uga.errors import UserError
from uga.model.card import first_problem

BACKGROUND = "background"
TUMOUR = "tumour"
IGNORE = "ignore"

_UNMAPPED = 255


class LabelMapping(BaseModel):
    """Model labels in order, each with what means it in a reference.

    A whole number is a value of label maps, a text the class of a shape, upper or lower case. A label's own name means
    the label too.

    Attributes:
        labels: Label name -> values and classes; the position is the model's label value, `background` is first.
        ignore: Values and classes that are not judged: nnU-Net's ignore label, never background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, tuple[int | str, ...]]
    ignore: tuple[int | str, ...] = Field(default=())

    @model_validator(mode="after")
    def _check(self) -> LabelMapping:
        names = list(self.labels)
        if len(names) < 2 or names[0] != BACKGROUND or IGNORE in names:
            raise ValueError("the label mapping must start with background and name at least one more label")
        if TUMOUR not in names:
            raise ValueError("the label mapping must name the label tumour")
        meaning: dict[str, str] = {}
        for name, entries in (*self.labels.items(), (IGNORE, self.ignore)):
            for entry in (name, *entries):
                if meaning.setdefault(str(entry).casefold(), name) != name:
                    raise ValueError(f"the label mapping gives '{entry}' two meanings")
                if isinstance(entry, int) and not 0 <= entry <= 255:
                    raise ValueError("the label mapping holds a reference value outside 0..255")
        return self

    @classmethod
    def parse(cls, text: str) -> LabelMapping:
        """Read ``background=0,1,normal tumour=2,metastases ignore=3``; quotes keep blanks within a class together.

        Raises:
            UserError: the text is not such a list.
        """
        try:
            groups = _groups(text)
            ignore = groups.pop(IGNORE, ())
            return cls(labels=groups, ignore=ignore)
        except ValueError as error:
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise UserError(
                f"Label mapping '{text}' is not of the form 'background=0,normal tumour=2,tumor': {reason}."
            ) from error

    @property
    def ignore_label(self) -> int:
        """Value of the ignore label in training masks."""
        return len(self.labels)

    def value_of(self, name: str) -> int:
        """Model label value of a label name."""
        return list(self.labels).index(name)

    def dataset_labels(self, *, with_ignore: bool) -> dict[str, int]:
        """`labels` of nnU-Net's dataset.json; ``with_ignore`` where area is left unannotated."""
        values = {name: value for value, name in enumerate(self.labels)}
        return {**values, IGNORE: self.ignore_label} if self.ignore or with_ignore else values

    @property
    def class_values(self) -> dict[str, int]:
        """Class of a shape, in lower case -> label value."""
        groups = (*self.labels.items(), (IGNORE, self.ignore))
        return {
            entry.casefold(): value
            for value, (name, entries) in enumerate(groups)
            for entry in (name, *entries)
            if isinstance(entry, str)
        }

    @cached_property
    def _table(self) -> npt.NDArray[np.uint8]:
        table = np.full(256, _UNMAPPED, np.uint8)
        for label, entries in enumerate((*self.labels.values(), self.ignore)):
            table[[entry for entry in entries if isinstance(entry, int)]] = label
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
            raise UserError(
                f"{source} holds the values {unknown}, which the label mapping does not name; add them to --labels, "
                "such as background=0,1 tumour=2."
            )
        return labels


def _groups(text: str) -> dict[str, tuple[int | str, ...]]:
    groups: dict[str, tuple[int | str, ...]] = {}
    for part in shlex.split(text):
        name, _, entries = part.partition("=")
        if name in groups:
            raise ValueError(f"the label {name} stands twice")
        groups[name] = tuple(_entry(entry) for entry in entries.split(",") if entry)
    return groups


def _entry(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


DEMO_MAPPING = LabelMapping(labels={BACKGROUND: (0, 1), TUMOUR: (2,)})
"""Label maps of virtual slides: 0 glass, 1 benign, 2 tumour."""

DEFAULT_MAPPING = LabelMapping(
    labels={
        BACKGROUND: ("normal", "benign", "exclusion", "none", "_2"),
        TUMOUR: ("tumor", "metastases", "metastasis", "_0", "_1"),
    }
)
"""Classes of shapes as Camelyon names them. Values of label maps are left to the user: 1 is tumour in Camelyon's maps
and benign tissue in others."""
