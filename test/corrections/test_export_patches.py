import json
import shutil
from datetime import UTC, datetime

import imagecodecs
import numpy as np
import pytest
from correction_helpers import ENSEMBLE, corrected, make_model, read, write_png
from output_helpers import COMPUTATION, MODEL, UNCERTAINTY, patch_arrays
from slide_files import noise, write_tiff

from uga.annotations.readers import read_shapes
from uga.annotations.shapes import Polygon, Shape
from uga.annotations.writers import write_asap_xml, write_geojson, write_polygons
from uga.cli.export_patches import _list, _point, _rank
from uga.corrections.choice import Choice
from uga.corrections.export import Format, export_patches
from uga.errors import UgaError, UserError
from uga.geometry import SpacingUm
from uga.options import RunOptions
from uga.output.files import write_json
from uga.output.layout import DEFAULT_LAYOUT
from uga.output.manifest import write_manifest
from uga.output.package import image_sha256
from uga.output.schema import InputRecord, PatchRecord, RankedPatch, RankedPatches, RunIdentity, SlideRecord
from uga.output.tiff import PyramidWriter
from uga.ranking import Candidate, rank
from uga.scores import write_scores
from uga.slide import open_slide

PATCH = 64
ALL = tuple(Format)


def candidate(slide_id, number, x, y):
    white = 0.9 if number == 2 else 0.0  # excluded by the run's rule
    return Candidate(
        slide_id, "home", x, y, PATCH, 1 / (number + 1), PATCH**2 / (number + 1), 0.9, 0.2, 0.0, white, 0.0
    )


def write_finished(folder, slides, name, seed=1):
    """A finished slide of 0.5 um/px and 300 x 200 grid pixels: 20 patches, some overhanging."""
    source = write_tiff(slides / f"{name}.tif", noise(400, 600, seed))
    with open_slide(source) as slide:
        grid = slide.grid(1.0)
        record = SlideRecord(id=name, file=source.name, width=600, height=400, mpp_x=slide.mpp.x, mpp_y=slide.mpp.y,
                             quickhash=slide.quickhash, centre="home")  # fmt: skip
    _, labels, uncertainty = patch_arrays(seed, 320)
    for kind, values in (("labels", labels), ("gray", uncertainty)):
        place = DEFAULT_LAYOUT.segmentation_file if kind == "labels" else DEFAULT_LAYOUT.uncertainty_file
        file = place(folder, name)
        file.parent.mkdir(parents=True)
        with PyramidWriter(file, width=grid.width, height=grid.height, spacing_um=SpacingUm(1, 1), kind=kind,
                           description="", value_range=(0, 2)) as writer:  # fmt: skip
            writer.append(np.ascontiguousarray(values[: grid.height, : grid.width]))
    corners = [(x, y) for y in range(0, grid.height, PATCH) for x in range(0, grid.width, PATCH)]
    candidates = [candidate(name, number, x, y) for number, (x, y) in enumerate(corners)]
    write_scores(folder, candidates)
    options = RunOptions(patch_px=PATCH, top=4)
    chosen = rank(candidates, top=options.top)
    patches = tuple(RankedPatch.of(c, rank=n, grid=grid, image_sha256="0" * 64) for n, c in enumerate(chosen, start=1))
    ranked = RankedPatches(slide=record, model=MODEL, uncertainty=UNCERTAINTY, patch_size_px=PATCH, spacing_um=1.0,
                           patches=patches)  # fmt: skip
    write_json(folder / DEFAULT_LAYOUT.ranked_patches, ranked)
    identity = RunIdentity(
        uga_version="0",
        input=InputRecord(**record.model_dump(), size_bytes=1),
        model=MODEL,
        options=options.model_dump(mode="json", exclude={"scope"}) | {"layout": DEFAULT_LAYOUT.model_dump()},
    )
    write_manifest(
        folder, identity, started=datetime.now(UTC), timings_s={}, peak_memory_bytes=0, computation=COMPUTATION
    )
    return labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    (root / "slides").mkdir()
    return {
        "root": root,
        **{name: write_finished(root / "out" / name, root / "slides", name, n) for n, name in enumerate("ab", 1)},
    }


def export(run, target, *, only="a", model=ENSEMBLE, formats=ALL, **choice):
    folders = [run["root"] / "out" / only] if only else [run["root"] / "out"]
    return export_patches(folders, target, run["root"] / "slides", model, choice=Choice(**choice), formats=formats)


def packages(target):
    return sorted(path.name for path in (target / "patches").iterdir() if path.is_dir())


