"""Jobs of grand-challenge: what inputs.json and sockets.json say, and what is made of a job."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from panimg import convert
from panimg.image_builders.metaio_mhd_mha import image_builder_mhd
from panimg.image_builders.tiff import image_builder_tiff
from panimg.models import ColorSpace
from slide_files import write_tiff
from test_process import tissue_like

from uga.cli.console import execute
from uga.cli.main import app
from uga.errors import UserError
from uga.inputs import find_slides
from uga.output.boxes import Boxes
from uga.output.layout import DEFAULT_LAYOUT, Layout
from uga.output.schema import RankedPatches
from uga.sockets import Sockets, load_sockets

CUSTOM = {
    "schema_version": "1.0",
    "inputs": {"slide": ["sentinel-node-wsi"], "tissue_mask": ["node-outline"]},
    "outputs": {
        "segmentation": "images/metastasis-segmentation",
        "uncertainty": "images/metastasis-uncertainty",
        "ranked_patches": "metastasis-patches.json",
        "boxes": "patches-to-correct.json",
    },
}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def socket(slug: str, relative_path: str, super_kind: str = "Image") -> dict[str, object]:
    return {"slug": slug, "relative_path": relative_path, "super_kind": super_kind, "kind": "Image", "pk": 7}


def job(folder: Path, *sockets: dict[str, object], keys: tuple[str, ...] = ("socket", "interface")) -> Path:
    """Writes inputs.json as the platform does: one entry per socket."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"value": None, "file": None, "image": {"pk": "4f0c", "name": "B 12.svs"}, "pk": 1}
    values = [dict.fromkeys(keys, one) | entry for one in sockets]
    (folder / "inputs.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("keys", [("socket",), ("interface",), ("socket", "interface")])
def test_every_platform_version_is_read(tmp_path: Path, keys: tuple[str, ...]) -> None:
    slide = touch(tmp_path / "images" / "wsi" / "4f0c.tif")
    mask = touch(tmp_path / "images" / "tissue" / "99aa.mha")
    sockets = (
        socket("lymph-node-wsi", "images/wsi"),
        socket("lymph-node-tissue-mask", "images/tissue"),
        socket("age", "age.json", "Value"),
    )
    (found,) = find_slides(job(tmp_path, *sockets, keys=keys))
    assert (found.path, found.tissue_mask, found.slide_id) == (slide, mask, "4f0c")
    assert found.layout == DEFAULT_LAYOUT


def test_the_input_may_be_a_link_that_changes(tmp_path: Path) -> None:
    """Between two cases the platform points /input elsewhere."""
    for name in ("first", "second"):
        touch(job(tmp_path / name, socket("wsi", "images/wsi")) / "images" / "wsi" / f"{name}.tif")
    link = tmp_path / "input"
    for name in ("first", "second"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        assert find_slides(link)[0].path == link / "images" / "wsi" / f"{name}.tif"


def test_the_oldest_layout_has_the_slide_beside_inputs_json(tmp_path: Path) -> None:
    sockets = Sockets.model_validate({"inputs": {"tissue_mask": ["generic-overlay"]}})
    slide, mask = touch(tmp_path / "a.tif"), touch(tmp_path / "images" / "b.tif")
    job(tmp_path, socket("generic-medical-image", ""), socket("generic-overlay", "images"))
    (found,) = find_slides(tmp_path, sockets)
    assert (found.path, found.tissue_mask) == (slide, mask)


def test_a_socket_may_hold_a_dicom_series(tmp_path: Path) -> None:
    series = touch(tmp_path / "images" / "wsi" / "1.2.3.dcm").parent
    touch(series / "1.2.4.dcm")
    (found,) = find_slides(job(tmp_path, socket("wsi", "images/wsi")))
    assert (found.path, found.stem) == (series, "wsi")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "names no slide"),
        ([{"socket": socket("tissue-mask", "images/a")}], "names no slide"),
        ([{"socket": socket("a", "images/a")}, {"socket": socket("b", "images/b")}], r"2 images as slide \(a, b\)"),
        ([{"socket": socket("a", "../../etc")}], "outside"),
        ([{"socket": socket("a", "images/empty")}], "exactly one"),
        ([{"socket": socket("a", "images/missing")}], "holds 0"),
        ({"a": 1}, "not the list of sockets"),
        ([{"value": 3}], "not the list of sockets"),
        ([{"socket": {"slug": "a"}}], "not the list of sockets"),
        ("{", "not the list of sockets"),
    ],
)
def test_what_cannot_be_followed_gets_a_sentence(tmp_path: Path, values: object, message: str) -> None:
    (tmp_path / "images" / "empty").mkdir(parents=True)
    (tmp_path / "inputs.json").write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(UserError, match=message) as caught:
        find_slides(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_files_in_a_socket_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "wsi" / "a.tif")
    touch(tmp_path / "images" / "wsi" / "b.mha")
    with pytest.raises(UserError, match="exactly one"):
        find_slides(job(tmp_path, socket("wsi", "images/wsi")))


