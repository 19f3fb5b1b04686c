"""Nuclei in bright-field tissue images (BBBC038, 2018 Data Science Bowl; CC0), laid out as slides by group.

The folder holds ``domains.csv`` (``image_id``, ``domain``), ``images/<image_id>.png`` and ``masks/<image_id>.png``.
"""

from __future__ import annotations

import csv
import random
from functools import partial
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.simulation.sources.cohorts import Cohorts, made_folder
from uga.simulation.sources.mosaic import Tile, lay_out, mosaic_case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.simulation.config import NucleiData, NucleiTiles
    from uga.training.cases import Case

NOTICE = (
    "BBBC038 (2018 Data Science Bowl, CC0): purple-stained tissue images, mostly not H&E, laid out as slides. No "
    "patients are known, so images of one patient may be on both sides. The label tumour stands for nucleus."
)
_DOMAINS_FILE = "domains.csv"


def prepare(data: NucleiData, folder: Path, given: Path) -> Cohorts:
    """Lay the images out as slides.

    Raises:
        UserError: the folder is not the set, or holds too few images of a group.
    """
    left = _images_by_domain(given, data.seed)
    made_folder(folder, data, stamp=[_tile(given, name).stamp for names in left.values() for name in names])
    makers = {
        part: [(group.shifted, partial(_slides, folder / part, group, data, given, left)) for group in groups]
        for part, groups in {"train": data.train, "query": data.query, "test": data.test}.items()
    }
    return lay_out(makers, NOTICE)


def _images_by_domain(given: Path, seed: int) -> dict[str, list[str]]:
    """Names of the images of each group, in a seeded order."""
    file = given / _DOMAINS_FILE
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [(row["domain"], row["image_id"]) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table of images ({error}); name the set with --data.") from error
    found: dict[str, list[str]] = {}
    for domain, name in sorted(rows):
        found.setdefault(domain, []).append(name)
    for names in found.values():
        random.Random(seed).shuffle(names)  # noqa: S311 - an order, not a secret
    return found


def _tile(given: Path, name: str) -> Tile:
    return Tile(given / "images" / f"{name}.png", given / "masks" / f"{name}.png")


def _taken(left: dict[str, list[str]], group: NucleiTiles, given: Path) -> list[str]:
    names = left.get(group.domain, [])
    if len(names) < group.images:
        raise UserError(
            f"{given} has {len(names)} images of the domain '{group.domain}' left, not {group.images}; ask for fewer."
        )
    taken, left[group.domain] = names[: group.images], names[group.images :]
    return taken


def _slides(
    folder: Path, group: NucleiTiles, data: NucleiData, given: Path, left: dict[str, list[str]]
) -> Iterator[Case]:
    """The slides of a group; its images are no longer left afterwards."""
    names = _taken(left, group, given)
    for number, start in enumerate(range(0, len(names), data.images_per_slide), start=1):
        name = f"{folder.name}-{group.centre}-{group.domain.replace('_', '-')}-{number:02d}"
        those = names[start : start + data.images_per_slide]
        yield mosaic_case(
            folder / group.centre,
            name,
            [_tile(given, each) for each in those],
            data.layout,
            spacing_um=data.spacing_um,
            centre=group.centre,
            patient=name,
        )