def test_all_files_of_two_slides_and_nothing_else(run, tmp_path):
    assert export(run, tmp_path, only=None, top=2) == 4
    names = ["001_a_0_0", "001_b_0_0", "002_a_128_0", "002_b_128_0"]
    assert packages(tmp_path) == names
    expected = {f"{slide}{suffix}" for slide in "ab" for suffix in (".xml", ".geojson", ".json")}
    expected |= {f"patches/{name}{suffix}" for name in names for suffix in (".png", ".geojson")}
    expected |= {f"patches/{name}/{file}" for name in names for file in
                 ("patch.json", "image.png", "prediction.png", "uncertainty.png", "annotation.geojson")}  # fmt: skip
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == expected


def test_exported_and_read_unchanged_nothing_is_changed(run, tmp_path):
    export(run, tmp_path, only=None, ranks=(1, 4, 17, 19))
    assert read(tmp_path).summary() == "0 used, 8 unchanged, 0 refused"


@pytest.mark.parametrize("suffix", [".xml", ".geojson", ".json"])
def test_a_shape_added_on_the_slide_corrects_the_patch_it_lies_in(run, tmp_path, suffix):
    """Read, drawn in and saved as a tool does; the frames say that what no shape covers is background."""
    export(run, tmp_path, top=3)
    file, mpp = tmp_path / f"a{suffix}", SpacingUm(0.5, 0.5)
    added = Shape((Polygon(np.array([(140, 10), (180, 10), (180, 30), (140, 30)], np.float64)),), "background")
    shapes = [*read_shapes(file, mpp), added]
    if suffix == ".xml":
        write_asap_xml(file, shapes, {})
    elif suffix == ".json":
        write_polygons(file, shapes, mpp, "")
    else:
        write_geojson(file, shapes, {})
    found = read(tmp_path)
    assert found.summary() == "1 used, 2 unchanged, 0 refused"
    expected = run["a"][:64, 64:128].copy()
    assert expected[5:15, 6:26].any()
    expected[5:15, 6:26] = 0
    np.testing.assert_array_equal(found.used[0].labels, expected)


def test_packages_hold_the_slide_and_the_maps(run, tmp_path):
    export(run, tmp_path, at=((130, 10),), formats=(Format.PACKAGE,))
    (name,) = packages(tmp_path)
    package = tmp_path / "patches" / name
    record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
    assert (record.grid_x, record.grid_y, record.patch.rank) == (64, 0, 2)
    image, labels = (imagecodecs.png_decode((package / n).read_bytes()) for n in ("image.png", "prediction.png"))
    assert image_sha256(image) == record.patch.image_sha256
    np.testing.assert_array_equal(labels, run["a"][:64, 64:128])
    assert list(tmp_path.iterdir()) == [tmp_path / "patches"]
    assert len(list((tmp_path / "patches").iterdir())) == 1


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, ["001_a_0_0", "002_a_128_0", "003_a_384_0", "004_a_512_0"]),  # the run's list: without the white one
        ({"top": 1}, ["001_a_0_0"]),
        ({"top": 5}, ["001_a_0_0", "002_a_128_0", "003_a_384_0", "004_a_512_0", "005_a_0_128"]),
        ({"ranks": (7, 1, 3, 3)}, ["001_a_0_0", "003_a_384_0", "007_a_256_128"]),
        ({"ranks": (20,)}, ["020_a_256_0"]),  # excluded ones come last
        ({"at": ((599, 399),)}, ["019_a_512_384"]),
        ({"at": ((256, 127), (0, 0), (5, 5))}, ["001_a_0_0", "020_a_256_0"]),
    ],
)
def test_choices(run, tmp_path, choice, expected):
    export(run, tmp_path, formats=(Format.PACKAGE,), **choice)
    assert packages(tmp_path) == expected


