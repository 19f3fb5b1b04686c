"""Slides made of tiles, drawn, or found; pictures are synthetic, so nobody's data are needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from uga.errors import UserError
from uga.geometry import GridRegion
from uga.ranking import PatchGrid
from uga.simulation.config import LoadedConfig, MosaicLayout, load_config
from uga.simulation.sources import prepare
from uga.simulation.sources.glas import find_tile, patients
from uga.simulation.sources.mosaic import FOREGROUND, MAPPING, OUTSIDE, PLAIN, Tile, mosaic, mosaic_case
from uga.simulation.sources.virtual import specs
from uga.slide import open_slide
from uga.tissue_file import read_tissue_mask
from uga.training.dataset import open_reference
from uga.training.demo import holdout_specs, pack_specs, training_specs
from uga.virtual.spec import LesionClass

MINI = "virtual-mini"
DARK = {2, 6, 7, 9, 12, 13, 15, 16}


def with_data(name: str, **changes: object) -> LoadedConfig:
    """A shipped configuration with other data."""
    loaded = load_config(name)
    data = loaded.config.data.model_copy(update=changes)
    return LoadedConfig(loaded.config.model_copy(update={"data": data}), loaded.folder, name)


def write_tile(image: Path, labels: Path, colour: int, size: tuple[int, int] = (60, 40)) -> Tile:
    width, height = size
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.full((height, width, 3), colour, np.uint8)
    truth = np.zeros((height, width), np.uint8)
    truth[: height // 2] = 7  # instances have values of their own
    Image.fromarray(rgb).save(image)
    Image.fromarray(truth).save(labels)
    return Tile(image, labels)


@pytest.fixture
def tiles(tmp_path: Path) -> list[Tile]:
    sizes = [(60, 40), (60, 40), (30, 20), (60, 40), (60, 40)]
    return [
        write_tile(tmp_path / f"i{n}.png", tmp_path / f"l{n}.png", 50 + 20 * n, size) for n, size in enumerate(sizes)
    ]


def test_tiles_lie_in_cells_with_their_labels(tiles: list[Tile]) -> None:
    slide, tissue, reference = mosaic(tiles, MosaicLayout(cell_px=(80, 50)))
    assert slide.shape == (3 * 50, 2 * 80, 3)
    assert slide[10, 100].tolist() == [70] * 3
    assert slide[0, 70].tolist() == [255] * 3
    assert reference[0, 0] == FOREGROUND
    assert reference[39, 0] == PLAIN
    assert reference[0, 70] == OUTSIDE
    assert reference[120, 120] == OUTSIDE  # the sixth cell is empty
    np.testing.assert_array_equal(tissue > 0, reference != OUTSIDE)


def test_larger_tiles_are_cut_about_their_centre(tiles: list[Tile]) -> None:
    slide, _, reference = mosaic(tiles[:3], MosaicLayout(cell_px=(40, 40), crop_px=(40, 30)))
    assert slide.shape[:2] == (80, 80)
    assert (reference[:30, :40] != OUTSIDE).all()
    assert (reference[:15, :40] == FOREGROUND).all()  # half of 40 rows, five of them cut
    assert (reference[15:30, :40] == PLAIN).all()
    assert (reference[40:60, :30] != OUTSIDE).all()  # the small one is whole
    assert reference[60, 0] == OUTSIDE
    with pytest.raises(
        UserError, match=r"60 x 40 px, larger than its cell of 50 x 50 px; raise cell_px or set crop_px"
    ):
        mosaic(tiles[:1], MosaicLayout(cell_px=(50, 50)))


def test_a_tile_without_its_labels_is_refused(tmp_path: Path, tiles: list[Tile]) -> None:
    with pytest.raises(UserError, match="no label map"):
        Tile(tiles[0].image, tiles[2].labels).read(None)
    with pytest.raises(UserError, match=r"gone\.png is missing or damaged"):
        Tile(tiles[0].image, tmp_path / "gone.png").read(None)


def test_the_patients_are_those_of_the_challenge() -> None:
    table = patients()
    assert len(table) == 165
    assert {patient for patient, _ in table.values()} == set(range(1, 17))
    assert Counter(name.partition("_")[0] for name in table) == {"train": 85, "testA": 60, "testB": 20}
    assert Counter(grade for _, grade in table.values()) == {"malignant": 91, "benign": 74}


def glas_folder(folder: Path, *, original: bool = False) -> Path:
    """All tiles of GlaS as small flat pictures, dark ones dark."""
    for name, (patient, _) in patients().items():
        part, _, number = name.partition("_")
        if original:
            image, labels = folder / f"{name}.bmp", folder / f"{name}_anno.bmp"
        else:
            subset = folder / ("Train_Folder" if part == "train" else "Test_Folder")
            file = f"{int(number) + (60 if part == 'testB' else 0)}.png"
            image, labels = subset / "img" / file, subset / "labelcol" / file
        write_tile(image, labels, 90 if patient in DARK else 190)
    return folder


@pytest.mark.parametrize("original", [False, True])
def test_glas_becomes_a_slide_a_patient(tmp_path: Path, original: bool) -> None:
    given = glas_folder(tmp_path / "given", original=original)
    cohorts = prepare(load_config("glas"), tmp_path / "made", given)
    cohorts.check()
    assert [case.patient for case in cohorts.training] == ["patient02", "patient09", "patient12", "patient13"]
    assert {case.patient for case in cohorts.query} == {"patient01", "patient04", "patient10"}
    assert cohorts.shifted == {case.id for case in cohorts.query}
    assert Counter(case.centre for case in cohorts.test) == {"pale": 5, "dark": 4}
    for case in (*cohorts.training, *cohorts.query, *cohorts.test):
        with open_slide(case.slide) as slide:
            assert slide.mpp.x == pytest.approx(0.62)
            grid = slide.grid(1.24)
            with open_reference(case, grid, MAPPING) as reference:
                labels = reference.read(grid.region)
            pixels = slide.read(grid, grid.region)
            tissue = read_tissue_mask(case.tissue, slide, grid)
        found = pixels[labels != MAPPING.ignore_label].mean()
        assert found == pytest.approx(90 if int(case.patient[-2:]) in DARK else 190, abs=4)
        # A patch is a tile: it holds one whole, at its corner.
        for region in PatchGrid(grid, 400, 400).with_tissue(tissue):
            own = labels[region.y : region.y_end, region.x : region.x_end]
            assert (own[:20, :30] != MAPPING.ignore_label).all()
            assert (own != MAPPING.ignore_label).sum() == pytest.approx(600, abs=60)


def test_grades_choose_tiles(tmp_path: Path) -> None:
    given = glas_folder(tmp_path / "given")
    cohorts = prepare(load_config("glas-grade"), tmp_path / "made", given)
    cohorts.check()
    table = patients()
    wanted = sum(patient in (4, 9, 10) and grade == "benign" for patient, grade in table.values())
    held = sum((tifffile.imread(case.annotation)[::800, ::800] != OUTSIDE).sum() for case in cohorts.training)
    assert held == wanted
    assert {case.centre for case in cohorts.test} == {"malignant", "benign"}


def test_the_rare_pool_holds_both_grades_in_whole_patches(tmp_path: Path) -> None:
    given = glas_folder(tmp_path / "given")
    cohorts = prepare(load_config("glas-rare"), tmp_path / "made", given)
    cohorts.check()
    assert {case.centre for case in cohorts.query} == {"hospital"}
    shifted = {case.patient for case in cohorts.query if case.id in cohorts.shifted}
    known = {case.patient for case in cohorts.query if case.id not in cohorts.shifted}
    assert shifted == {"patient01", "patient02", "patient06", "patient16"}
    assert known == {"patient01", "patient05", "patient13", "patient15"}  # each tile has one grade
    config = load_config("glas-rare").config
    assert all(px % (config.query.patch_px * 2) == 0 for px in config.data.layout.cell_px)
    for kind in (shifted, known):  # whatever the rarity, the pool can give a budget
        assert len(kind) * config.query.per_slide_cap >= max(config.grid.budgets)


def test_slides_are_kept_and_made_anew_if_asked_differently(tmp_path: Path) -> None:
    given = glas_folder(tmp_path / "given")
    first = prepare(load_config("glas"), tmp_path / "made", given)
    before = first.query[0].slide.stat().st_mtime_ns
    prepare(load_config("glas"), tmp_path / "made", given)
    assert first.query[0].slide.stat().st_mtime_ns == before
    prepare(with_data("glas", layout=MosaicLayout(cell_px=(800, 816))), tmp_path / "made", given)
    assert first.query[0].slide.stat().st_mtime_ns > before


def test_slides_are_made_anew_of_corrected_tiles(tmp_path: Path) -> None:
    given = glas_folder(tmp_path / "given")
    prepare(load_config("glas"), tmp_path / "made", given)
    labels = find_tile(given, "train_1").labels
    before = labels.stat().st_size
    truth = np.asarray(Image.open(labels))[::-1]
    Image.fromarray(np.ascontiguousarray(truth)).save(labels)
    marker = tmp_path / "made" / "marker"
    marker.touch()
    prepare(load_config("glas"), tmp_path / "made", given)
    assert not marker.exists(), f"made of labels as they were ({before} bytes)"
    marker.touch()
    prepare(load_config("glas"), tmp_path / "made", given)
    assert marker.exists()


def test_another_folder_is_told_apart_from_glas(tmp_path: Path) -> None:
    given = glas_folder(tmp_path / "given")
    (given / "Test_Folder" / "img" / "61.png").unlink()
    with pytest.raises(UserError, match=r"lacks the tile testB_1: neither Test_Folder/img/61\.png nor testB_1\.bmp"):
        find_tile(given, "testB_1")
    with pytest.raises(UserError, match="reads a folder of yours; name it with --data"):
        prepare(load_config("glas"), tmp_path / "made", None)
    with pytest.raises(UserError, match="does not exist"):
        prepare(load_config("glas"), tmp_path / "made", tmp_path / "nowhere")


def nuclei_folder(folder: Path, *, white: int = 40, purple: int = 66) -> Path:
    names = [(f"w{n:02d}", "purple_on_white") for n in range(white)]
    names += [(f"p{n:02d}", "purple_on_purple") for n in range(purple)]
    for name, domain in names:
        colour = 220 if domain == "purple_on_white" else 150
        write_tile(folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png", colour, (320, 256))
    lines = [f"{name},{domain}" for name, domain in names]
    (folder / "domains.csv").write_text("\n".join(["image_id,domain", *lines]))
    return folder


def test_nuclei_are_dealt_once(tmp_path: Path) -> None:
    given = nuclei_folder(tmp_path / "given")
    cohorts = prepare(load_config("nuclei"), tmp_path / "made", given)
    cohorts.check()
    assert len(cohorts.training) == 3
    assert len(cohorts.query) == 4
    assert Counter(case.centre for case in cohorts.test) == {"purple": 5, "white": 2}
    assert cohorts.shifted == {case.id for case in cohorts.query}
    assert "no patients are known" in cohorts.notice.lower().replace("\n", " ")
    few = nuclei_folder(tmp_path / "few", purple=60)
    with pytest.raises(UserError, match="28 images of the domain 'purple_on_purple' left, not 33"):
        prepare(load_config("nuclei"), tmp_path / "made", few)
    (few / "domains.csv").unlink()
    with pytest.raises(UserError, match="cannot be read as a table of images"):
        prepare(load_config("nuclei"), tmp_path / "made", few)


def test_virtual_slides_are_tissues_that_nobody_else_has() -> None:
    data = load_config("virtual").config.data
    query, test = specs(data, data.query, 1, data.centres), specs(data, data.test, 2, data.centres)
    seeds = [spec.seed for spec in (*query, *test)]
    assert len(set(seeds)) == len(seeds)
    taken = {spec.seed for each in (training_specs, pack_specs, holdout_specs) for spec in each(0)}
    assert not taken & set(seeds)
    counts = Counter(spec.lesion for spec in query if spec.centre_id == 3)
    assert counts == {LesionClass.NEGATIVE: 5, LesionClass.ITC: 2, LesionClass.MICRO: 2, LesionClass.MACRO: 1}
    other = data.model_copy(update={"seed": 1})
    assert not {spec.seed for spec in specs(other, other.query, 1, other.centres)} & set(seeds)


def test_virtual_slides_are_drawn_once(tmp_path: Path) -> None:
    small = {"size_um": 250, "node_um": 160, "negative": 0}
    loaded = load_config(MINI)
    content = loaded.config.model_dump()
    for part in ("query", "test"):
        content["data"][part] |= small
    content["data"]["centres"] = [1, 5]
    tiny = LoadedConfig(type(loaded.config).model_validate(content), tmp_path, MINI)
    cohorts = prepare(tiny, tmp_path / "made", None)
    cohorts.check()
    assert {case.centre for case in cohorts.query} == {"1", "5"}
    assert {case.centre for case in cohorts.query if case.id in cohorts.shifted} == {"5"}
    before = cohorts.test[0].slide.stat().st_mtime_ns
    again = prepare(tiny, tmp_path / "made", None)
    assert again.test == cohorts.test
    assert again.test[0].slide.stat().st_mtime_ns == before


def camelyon_folder(folder: Path, *, patients: int = 8) -> Path:
    """File names of both data sets, in two centres of Camelyon17: every other patient has a micrometastasis."""
    c16, c17 = folder / "CAMELYON16", folder / "CAMELYON17"
    names = [c16 / f"images/{stem}.tif" for stem in ("tumor_001", "normal_001", "tumor_071")]
    names += [c16 / f"annotations/{stem}.xml" for stem in ("tumor_001", "tumor_071")]
    stages = ["patient,stage,center"]
    for centre in (0, 1):
        for k in range(patients):
            stem, lesion = f"patient_{20 * centre + k:03d}_node_{k % 5}", "negative" if k % 2 else "micro"
            names.append(c17 / f"images/{stem}.tif")
            names += [] if k % 2 else [c17 / f"annotations/{stem}.xml"]
            stages.append(f"{stem}.tif,{lesion},{centre}")
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(b"x")
    (c17 / "stages.csv").write_text("\n".join(stages))
    return folder


def test_camelyon_is_split_by_patient_centre_by_centre(tmp_path: Path) -> None:
    given = camelyon_folder(tmp_path)
    cohorts = prepare(load_config("camelyon"), tmp_path / "made", given)
    cohorts.check()
    assert {case.id for case in cohorts.training} == {"tumor-001", "normal-001"}  # the third is of UMCU
    assert Counter((case.centre, case.lesion) for case in cohorts.test) == {
        (centre, lesion): 1 for centre in ("center_0", "center_1") for lesion in ("micro", "negative")
    }
    assert len(cohorts.query) == 12
    assert prepare(load_config("camelyon"), tmp_path / "made", given).test == cohorts.test
    other = [prepare(with_data("camelyon", seed=seed), tmp_path / "made", given) for seed in range(1, 5)]
    assert any(each.test != cohorts.test for each in other)
    fewer = prepare(with_data("camelyon", benign_per_annotated=0.5), tmp_path / "made", given)
    assert Counter(case.lesion for case in (*fewer.query, *fewer.test)) == {"micro": 8, "negative": 4}


def test_camelyon_keeps_a_patient_together(tmp_path: Path) -> None:
    given = camelyon_folder(tmp_path)
    # A second, benign node of every patient with a lesion.
    stages = (given / "CAMELYON17" / "stages.csv").read_text().splitlines()
    for k in range(0, 8, 2):
        (given / f"CAMELYON17/images/patient_{k:03d}_node_9.tif").write_bytes(b"x")
        stages.append(f"patient_{k:03d}_node_9.tif,negative,0")
    (given / "CAMELYON17" / "stages.csv").write_text("\n".join(stages))
    cohorts = prepare(with_data("camelyon", benign_per_annotated=2.0), tmp_path / "made", given)
    cohorts.check()
    share = len([case for case in cohorts.test if case.centre == "center_0"]) / 12
    assert 0.15 <= share <= 0.35
    with pytest.raises(UserError, match="center_3 has no annotated slide"):
        prepare(with_data("camelyon", centres=("center_3",)), tmp_path / "made", given)


def test_parts_that_share_a_patient_or_a_name_are_refused(tmp_path: Path) -> None:
    cohorts = prepare(load_config("camelyon"), tmp_path / "made", camelyon_folder(tmp_path))
    same = replace(cohorts.test[0], patient=cohorts.query[0].patient)
    with pytest.raises(UserError, match="both queried and tested on"):
        replace(cohorts, test=(same, *cohorts.test[1:])).check()
    with pytest.raises(UserError, match="No slide is tested on"):
        replace(cohorts, test=()).check()
    twin = replace(cohorts.test[0], slide=tmp_path / "other" / cohorts.test[1].slide.name)
    with pytest.raises(UserError, match="Two slides are called"):
        replace(cohorts, test=(twin, *cohorts.test[1:])).check()


def test_mosaics_read_like_any_reference(tmp_path: Path, tiles: list[Tile]) -> None:
    case = mosaic_case(
        tmp_path / "slides", "s", tiles, MosaicLayout(cell_px=(80, 80)), spacing_um=1.0, centre="c", patient="p"
    )
    with open_slide(case.slide) as slide:
        grid = slide.grid(1.0)
        with open_reference(case, grid, MAPPING) as reference:
            assert set(np.unique(reference.read(GridRegion(0, 0, 80, 80)))) == {0, 1, MAPPING.ignore_label}
