"""process.py as a user runs it, on files: every output, every refusal, kills and resumption."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from model_helpers import make_trained_folder
from numpy.typing import NDArray
from PIL import Image
from slide_files import noise, real_data, write_tiff

from uga.geometry import Grid, GridRegion, Level0Point, SpacingUm
from uga.output.schema import Manifest, PatchRecord, RankedPatches
from uga.slide import open_slide

ROOT = Path(__file__).parents[1]


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "process.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def tissue_like(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """White glass with a noisy magenta disc."""
    y, x = np.mgrid[:height, :width]
    inside = (x / width - 0.45) ** 2 + (y / height - 0.5) ** 2 < 0.16
    pixels = np.full((height, width, 3), 244, dtype=np.uint8)
    pixels[inside] = (noise(height, width, seed) // 4 + np.array([150, 60, 130], np.uint8))[inside]
    return pixels


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def reread(slide_path: Path, ranked: RankedPatches, folder: Path) -> None:
    """Every patch again from the slide at its level-0 corner: the pixels of image.png, checksum equal."""
    assert ranked.patches
    with open_slide(slide_path) as slide:
        grid = slide.grid(ranked.spacing_um)
        for patch in ranked.patches:
            x, y = grid.to_grid(Level0Point(patch.x, patch.y))
            assert (x * grid.spacing_um, y * grid.spacing_um) == (patch.x_um, patch.y_um)
            pixels = slide.read(grid, GridRegion(x, y, ranked.patch_size_px, ranked.patch_size_px))
            package = folder / str(patch.folder)
            np.testing.assert_array_equal(np.asarray(Image.open(package / "image.png")), pixels)
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == patch.image_sha256
            record = PatchRecord.model_validate_json((package / "patch.json").read_bytes())
            assert record.patch.image_sha256 == patch.image_sha256


@pytest.fixture(scope="module")
def cmu_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    slide = real_data() / "cmu-1-small-region" / "CMU-1-Small-Region.svs"
    source = tmp_path_factory.mktemp("input")
    (source / slide.name).symlink_to(slide)
    output = tmp_path_factory.mktemp("output")
    done = process("--input", source, "--output", output, "--model", tiny_model, "--stride", 256, "--exclusion", "none")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return slide, output


@pytest.mark.real
def test_every_file_of_the_contract(cmu_run: tuple[Path, Path]) -> None:
    slide, output = cmu_run
    manifest = Manifest.model_validate_json((output / "manifest.json").read_bytes())
    listed = {record.path: record for record in manifest.outputs}
    on_disk = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert on_disk == {*listed, "manifest.json"}
    for path, record in listed.items():
        assert hashlib.sha256((output / path).read_bytes()).hexdigest() == record.sha256
    for name in ("image.png", "prediction.png", "uncertainty.png", "annotation.geojson", "patch.json"):
        assert any(path.startswith("patches/001_") and path.endswith(name) for path in listed)
    assert {"ranked-patches.json", "uncertain-patches.json", "report.html", "patch-scores.csv"} <= set(listed)
    assert manifest.input.file == slide.name
    assert str(output) not in (output / "manifest.json").read_text()


@pytest.mark.real
@pytest.mark.parametrize("kind", ["segmentation", "uncertainty"])
def test_maps_open_everywhere_at_one_um(cmu_run: tuple[Path, Path], kind: str) -> None:
    slide, output = cmu_run
    path = output / "images" / kind / f"{slide.stem}.tif"
    with openslide.OpenSlide(str(path)) as image:
        assert float(image.properties["openslide.mpp-x"]) == pytest.approx(1.0)
        assert float(image.properties["openslide.mpp-y"]) == pytest.approx(1.0)
        assert image.dimensions == (1108, 1481)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) > 1
        assert tiff.pages[0].asarray().shape == (1481, 1108)
        assert tiff.pages[0].tilewidth == 512


@pytest.mark.real
def test_level0_corners_give_the_patches_again(cmu_run: tuple[Path, Path]) -> None:
    slide, output = cmu_run
    reread(slide, RankedPatches.model_validate_json((output / "ranked-patches.json").read_bytes()), output)


@pytest.mark.real
def test_packages_hold_the_maps_of_their_place(cmu_run: tuple[Path, Path]) -> None:
    slide, output = cmu_run
    labels = tifffile.imread(output / "images" / "segmentation" / f"{slide.stem}.tif", key=0)
    uncertainty = tifffile.imread(output / "images" / "uncertainty" / f"{slide.stem}.tif", key=0)
    ranked = RankedPatches.model_validate_json((output / "ranked-patches.json").read_bytes())
    scores = [patch.score_mean for patch in ranked.patches]
    assert scores == sorted(scores, reverse=True)
    for patch in ranked.patches:
        x, y = round(patch.x_um), round(patch.y_um)
        area = np.s_[y : y + 1024, x : x + 1024]
        inside = np.s_[: labels[area].shape[0], : labels[area].shape[1]]
        folder = output / str(patch.folder)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "prediction.png"))[inside], labels[area])
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "uncertainty.png"))[inside], uncertainty[area])
        # The score comes from the float map, which the 8-bit map truncates by up to one grey level.
        from_map = uncertainty[area].sum() / 1024**2 * 4 / 255
        assert from_map <= patch.score_mean <= from_map + 4 / 255


@pytest.mark.real
def test_coordinate_image_proves_the_geometry(tmp_path: Path, tiny_model: Path) -> None:
    """XYC-half-mpp.tiff: at 1 um/px every pixel's colour is the mean of its four coordinates."""
    source = real_data() / "cmu-1-small-region" / "XYC-half-mpp.tiff"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / source.name).symlink_to(source)
    mask = np.full((64, 64), 255, np.uint8)
    with open_slide(source) as slide:
        size = slide.width_px, slide.height_px
        whole = slide.read(slide.grid(1.0), slide.grid(1.0).region)
    Image.fromarray(mask).resize((size[0] // 8, size[1] // 8)).save(tmp_path / "in" / "XYC-half-mpp_tissue.png")
    done = process(
        "--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model,
        "--patch", 256, "--exclusion", "none", "--top", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranked = RankedPatches.model_validate_json((tmp_path / "out" / "ranked-patches.json").read_bytes())
    reread(source, ranked, tmp_path / "out")
    level0 = tifffile.imread(source, key=0)
    for patch in ranked.patches:
        assert (patch.x, patch.y) == (2 * patch.x_um, 2 * patch.y_um)
        block = level0[patch.y : patch.y + 512, patch.x : patch.x + 512].astype(np.float64)
        height, width = block.shape[0] // 2, block.shape[1] // 2
        expected = block[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
        image = np.asarray(Image.open(tmp_path / "out" / str(patch.folder) / "image.png"))[:height, :width]
        assert np.abs(image - expected).max() <= 0.5
    assert whole.shape[:2] == (-(-size[1] // 2), -(-size[0] // 2))


def test_a_run_over_good_and_bad_slides(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_tiff(source / "good.tif", tissue_like(500, 600))
    (source / "empty.svs").write_bytes(b"")
    (source / "text.svs").write_text("this is no slide\n" * 50)
    whole = write_tiff(source / "truncated.tif", tissue_like(500, 600), compression=None).read_bytes()
    (source / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(source / "no-spacing.tif", tissue_like(300, 300), photometric="rgb", metadata=None)
    write_tiff(source / "absurd.tif", tissue_like(300, 300), resolution=(2_000_000, 2_000_000))
    tifffile.imwrite(
        source / "grey.tif", tissue_like(300, 300)[..., 0], photometric="minisblack", metadata=None,
        resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    bad = {"empty", "text", "truncated", "no-spacing", "absurd", "grey"}
    real = ROOT.parent / "shared" / "data" / "cmu-1-small-region"
    if real.is_dir():
        (source / "CMU-1-Small-Region.jpeg.tiff").symlink_to(real / "CMU-1-Small-Region.jpeg.tiff")
        (source / "dicom-truncated").symlink_to(real / "dicom-truncated")
        bad.add("CMU-1-Small-Region.jpeg")
    done = process("--input", source, "--output", tmp_path / "out", "--model", tiny_model, "--patch", 256)
    assert done.returncode == 1, done.stderr
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"]
    assert bad <= {failure["slide"] for failure in failures}
    for failure in failures:
        assert failure["error"] in done.stderr
        assert "defect" not in failure["error"]
        assert not (tmp_path / "out" / failure["slide"] / "manifest.json").exists()
    sentences = {failure["slide"]: failure["error"] for failure in failures}
    assert "--mpp" in sentences["no-spacing"]
    assert "--mpp" in sentences["absurd"]
    assert "Traceback" not in done.stderr
    assert "failures.json" in last_line(done.stderr)
    good = tmp_path / "out" / "good"
    ranked = RankedPatches.model_validate_json((good / "ranked-patches.json").read_bytes())
    assert ranked.patches
    assert (good / "manifest.json").is_file()
    cohort = RankedPatches.model_validate_json((tmp_path / "out" / "ranked-patches.json").read_bytes())
    assert [(p.slide_id, p.image_sha256) for p in cohort.patches] == [("good", p.image_sha256) for p in ranked.patches]
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_finished_run_is_kept_and_another_model_redoes_it(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_tiff(source / "a.tif", tissue_like(400, 400))
    arguments = ("--input", source, "--output", tmp_path / "out", "--model", tiny_model, "--patch", 256)
    assert process(*arguments).returncode == 0
    manifest = tmp_path / "out" / "manifest.json"
    first = manifest.read_bytes()
    again = process(*arguments)
    assert again.returncode == 0
    assert "already complete" in again.stdout
    assert manifest.read_bytes() == first
    other = process(*arguments, "--uncertainty", "entropy")
    assert "already complete" not in other.stdout
    assert Manifest.model_validate_json(manifest.read_bytes()).options["uncertainty"] == "entropy"


def test_results_within_the_input_are_no_slides(tmp_path: Path, tiny_model: Path) -> None:
    write_tiff(tmp_path / "a.tif", tissue_like(400, 400))
    arguments = ("--model", tiny_model, "--patch", 256)
    for expected in ("done", "already complete"):
        done = process("--input", tmp_path, "--output", tmp_path / "out", *arguments)
        assert done.returncode == 0, done.stderr
        assert "1 slide(s)" in done.stdout
        assert expected in done.stdout
    same = process("--input", tmp_path / "out", "--output", tmp_path / "out", *arguments)
    assert same.returncode == 2
    assert "both input and output" in last_line(same.stderr)


@pytest.mark.real
def test_results_within_a_dicom_series_are_not_part_of_it(tmp_path: Path, tiny_model: Path) -> None:
    shutil.copy(real_data() / "dicom-small" / "sm_image.dcm", tmp_path)
    for expected in ("done", "already complete"):
        done = process("--input", tmp_path, "--output", tmp_path / "out", "--model", tiny_model, "--mpp", 0.5)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


@pytest.mark.parametrize(("name", "held"), [("b.tif", "a.tif"), ("a.tif", "another slide named a.tif")])
def test_results_of_another_slide_are_not_overwritten(tmp_path: Path, tiny_model: Path, name: str, held: str) -> None:
    for seed, file in enumerate(("a/a.tif", f"b/{name}")):
        (tmp_path / file).parent.mkdir()
        write_tiff(tmp_path / file, tissue_like(300, 300, seed))
    arguments = ("--output", tmp_path / "out", "--model", tiny_model, "--patch", 256)
    assert process("--input", tmp_path / "a", *arguments).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    other = process("--input", tmp_path / "b", *arguments)
    assert other.returncode == 1
    failure = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"][0]["error"]
    assert f"holds the results of {held}; name another output folder for {name} with --output, or remove" in failure
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("suffix", [".png", ".geojson"])
def test_what_people_saved_beside_a_package_outlives_a_rerun(tmp_path: Path, tiny_model: Path, suffix: str) -> None:
    """As `uga export-patches` leaves it there to be painted or drawn over."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_tiff(source / "a.tif", tissue_like(400, 400))
    arguments = ("--input", source, "--output", output, "--model", tiny_model, "--patch", 256, "--exclusion", "none")
    assert process(*arguments).returncode == 0
    package = next(path for path in sorted((output / "patches").iterdir()))
    painted = package.with_name(package.name + suffix)
    painted.write_bytes(b"hours of work")
    again = process(*arguments, "--uncertainty", "entropy")
    assert again.returncode == 1
    assert "holds a correction that a new run would overwrite" in (output / "failures.json").read_text()
    assert painted.read_bytes() == b"hours of work"
    assert package.is_dir()
    assert process(*arguments).returncode == 0  # it is complete, and stays so
    painted.rename(tmp_path / "safe")
    assert process(*arguments, "--uncertainty", "entropy").returncode == 0


def test_a_mask_says_what_is_tissue_where_none_is_found(tmp_path: Path) -> None:
    """As of a silver stain, with a model that needs the slide's statistics."""
    model = make_trained_folder(tmp_path / "model", folds=2, normalisation="zscore", window=(64, 64)).model
    source = tmp_path / "in"
    source.mkdir()
    write_tiff(source / "grey.tif", noise(300, 300, 1)[..., :1].repeat(3, axis=2))
    Image.fromarray(np.ones((30, 30), np.uint8)).save(source / "grey_tissue.PNG")
    done = process("--input", source, "--output", tmp_path / "out", "--model", model, "--patch", 64)
    assert done.returncode == 0, done.stderr
    assert tifffile.imread(tmp_path / "out" / "images" / "uncertainty" / "grey.tif", key=0).any()


def test_options_come_from_the_environment_too(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    tifffile.imwrite(source / "a.tif", tissue_like(300, 300), photometric="rgb", metadata=None)
    done = process(
        UGA_INPUT=str(source), UGA_OUTPUT=str(tmp_path / "out"), UGA_MODEL=str(tiny_model), UGA_MPP="0.5",
        UGA_PATCH="256", UGA_TOP="1", UGA_EXCLUSION="none", UGA_UNCERTAINTY="mutual-information",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranked = RankedPatches.model_validate_json((tmp_path / "out" / "ranked-patches.json").read_bytes())
    assert ranked.uncertainty.measure == "mutual-information"
    assert len(ranked.patches) == 1
    assert ranked.all_slides[0].mpp_x == 0.5


def test_small_one_level_non_ascii_read_only(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "Eingang ä"
    source.mkdir()
    path = write_tiff(source / "Präparat 1 µ.tif", tissue_like(120, 90))
    path.chmod(stat.S_IRUSR)
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = process("--input", source, "--output", tmp_path / "out", "--model", tiny_model, "--exclusion", "none")
    assert done.returncode == 0, done.stderr
    ranked = RankedPatches.model_validate_json((tmp_path / "out" / "ranked-patches.json").read_bytes())
    assert len(ranked.patches) == 1
    reread(path, ranked, tmp_path / "out")
    source.chmod(stat.S_IRWXU)


def test_no_tissue_gives_empty_but_valid_outputs(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_tiff(source / "glass.tif", np.full((400, 500, 3), 243, np.uint8))
    done = process("--input", source, "--output", tmp_path / "out", "--model", tiny_model)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert RankedPatches.model_validate_json((out / "ranked-patches.json").read_bytes()).patches == ()
    assert json.loads((out / "uncertain-patches.json").read_text())["boxes"] == []
    assert not tifffile.imread(out / "images" / "segmentation" / "glass.tif", key=0).any()
    assert (out / "manifest.json").is_file()
    assert (out / "report.html").is_file()


def test_a_users_tissue_mask_is_obeyed(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_tiff(source / "a.tif", tissue_like(512, 512))
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 1
    Image.fromarray(mask).save(source / "a_tissue.png")
    assert process("--input", source, "--output", tmp_path / "out", "--model", tiny_model).returncode == 0
    uncertainty = tifffile.imread(tmp_path / "out" / "images" / "uncertainty" / "a.tif", key=0)
    assert not uncertainty[:, :128].any()
    assert (uncertainty[:, 128:] > 0).mean() > 0.9


def test_kill_9_leaves_nothing_that_looks_finished(tmp_path: Path, tiny_model: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_tiff(source / "a-small.tif", tissue_like(300, 300))
    write_tiff(source / "b-large.tif", tissue_like(4200, 4200, seed=1))
    arguments = ["--input", source, "--output", output, "--model", tiny_model, "--patch", 256, "--top", 3]
    running = subprocess.Popen(
        [sys.executable, str(ROOT / "process.py"), *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    partial = output / "b-large" / "images" / "segmentation" / "b-large.tif.partial"
    deadline = time.monotonic() + 120
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert partial.exists()
    left = [p for p in (output / "b-large").rglob("*") if p.is_file()]
    assert all(p.name.endswith(".partial") for p in left)
    small = (output / "a-small" / "manifest.json").read_bytes()
    again = process(*arguments)
    assert again.returncode == 0, again.stderr
    assert (output / "a-small" / "manifest.json").read_bytes() == small
    assert (output / "b-large" / "manifest.json").is_file()
    assert not list(output.rglob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "/does/not/exist"), "does not exist"),
        (("--overlap", "2"), "overlap"),
        (("--no-such-option",), "no-such-option"),
        (("--stride", "300"), "does not divide"),
        (("--model", "/does/not/exist"), "/does/not/exist"),
        (("--uncertainty", "guess"), "uncertainty"),
    ],
)
def test_bad_requests_exit_2_with_one_sentence(
    tmp_path: Path, tiny_model: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "a.tif", tissue_like(100, 100))
    given = {"--input": str(tmp_path / "in"), "--output": str(tmp_path / "out"), "--model": str(tiny_model)}
    given = {name: value for name, value in given.items() if name not in arguments}
    done = process(*(part for pair in given.items() for part in pair), *arguments)
    assert done.returncode == 2
    assert message in last_line(done.stderr)
    assert "Traceback" not in done.stderr


def test_an_altered_model_is_refused_before_any_slide_is_opened(tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    weights = model / "fold_1" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.svs").write_bytes(b"")
    done = process("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    assert done.returncode == 2
    assert "fold_1/model.safetensors" in last_line(done.stderr)
    assert not (tmp_path / "out" / "failures.json").exists()


def test_grid_and_level0_corners_are_each_others_inverse() -> None:
    for mpp in (0.2271, 0.25, 0.499, 0.5, 1.0):
        grid = Grid.over(100_000, 100_000, SpacingUm(mpp, mpp), 1.0)
        for x in range(0, grid.width, 997):
            assert grid.to_grid(grid.to_level0(x, x)) == (x, x)
