"""The colours of a centre's tissue, and old patches shown in them.

Old patches hold the labels that few corrections show, but in their own stain; beside a few corrections of another stain
the network learns that this stain means what those few hold. With `TrainingOptions.recolour` old patches are shown in
the colours of the corrected centres too: the optical density of every channel is scaled as the mean densities of the
tissue demand (Beer-Lambert).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uga.finetuning.options import triple
from uga.output.schema import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from uga.finetuning.options import Triple
    from uga.finetuning.patches import LearningPatch

_GLASS = 0.12
"""Mean optical density up to which a pixel is glass: grey 227 of 255."""
_FEWEST_PX = 5000
_LIMITS = (0.5, 2.0)


def densities(patches: Iterable[LearningPatch], tumour: int) -> dict[str, Triple]:
    """Mean optical density (natural logarithm) of red, green and blue over the tissue of each centre.

    Tumour is left out, so that how much of it there is does not count as colour; so are glass and what is not judged. A
    centre with hardly any such tissue is left out.

    Args:
        patches: With images and labels.
        tumour: The tumour label's value.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for patch in patches:
        labels = patch.read_labels()
        density = -np.log((patch.read_image().astype(np.float32) + 1) / 256)
        tissue = density[(density.mean(axis=-1) > _GLASS) & (labels != tumour) & (labels != NOT_JUDGED)]
        sums[patch.centre] = sums.get(patch.centre, np.zeros(3)) + tissue.sum(axis=0, dtype=np.float64)
        counts[patch.centre] = counts.get(patch.centre, 0) + len(tissue)
    return {centre: triple(sums[centre] / count) for centre, count in counts.items() if count >= _FEWEST_PX}


def gains(own: Triple, others: Iterable[Triple]) -> tuple[Triple, ...]:
    """The factors that take optical densities from a centre's own to each of the others, no more than twofold."""
    return tuple(triple(np.clip(np.divide(other, own), *_LIMITS)) for other in others)
