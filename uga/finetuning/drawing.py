"""Which correction the next crop is cut from, and what of it: every centre, and at a centre every label, equally often.

What a centre's crops hold becomes what the network expects to find there. A handful of corrected patches holds as much
of a label as chance, or a ranking, has brought into them: tumour on 1 % of their area teaches the network to miss it at
that centre, on 50 % to see it everywhere (docs/evidence.md). Drawing by label takes that share out of what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from uga.finetuning.options import CorrectionNotes

_FEWEST_PX = 100
"""A label with fewer pixels at a centre, a cell or a slip of the brush at 1 um/px, is not sought."""


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """The corrections of one centre that hold a label, and how likely each is."""

    label: int
    names: Sequence[str]
    weights: NDArray[np.float64]


class CorrectionDraw:
    """Draws by numpy's global generator, which the trainer seeds.

    Args:
        notes: Of the corrections that a fold learns from, by name.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, notes: Mapping[str, CorrectionNotes]) -> None:
        if not notes:
            raise ValueError("no corrections to draw from")
        self._centres = [
            _sources({name: note for name, note in notes.items() if note.centre == centre})
            for centre in sorted({note.centre for note in notes.values()})
        ]

    def draw(self) -> tuple[str, int]:
        """Name of a correction, and the label value that a crop of it is to be centred on."""
        sources = self._centres[np.random.randint(len(self._centres))]  # noqa: NPY002 - the trainer seeds this one
        source = sources[np.random.randint(len(sources))]  # noqa: NPY002
        return str(np.random.choice(source.names, p=source.weights)), source.label  # noqa: NPY002


def _sources(notes: Mapping[str, CorrectionNotes]) -> list[_Source]:
    """A source for each label that is held; the one with most pixels if all are held in traces only."""
    held: dict[int, dict[str, int]] = {}
    for name, note in notes.items():
        for label, pixels in note.pixels.items():
            held.setdefault(label, {})[name] = pixels
    total = {label: sum(pixels.values()) for label, pixels in held.items()}
    sought = [label for label in sorted(held) if total[label] >= _FEWEST_PX] or [
        max(total, key=lambda each: total[each])
    ]
    return [
        _Source(label, list(held[label]), np.array(list(held[label].values()), np.float64) / total[label])
        for label in sought
    ]
