"""``uga evaluate``: finished slides against their reference."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)

_DEFAULT_LABELS = "background=0,1 tumour=2"


def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Output folders of `uga infer`, one or several.")],
    *,
    reference: Annotated[
        Path, typer.Option(help="Cohort CSV or folder with slides and annotations, as for `uga train`.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json and slides.csv; made if it is missing.")],
    labels: Annotated[
        str, typer.Option(envvar="UGA_LABELS", help="The model's labels in order, with what means each in a reference.")
    ] = _DEFAULT_LABELS,
    unannotated: Annotated[
        str,
        typer.Option(
            envvar="UGA_UNANNOTATED", help="What area outside all shapes is: ignore (not judged) or background."
        ),
    ] = "ignore",
) -> None:
    """Compare segmentations with reference annotations: Dice by centre and lesion class, beside the patch scores.

    Dice is pooled over pixels, unsmoothed; where a label is neither in the reference nor predicted there is none.
    Patch scores are those of the patches that the paper's 70 % rule keeps.
    """
    from uga.errors import UserError  # noqa: PLC0415 - --help should not wait for torch
    from uga.evaluation.slides import evaluate_slides  # noqa: PLC0415
    from uga.evaluation.tables import Evaluation, group_slides, markdown_table, write_evaluation  # noqa: PLC0415
    from uga.output.finished import finished_slides  # noqa: PLC0415
    from uga.training.cases import UNANNOTATED, read_cohort  # noqa: PLC0415
    from uga.training.labels import LabelMapping  # noqa: PLC0415

    for choice in UNANNOTATED:
        if unannotated == choice:
            break
    else:
        raise UserError(f"--unannotated {unannotated} is not known; use one of {', '.join(UNANNOTATED)}.")
    evaluations = evaluate_slides(folders, read_cohort(reference), LabelMapping.parse(labels), unannotated=choice)
    ranked = next(iter(finished_slides(folders))).ranked()
    evaluation = Evaluation(
        model=ranked.model.name,
        model_sha256=ranked.model.sha256,
        measure=ranked.uncertainty.measure,
        groups=group_slides(evaluations),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_evaluation(output, evaluation, evaluations)
    for label in evaluations[0].labels:
        log.info("\n%s\n%s", label, markdown_table(evaluation, label))
    log.info("\nWritten to %s", output)
