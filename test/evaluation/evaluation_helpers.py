"""Slides that were evaluated, without any files."""

from pathlib import Path

import numpy as np
from finished_helpers import MODEL, candidate

from uga.evaluation.agreement import Agreement
from uga.evaluation.slides import PatchEvaluation, SlideEvaluation
from uga.output.schema import UncertaintyRecord
from uga.training.cases import Case


def slide(name, patches, *, centre="A", patient="p", lesion="macro", surface=None, labels=("tumour",)):
    """A slide of 64 px patches, each a score and its TP, FP and FN (the same for all labels)."""
    evaluated = []
    errors = np.zeros((2, 256), np.int64)
    for number, (score, counts) in enumerate(patches):
        wrong = counts[1] + counts[2]
        agreements = {label: Agreement(*counts) for label in labels}
        evaluated.append(PatchEvaluation(candidate(name, score, x=64 * number), agreements, 64**2, wrong))
        errors[:, round(60 * score)] += [64**2 - wrong, wrong]
    return SlideEvaluation(
        case=Case(name, Path(f"{name}.tif"), None, centre, patient, lesion),
        model=MODEL,
        measure=UncertaintyRecord(measure="soft-cross-entropy"),
        spacing_um=1.0,
        patch_size_px=64,
        labels={label: Agreement.pooled(patch.labels[label] for patch in evaluated) for label in labels},
        judged_px=64**2 * len(patches),
        patches=tuple(evaluated),
        errors=errors,
        missed_outside_tissue=dict.fromkeys(labels, 0),
        surfaces={} if surface is None else {"tumour": surface},
    )
