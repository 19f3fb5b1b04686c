import json
import shutil
from pathlib import Path

import pytest
from slide_files import real_data

from uga.errors import UserError
from uga.inputs import find_slides


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def socket(slug: str, relative_path: str, super_kind: str = "Image") -> dict[str, object]:
    return {"slug": slug, "relative_path": relative_path, "super_kind": super_kind, "kind": "Image"}


def test_files_are_found_with_centre_and_mask(tmp_path: Path) -> None:
    touch(tmp_path / "b.svs")
    touch(tmp_path / "umcu" / "a.TIF")
    mask = touch(tmp_path / "umcu" / "a_tissue.png")
    lonely = touch(tmp_path / "umcu" / "c_tissue.tif")
    touch(tmp_path / "umcu" / "masks" / "a.tif")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "größe µm.ndpi")
    found = {slide.slide_id: slide for slide in find_slides(tmp_path)}
    assert set(found) == {"a", "b", "c_tissue", "größe µm"}
    assert found["a"].tissue_mask == mask
    assert found["a"].centre == "umcu"
    assert found["b"].centre == ""
    assert found["c_tissue"].path == lonely


def test_same_names_get_different_ids(tmp_path: Path) -> None:
    for path in ("x/1.svs", "y/1.svs", "y/1.tif"):
        touch(tmp_path / path)
    ids = [slide.slide_id for slide in find_slides(tmp_path)]
    assert ids == ["x_1_svs", "y_1_svs", "y_1_tif"]


def test_two_masks_for_a_slide_are_refused(tmp_path: Path) -> None:
    for name in ("a.svs", "a_tissue.png", "a_tissue.tif"):
        touch(tmp_path / name)
    with pytest.raises(UserError, match=r"a_tissue\.tif and a_tissue\.png"):
        find_slides(tmp_path)


def test_nothing_to_do_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No slide"):
        find_slides(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_slides(tmp_path / "nowhere")


@pytest.mark.real
def test_a_folder_of_one_dicom_series_is_one_slide(tmp_path: Path) -> None:
    series = tmp_path / "case 7"
    shutil.copytree(real_data() / "cmu-1-small-region" / "dicom-truncated", series)
    (slide,) = find_slides(tmp_path)
    assert slide.path == series
    assert slide.slide_id == "case 7"
    touch(series / "broken.dcm")
    assert len(find_slides(tmp_path)) == 2


@pytest.mark.parametrize("keys", [("socket",), ("interface",), ("socket", "interface")])
def test_sockets_of_every_platform_version(tmp_path: Path, keys: tuple[str, ...]) -> None:
    slide = touch(tmp_path / "images" / "wsi" / "4f0c.tif")
    mask = touch(tmp_path / "images" / "tissue" / "99aa.mha")
    values = [
        dict.fromkeys(keys, socket("lymph-node-wsi", "images/wsi")),
        dict.fromkeys(keys, socket("lymph-node-tissue-mask", "images/tissue")),
        dict.fromkeys(keys, socket("age", "age.json", "Value")),
    ]
    (tmp_path / "inputs.json").write_text(json.dumps(values))
    (found,) = find_slides(tmp_path)
    assert found.path == slide
    assert found.tissue_mask == mask


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "names these image sockets: none"),
        ([{"socket": socket("a", "images/a")}, {"socket": socket("b", "images/b")}], "names these image sockets: a, b"),
        ([{"socket": socket("a", "../../etc")}], "outside"),
        ([{"socket": socket("a", "images/empty")}], "exactly one"),
        ({"a": 1}, "not the list of sockets"),
        ([{"value": 3}], "not the list of sockets"),
    ],
)
def test_sockets_that_cannot_be_followed(tmp_path: Path, values: object, message: str) -> None:
    (tmp_path / "inputs.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        find_slides(tmp_path)
