"""``uga export-patches``: patches in the form that a clinician's tool opens."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from uga.errors import UserError
from uga.model.lookup import find_model

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def export_patches(
    folders: Annotated[list[Path], typer.Argument(metavar="OUTPUT", help="Output folders of `uga infer`.")],
    *,
    slides: Annotated[Path, typer.Option(help="Folder with the slides that were processed.")],
    to: Annotated[Path, typer.Option(help="Folder to write to; corrections in it are never overwritten.")],
    model: Annotated[
        Path | None,
        typer.Option(envvar="UGA_MODEL", help="Model folder of the runs.", show_default="as `uga infer`"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="The first so many patches of each slide's list.", min=1, show_default="the whole list"),
    ] = None,
    ranks: Annotated[str | None, typer.Option(help="Patches of these ranks of each slide, such as 1,3,7.")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="The patch that holds the point X,Y in level-0 pixels; may be repeated.", metavar="X,Y"),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Any of package, paint, qupath, asap, grand-challenge, separated by commas.")
    ] = "package,paint,qupath,asap,grand-challenge",
) -> None:
    """Write patches of finished slides for correction: packages, and files for QuPath, ASAP and grand-challenge.

    Writes, below the folder named with --to,

    patches/PATCH/: a package, which every correction needs;

    patches/PATCH.png: its labels in colours, to be painted in;

    patches/PATCH.geojson: its outlines, for image.png opened in QuPath;

    SLIDE.geojson, SLIDE.xml, SLIDE.json: frames and predicted outlines on the slide, for QuPath, ASAP and
    grand-challenge.

    Correct any one of them and leave it where it is; docs/correcting.md shows how. `uga finetune` reads the folder.
    """
    from uga.corrections.choice import Choice  # noqa: PLC0415 - --help should not wait for torch
    from uga.corrections.export import Format  # noqa: PLC0415
    from uga.corrections.export import export_patches as export  # noqa: PLC0415
    from uga.model.folder import load_model  # noqa: PLC0415

    choice = Choice(
        top=top,
        ranks=_list("--ranks", ranks, _rank, "whole numbers from 1 on, such as 1,3,7"),
        at=tuple(_point(text) for text in at or ()),
    )
    wanted = _list("--formats", formats, Format, f"any of {', '.join(Format)}")
    count = export(folders, to, slides, load_model(find_model(model)), choice=choice, formats=wanted)
    log.info("%d patches in %s", count, to)


def _list(option: str, text: str | None, parse: Callable[[str], _T], expected: str) -> tuple[_T, ...]:
    if text is None:
        return ()
    try:
        return tuple(parse(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} {text} cannot be read; give {expected}.") from error


def _rank(text: str) -> int:
    rank = int(text)
    if rank < 1:
        raise ValueError(text)
    return rank


def _point(text: str) -> tuple[int, int]:
    numbers = _list("--at", text, int, "X,Y in level-0 pixels, such as 12000,8500")
    if len(numbers) != 2:
        raise UserError(f"--at {text} cannot be read; give X,Y in level-0 pixels, such as 12000,8500.")
    return numbers[0], numbers[1]
