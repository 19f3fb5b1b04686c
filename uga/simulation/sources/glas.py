"""GlaS (Warwick-QU): gland tiles of 16 patients, as one slide a patient.

The tiles are for research only and never come with UGA; the user names the folder. Two layouts are known: that of the
public UDTransNet repository (``Train_Folder/img/1.png``, ``Train_Folder/labelcol/1.png``, the same for ``Test_Folder``,
where test A comes before test B), and that of the challenge (``train_1.bmp``, ``train_1_anno.bmp``, ...).

Which tile shows which patient, and whether it is benign, is a table of numbers (``glas-patients.csv``) after the
challenge's ``Grade.csv``. Source: Sirinukunwattana et al. 2017, "Gland segmentation in colon histology images: the GlaS
challenge contest".
"""

from __future__ import annotations

import csv
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.simulation.sources.cohorts import Cohorts, made_folder
from uga.simulation.sources.mosaic import Tile, lay_out, mosaic_case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.simulation.config import GlasData, GlasTiles
    from uga.training.cases import Case

NOTICE = (
    "GlaS (Warwick-QU): gland tiles of 16 patients, for research only; tiles laid out as one slide a patient, not "
    "whole slides. The label tumour stands for gland."
)
SPACING_UM = 0.62
_TABLE = "glas-patients.csv"
_LAST_OF_TEST_A = 60


def prepare(data: GlasData, folder: Path, given: Path) -> Cohorts:
    """Lay the tiles out as slides.

    Raises:
        UserError: the folder is not GlaS, or a group holds no tile.
    """
    tiles = patients()
    files = {name: find_tile(given, name) for name in tiles}
    made_folder(folder, data, stamp=[tile.stamp for tile in files.values()])
    makers = {
        part: [(group.shifted, partial(_slides, folder / part, group, data, tiles, files)) for group in groups]
        for part, groups in {"train": data.train, "query": data.query, "test": data.test}.items()
    }
    return lay_out(makers, NOTICE)


def patients() -> dict[str, tuple[int, str]]:
    """Patient and grade of each tile, by the challenge's name for it."""
    text = (resources.files("uga.simulation.sources") / _TABLE).read_text("utf-8")
    return {row["tile"]: (int(row["patient"]), row["grade"]) for row in csv.DictReader(text.splitlines())}


def find_tile(folder: Path, name: str) -> Tile:
    """The files of a tile.

    Raises:
        UserError: there are none.
    """
    part, _, text = name.partition("_")
    number = int(text) + (_LAST_OF_TEST_A if part == "testB" else 0)
    subset = folder / ("Train_Folder" if part == "train" else "Test_Folder")
    known = (
        Tile(subset / "img" / f"{number}.png", subset / "labelcol" / f"{number}.png"),
        Tile(folder / f"{name}.bmp", folder / f"{name}_anno.bmp"),
    )
    for tile in known:
        if tile.image.is_file() and tile.labels.is_file():
            return tile
    raise UserError(
        f"{folder} lacks the tile {name}: neither {known[0].image.relative_to(folder)} nor {known[1].image.name} with "
        "its labels is there; name the folder of GlaS with --data."
    )


def _slides(
    folder: Path, group: GlasTiles, data: GlasData, tiles: dict[str, tuple[int, str]], files: dict[str, Tile]
) -> Iterator[Case]:
    """A slide for each patient of a group."""
    for patient, names in _by_patient(group, tiles).items():
        yield mosaic_case(
            folder / group.centre,
            f"{folder.name}-{group.centre}-patient{patient:02d}" + ("-shifted" if group.shifted else ""),
            [files[each] for each in names],
            data.layout,
            spacing_um=SPACING_UM,
            centre=group.centre,
            patient=f"patient{patient:02d}",
        )


def _by_patient(group: GlasTiles, tiles: dict[str, tuple[int, str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, (patient, grade) in tiles.items():
        if patient in group.patients and grade in group.grades:
            found.setdefault(patient, []).append(name)
    if not found:
        raise UserError(
            f"GlaS has no {' or '.join(group.grades)} tile of the patients {list(group.patients)}; name others in the "
            f"group {group.centre}."
        )
    return dict(sorted(found.items()))
