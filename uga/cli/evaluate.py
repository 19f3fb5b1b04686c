"""``uga evaluate``: finished slides against their reference."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

log = logging.getLogger(__name__)

_DEFAULT_LABELS = "background=0,1 tumour=2"


def evaluate(  # noqa: PLR0913 - each parameter is an option of the command
    folders: Annotated[list[Path], typer.Argument(help="Output folders of `uga infer`, one or several.")],
    *,
    reference: Annotated[
        Path,
        typer.Option(
            help="Cohort CSV, or folder with slides and annotations, as for `uga train`: label maps (TIFF), ASAP XML, "
            "GeoJSON, polygons of grand-challenge. Gives centre, patient and lesion class of each slide."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the results; made if it is missing.")],
    labels: Annotated[
        str,
        typer.Option(
            envvar="UGA_LABELS",
            help="The model's labels in order, each with the mask values and class names that mean it in a reference; "
            "what 'ignore=' names is not judged.",
        ),
    ] = _DEFAULT_LABELS,
    unannotated: Annotated[
        Literal["ignore", "background"],
        typer.Option(envvar="UGA_UNANNOTATED", help="Area outside all shapes: not judged, or background."),
    ] = "ignore",
    empty: Annotated[
        Literal["exclude", "one", "smoothed"],
        typer.Option(
            envvar="UGA_EMPTY",
            help="Dice where a label is neither in the reference nor predicted: none, so that it enters no mean; 1; or "
            "(2 TP + 1) / (2 TP + FP + FN + 1) everywhere, as in the authors' code.",
        ),
    ] = "exclude",
    tissue: Annotated[
        Literal["slide", "patches"],
        typer.Option(
            envvar="UGA_TISSUE",
            help="Where uncertainty is judged: in the tissue that the run found in the slide, or, without the slide, "
            "in all pixels of patches that hold tissue.",
        ),
    ] = "slide",
    tolerance: Annotated[
        float,
        typer.Option(envvar="UGA_TOLERANCE_UM", min=0, help="Outlines agree up to this distance in um (surface Dice)."),
    ] = 20.0,
    outlines: Annotated[
        bool,
        typer.Option("--outlines/--no-outlines", help="Measure how far outlines lie apart; without, it is faster."),
    ] = True,
    home: Annotated[
        str | None,
        typer.Option(
            envvar="UGA_HOME", help="Centre the model was trained on; tells how well scores set other centres apart."
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(envvar="UGA_CONFIDENCE", min=0.5, max=0.999, help="Level of the confidence intervals.")
    ] = 0.95,
    resamples: Annotated[
        int, typer.Option(envvar="UGA_RESAMPLES", min=100, help="Draws of patients for the intervals.")
    ] = 2000,
    seed: Annotated[int, typer.Option(envvar="UGA_SEED", min=0, help="Same seed, same intervals.")] = 0,
) -> None:
    """Compare segmentations with references, and uncertainty with errors; by slide, patch, centre and lesion class.

    Agreement: Dice (pooled over pixels, mean over slides, mean over patches), distances between outlines, false
    positives on negative slides. Uncertainty: detection of wrong pixels (AUROC), risk and coverage (AURC), calibration,
    and rank correlation of patch scores with 1 - Dice. With confidence intervals: patients are drawn, each with all of
    its slides. docs/evaluation.md has every formula and convention.

    Writes evaluation.html (open this one), evaluation.json, slides.csv, patches.csv, and figures/ as PNG and SVG.

    Exit codes: 0 all slides, 1 at least one slide could not be evaluated (the results leave it out and name it), 2 bad
    request, 70 a defect of UGA.
    """
    # Imported late: these pull in torch and matplotlib, which --help should not wait for.
    from uga.errors import SlideError, UserError  # noqa: PLC0415
    from uga.evaluation.agreement import Empty  # noqa: PLC0415
    from uga.evaluation.figures import draw_figures  # noqa: PLC0415
    from uga.evaluation.groups import summarise  # noqa: PLC0415
    from uga.evaluation.page import write_page  # noqa: PLC0415
    from uga.evaluation.records import Settings  # noqa: PLC0415
    from uga.evaluation.slides import SlideEvaluation, SlideFailure, evaluate_each  # noqa: PLC0415
    from uga.evaluation.tables import markdown_table, write_evaluation  # noqa: PLC0415
    from uga.output.files import check_writable  # noqa: PLC0415
    from uga.training.cases import read_cohort  # noqa: PLC0415
    from uga.training.labels import LabelMapping  # noqa: PLC0415

    settings = Settings(
        unannotated=unannotated,
        tissue=tissue,
        tolerance_um=tolerance if outlines else None,
        empty=Empty(empty),
        home=home,
        level=confidence,
        resamples=resamples,
        seed=seed,
    )
    cases = read_cohort(reference)
    if home is not None and all(case.centre != home for case in cases):
        known = ", ".join(sorted({case.centre for case in cases}))
        raise UserError(f"No slide of {reference} is of the centre '{home}'; --home must name one of {known}.")
    check_writable(output, "name another one")
    results = list(
        evaluate_each(
            folders,
            cases,
            LabelMapping.parse(labels),
            unannotated=settings.unannotated,
            tissue=settings.tissue,
            tolerance_um=settings.tolerance_um,
        )
    )
    slides = [one for one in results if isinstance(one, SlideEvaluation)]
    failures = [one for one in results if isinstance(one, SlideFailure)]
    if not slides:
        raise failures[0].error
    if any(one.case.lesion != "negative" for one in slides):
        for label in slides[0].labels:
            if not any(one.labels[label].reference_px for one in slides):
                log.warning("No reference holds %s; does --labels (%s) name its values and classes?", label, labels)
    log.info("%d slides compared; confidence intervals and figures", len(slides))
    evaluation = summarise(slides, settings, failures=failures)
    write_evaluation(output, evaluation, slides)
    page = write_page(output, evaluation, slides, draw_figures(output, evaluation, slides))
    for label in evaluation.labels[1:]:
        log.info("\n%s\n%s", label, markdown_table(evaluation, label))
    log.info("\nOpen %s", page)
    if failures:
        raise SlideError(
            f"{len(failures)} of {len(results)} slides could not be evaluated and are in no figure; {page} says why."
        )
