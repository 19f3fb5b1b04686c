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