def test_configured_slugs_are_the_only_ones(tmp_path: Path) -> None:
    sockets = Sockets.model_validate(CUSTOM)
    touch(tmp_path / "images" / "x" / "a.tif")
    (found,) = find_slides(job(tmp_path, socket("sentinel-node-wsi", "images/x")), sockets)
    assert found.layout.segmentation == "images/metastasis-segmentation"
    with pytest.raises(UserError, match=r"image socket other-wsi.*sentinel-node-wsi.*sockets\.json"):
        find_slides(job(tmp_path, socket("other-wsi", "images/x")), sockets)
    with pytest.raises(UserError, match="image socket my-tissue-mask"):
        find_slides(
            job(tmp_path, socket("sentinel-node-wsi", "images/x"), socket("my-tissue-mask", "images/m")), sockets
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"slide": ["A b"]}}, r"inputs\.slide"),
        ({"inputs": {"slide": ["a"], "tissue_mask": ["a"]}}, "both"),
        ({"outputs": {"segmentation": "segmentation"}}, "folder below images"),
        ({"outputs": {"segmentation": "images/a.tif"}}, "folder below images"),
        ({"outputs": {"segmentation": "images/../../a"}}, "folder below images"),
        ({"outputs": {"segmentation": "images/a", "uncertainty": "images/a/b"}}, "two folders"),
        ({"outputs": {"boxes": "ranked-patches.json"}}, "two files"),
        ({"outputs": {"boxes": "manifest.json"}}, "file name"),
        ({"outputs": {"boxes": "/etc/boxes.json"}}, "file name"),
        ({"outputs": {"masks": "images/a"}}, r"outputs\.masks"),
        ({"schema_version": "2.0"}, "schema_version"),
    ],
)
def test_a_wrong_sockets_json_gets_a_sentence(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "sockets.json").write_text(json.dumps(change))
    with pytest.raises(UserError, match=message) as caught:
        load_sockets(None, tmp_path)
    assert str(tmp_path / "sockets.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_users_sockets_come_before_the_models(tmp_path: Path) -> None:
    assert load_sockets(None, tmp_path) == Sockets()
    (tmp_path / "sockets.json").write_text(json.dumps(CUSTOM))
    assert load_sockets(None, tmp_path) == Sockets.model_validate(CUSTOM)
    own = tmp_path / "own.json"
    own.write_text("{}")
    assert load_sockets(own, tmp_path) == Sockets()
    with pytest.raises(UserError, match="--sockets"):
        load_sockets(tmp_path / "missing.json", tmp_path)


def check_importable(folder: Path, *, segments: frozenset[int] | None, spacing_mm: float = 0.001) -> None:
    """What the platform's importer must make of an output socket's folder: one grey image with these segments."""
    builders = [image_builder_mhd, image_builder_tiff]  # the platform uses no other for outputs
    imported = folder.with_name(f"{folder.name}-imported")
    (image,) = convert(input_directory=folder, output_directory=imported, builders=builders).new_images
    assert image.color_space == ColorSpace.GRAY
    assert image.voxel_width_mm == pytest.approx(spacing_mm)
    assert image.voxel_height_mm == pytest.approx(spacing_mm)
    assert image.segments == segments


@pytest.mark.parametrize("mask_suffix", [".tif", ".mha"])
def test_a_job_from_sockets_to_sockets(tmp_path: Path, tiny_model: Path, mask_suffix: str) -> None:
    """The platform's own importer reads both images; lists lie at the sockets' paths; a mask of either kind counts."""
    folder = job(tmp_path / "in", socket("sentinel-node-wsi", "images/wsi"), socket("node-outline", "images/outline"))
    for name in ("wsi", "outline"):
        (folder / "images" / name).mkdir(parents=True)
    write_tiff(folder / "images" / "wsi" / "1d0c.tif", tissue_like(600, 800))
    mask = np.zeros((300, 400), np.uint8)
    mask[:, 200:] = 1
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing((0.001, 0.001))
    target = folder / "images" / "outline" / f"99aa{mask_suffix}"
    if mask_suffix == ".mha":
        SimpleITK.WriteImage(image, str(target))
    else:
        write_tiff(target, mask, photometric="minisblack", resolution=(10000, 10000))
    (tmp_path / "sockets.json").write_text(json.dumps(CUSTOM))
    arguments = ["--input", folder, "--output", tmp_path / "out", "--model", tiny_model, "--patch", 64, "--top", 3,
                 "--exclusion", "none", "--sockets", tmp_path / "sockets.json"]  # fmt: skip
    assert execute(app, ["infer", *map(str, arguments)]) == 0
    out, layout = tmp_path / "out", Layout.model_validate(CUSTOM["outputs"])
    assert sorted(p.name for p in (out / "images").iterdir()) == ["metastasis-segmentation", "metastasis-uncertainty"]
    check_importable(out / layout.segmentation, segments=frozenset({0, 1, 2}))
    check_importable(out / layout.uncertainty, segments=None)
    ranked = RankedPatches.model_validate_json((out / layout.ranked_patches).read_bytes())
    boxes = Boxes.model_validate_json((out / layout.boxes).read_bytes())
    assert len(ranked.patches) == len(boxes.boxes) == 3
    assert all(patch.x >= 2 * 128 for patch in ranked.patches), "the mask leaves nothing in the left half"
    assert not (out / "uncertain-patches.json").exists()
    again = ["rank", out, "--slides", folder / "images" / "wsi", "--output", tmp_path / "again", "--model", tiny_model]
    assert execute(app, [str(argument) for argument in again]) == 0


def test_other_jobs_keep_the_documented_layout(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "a.tif", tissue_like(300, 300))
    (tmp_path / "sockets.json").write_text(json.dumps(CUSTOM))
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model,
                 "--sockets", tmp_path / "sockets.json"]  # fmt: skip
    assert execute(app, ["infer", *map(str, arguments)]) == 0
    assert (tmp_path / "out" / "images" / "segmentation" / "a.tif").is_file()


