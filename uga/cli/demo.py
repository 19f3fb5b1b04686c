"""``uga demo``: virtual slides to try the product on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def demo(  # noqa: PLR0913 - each parameter is an option of the command
    output: Annotated[Path, typer.Argument(help="Folder for the slides, their reference masks and cohort.csv.")],
    *,
    centre: Annotated[
        list[int] | None,
        typer.Option(help="Virtual centre 1 to 5 (1 is the demo ensemble's own); may be repeated.", min=1, max=5),
    ] = None,
    lesion: Annotated[list[str] | None, typer.Option(help="negative, itc, micro or macro; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first slide's tissue; the next ones count up.")] = 1,
    size: Annotated[float, typer.Option(help="Side of the slide in um.", min=200)] = 3500.0,
    node: Annotated[float, typer.Option(help="Mean diameter of a lymph node section in um.", min=50)] = 2550.0,
    nodes: Annotated[int, typer.Option(help="Lymph node sections on the slide.", min=0)] = 1,
    pen_marks: Annotated[int, typer.Option(help="Strokes of a felt pen.", min=0)] = 0,
    folds: Annotated[int, typer.Option(help="Tissue folds.", min=0)] = 0,
    blur: Annotated[int, typer.Option(help="Areas out of focus.", min=0)] = 0,
) -> None:
    """Make virtual H&E slides of lymph nodes with reference masks: one per centre and lesion class.

    The same seed shows the same tissue at every centre, stained and scanned differently. The slides are drawings for
    demonstration and tests; they show no patient.
    """
    from uga.errors import UserError  # noqa: PLC0415 - --help should not wait for the renderer
    from uga.progress import ProgressLog  # noqa: PLC0415
    from uga.virtual.slide import make_cohort  # noqa: PLC0415
    from uga.virtual.spec import LesionClass, SlideSpec  # noqa: PLC0415

    try:
        classes = [LesionClass(name) for name in lesion or ["micro"]]
    except ValueError as error:
        known = ", ".join(c.value for c in LesionClass)
        msg = f"--lesion {lesion} names an unknown class; choose among {known}."
        raise UserError(msg) from error
    specs = [
        SlideSpec(
            seed=seed + number,
            centre_id=centre_id,
            lesion=lesion_class,
            width_um=size,
            height_um=size,
            node_count=nodes,
            node_um=node,
            pen_marks=pen_marks,
            folds=folds,
            blurred_areas=blur,
        )
        for centre_id in centre or [2]
        for number, lesion_class in enumerate(classes)
    ]
    report = ProgressLog("virtual slides", unit="%")
    slides = make_cohort(output, specs, progress=lambda share: report(round(100 * share), 100))
    log.info("%d virtual slide(s) in %s, reference masks in %s", len(slides), output, output / "masks")