def test_ranks_are_those_of_the_runs_list(run, tmp_path):
    export(run, tmp_path, formats=(Format.PACKAGE,))
    ranked = RankedPatches.model_validate_json((run["root"] / "out" / "a" / "ranked-patches.json").read_bytes())
    assert packages(tmp_path) == [f"{p.rank:03d}_a_{p.x}_{p.y}" for p in ranked.patches]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ranks": (21,)}, "has 20 patches but none of rank 21; ask for less"),
        ({"top": 1, "ranks": (1,)}, "Give one of --top, --ranks and --at"),
        ({"at": ((640, 10),)}, "has no patch with tissue at 640,10; give level-0 pixels on tissue"),
        ({"only": None, "at": ((0, 0),)}, "--at is a point on one slide, but there are 2; name one slide's folder"),
        ({"model": make_model(sha256="f" * 64, path="m")}, "was made by another model than m; name its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported(run, tmp_path, changes, expected):
    with pytest.raises(UserError, match=expected):
        export(run, tmp_path / "to", **changes)
    assert not (tmp_path / "to").exists()


def test_slides_that_are_not_those_of_the_run(run, tmp_path):
    (tmp_path / "slides").mkdir()
    shutil.copy(run["root"] / "slides" / "b.tif", tmp_path / "slides" / "b.tif")
    arguments = {"choice": Choice(top=1), "formats": ALL}
    with pytest.raises(UserError, match="holds no slide a; name the folder that was the runs' input with --slides"):
        export_patches([run["root"] / "out"], tmp_path / "to", tmp_path / "slides", ENSEMBLE, **arguments)
    shutil.copy(run["root"] / "slides" / "b.tif", tmp_path / "slides" / "a.tif")
    with pytest.raises(UserError, match="is not the slide that"):
        export_patches([run["root"] / "out"], tmp_path / "to", tmp_path / "slides", ENSEMBLE, **arguments)


@pytest.mark.parametrize("fault", ["another slide", "damaged slide", "segmentation", "uncertainty"])
def test_what_the_last_slide_lacks_is_told_before_the_first_is_written(run, tmp_path, fault):
    slides, out = (shutil.copytree(run["root"] / name, tmp_path / name) for name in ("slides", "out"))
    if fault == "another slide":
        shutil.copy(slides / "a.tif", slides / "b.tif")
    elif fault == "damaged slide":
        (slides / "b.tif").write_bytes(b"II*\0")
    else:
        getattr(DEFAULT_LAYOUT, f"{fault}_file")(out / "b", "b").write_bytes(b"")
    with pytest.raises(UgaError, match=r"b\.tif|b\.tiff|/b/"):
        export_patches([out], tmp_path / "to", slides, ENSEMBLE, choice=Choice(top=1), formats=ALL)
    assert not (tmp_path / "to").exists()


def test_work_is_never_overwritten(run, tmp_path):
    """Neither a package that holds a correction nor a file that somebody may have drawn in; nothing is half done."""
    export(run, tmp_path, top=2, formats=(Format.PACKAGE,))
    work = write_png(tmp_path / "patches" / "002_a_128_0" / "correction.png", corrected())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="002_a_128_0 holds a correction; move it to a safe place or name"):
        export(run, tmp_path, top=3)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    work.unlink()
    assert export(run, tmp_path, top=3, formats=(Format.PACKAGE,)) == 3


@pytest.mark.parametrize(
    ("format_", "name"),
    [("asap", "a.xml"), ("qupath", "a.geojson"), ("grand-challenge", "a.json"), ("qupath", "patches/001_a_0_0.geojson"),
     ("paint", "patches/001_a_0_0.png")],
)  # fmt: skip
def test_drawings_are_never_overwritten(run, tmp_path, format_, name):
    (tmp_path / "patches").mkdir()
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UserError, match=f"{name} exists and may have been worked in; move it away"):
        export(run, tmp_path, top=1, formats=(Format.PACKAGE, Format(format_)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_files_are_what_the_tools_expect(run, tmp_path):
    export(run, tmp_path, top=2)
    picture = imagecodecs.png_decode((tmp_path / "patches" / "001_a_0_0.png").read_bytes())
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} == {(0, 0, 0), (230, 159, 0), (0, 158, 115)}
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert sum(f["properties"]["classification"]["name"] == "Region*" for f in features) == 2
    polygons = json.loads((tmp_path / "a.json").read_text())
    assert polygons["type"] == "Multiple polygons"
    assert {polygon["name"] for polygon in polygons["polygons"]} >= {"Region*", "tumor", "tissue"}
    assert max(point[0] for polygon in polygons["polygons"] for point in polygon["path_points"]) == pytest.approx(0.128)


def test_options_of_the_command():
    assert _list("--ranks", "1, 3,7", _rank, "") == (1, 3, 7)
    assert _list("--ranks", None, _rank, "") == ()
    assert _point("12,-3") == (12, -3)
    for text in ("1;2", "", "0", "1,,2", "x"):
        with pytest.raises(UserError, match=r"--ranks .*give whole numbers"):
            _list("--ranks", text, _rank, "whole numbers")
    for text in ("12", "1,2,3", "a,b"):
        with pytest.raises(UserError, match=r"--at .* cannot be read; give X,Y in level-0 pixels"):
            _point(text)