def test_one_output_folder_never_holds_the_images_of_two_slides(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def run(name: str) -> int:
        folder = job(tmp_path / name, socket("wsi", "images/wsi"))
        (folder / "images" / "wsi").mkdir(parents=True)
        write_tiff(folder / "images" / "wsi" / f"{name}.tif", tissue_like(300, 300))
        return execute(app, ["infer", "--input", str(folder), "--output", str(out), "--model", str(tiny_model)])

    assert run("one") == 0
    assert run("two") == 0, "what the first run's manifest lists is removed"
    assert [p.name for p in (out / "images" / "segmentation").iterdir()] == ["two.tif"]
    (out / "manifest.json").unlink()
    assert run("three") == 1
    assert "two.tif is of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"MERCURE_IN_DIR": "/m"}, "/m"),
        ({"MERCURE_IN_DIR": "/m", "HOLOSCAN_INPUT_PATH": "/h"}, "/h"),
        ({"MERCURE_IN_DIR": "/m", "HOLOSCAN_INPUT_PATH": "/h", "UGA_INPUT": "/u"}, "/u"),
    ],
)
def test_runners_name_the_input_in_their_own_way(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    folder: str,
) -> None:
    for name, value in {**variables, "HOLOSCAN_MODEL_PATH": str(tiny_model)}.items():
        monkeypatch.setenv(name, value)
    assert execute(app, ["infer"]) == 2
    assert f"input folder {folder} does not exist" in capsys.readouterr().err
    assert execute(app, ["infer", "--input", "/argument"]) == 2
    assert "input folder /argument does not exist" in capsys.readouterr().err


def test_runners_name_model_and_output_in_their_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    monkeypatch.setenv("HOLOSCAN_MODEL_PATH", "/holoscan")
    assert execute(app, ["infer", "--input", str(tmp_path)]) == 2
    assert "/holoscan is not a folder" in capsys.readouterr().err
    monkeypatch.setenv("UGA_MODEL", str(tiny_model))
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "a.tif", tissue_like(200, 200))
    for name in ("MERCURE_OUT_DIR", "HOLOSCAN_OUTPUT_PATH"):  # the later one comes first
        monkeypatch.setenv(name, str(tmp_path / name))
        assert execute(app, ["infer", "--input", str(tmp_path / "in")]) == 0
        assert (tmp_path / name / "manifest.json").is_file()
