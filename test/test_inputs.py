import errno
import logging
import os
import shutil
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from slide_files import real_data

from uga.errors import UserError
from uga.inputs import find_slides
from uga.slide.dicom import series_file, series_uid


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


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (("2024.01/s.svs", "2024_01/s.svs"), ["2024_01_s_svs", "2024_01_s_svs_2"]),
        (("x/1.svs", "y/1.svs", "X_1_svs.tif"), ["X_1_svs", "x_1_svs_2", "y_1_svs"]),
        (("in.svs", "1.dcm"), ["in", "in_svs"]),
    ],
)
def test_names_that_are_the_same_with_their_folders_get_numbers(tmp_path: Path, paths, ids) -> None:
    for path in paths:
        touch(tmp_path / "in" / path)
    found = find_slides(tmp_path / "in")
    assert [slide.slide_id for slide in found] == ids
    assert len({slide.path for slide in found}) == len(ids)


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


@pytest.mark.parametrize("suffix", [".TIF", ".PNG", ".MHA"])
def test_masks_have_endings_in_either_case(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path / "a.svs")
    mask = touch(tmp_path / f"a_tissue{suffix}")
    (slide,) = find_slides(tmp_path)
    assert slide.tissue_mask == mask


def test_a_folder_can_be_left_out(tmp_path: Path) -> None:
    for name in ("a.svs", "out/images/segmentation/a.tif", "out2/b.svs", "out/s/1.dcm"):
        touch(tmp_path / name)
    assert [slide.slide_id for slide in find_slides(tmp_path, without=[tmp_path / "out"])] == ["a", "b"]
    within = find_slides(tmp_path / "out2", without=[tmp_path, tmp_path / "out2"])
    assert [slide.slide_id for slide in within] == ["b"]


def test_a_name_that_no_json_file_can_hold_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.svs")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"M\\xfcller\.svs is not UTF-8.*rename it"):
        find_slides(tmp_path)


def write_dicom(path: Path, uid: str) -> Path:
    """A DICOM file whose pixel data is cut off: whoever wants to read it fails."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.SeriesInstanceUID, data.Rows, data.Columns = uid, 1000, 1000
    data.PixelData = b"\0" * 4096
    data["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    FileDataset(str(path), data, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=False)
    path.write_bytes(path.read_bytes()[:-4000])
    return path


def test_dicom_series_are_told_by_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, uid in (("x/1.dcm", "1.2.3"), ("x/2.dcm", "1.2.3"), ("y/1.dcm", "1.2.4"), ("y/2.dcm", "1.2.5")):
        write_dicom(tmp_path / name, uid)
    touch(tmp_path / "y" / "broken.dcm")
    assert series_uid(tmp_path / "y" / "2.dcm") == "1.2.5"
    assert series_uid(tmp_path / "y" / "broken.dcm") is None
    found = {slide.slide_id: slide.path for slide in find_slides(tmp_path)}
    assert found["x"] == tmp_path / "x"
    assert len(found) == 4
    monkeypatch.chdir(tmp_path / "x")
    assert [slide.slide_id for slide in find_slides(Path())] == ["x"]


def test_hidden_files_are_no_slides(tmp_path: Path) -> None:
    """macOS leaves one beside each file where the disk cannot hold all that it knows of the file."""
    for name in ("a.svs", "._a.svs", ".Trashes/b.svs", "x/._1.dcm"):
        touch(tmp_path / name)
    write_dicom(tmp_path / "x" / "1.dcm", "1.2.3")
    assert {slide.slide_id: slide.path for slide in find_slides(tmp_path)} == {
        "a": tmp_path / "a.svs",
        "x": tmp_path / "x",
    }
    assert series_file(tmp_path / "x") == tmp_path / "x" / "1.dcm"
    hidden = touch(tmp_path / ".cache" / "c.svs")
    assert [slide.path for slide in find_slides(hidden.parent)] == [hidden]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "archive" / "scans"
    for path in (folder / "own" / "a.svs", elsewhere / "b.svs", tmp_path / "archive" / "c.svs"):
        touch(path)
    write_dicom(elsewhere / "series" / "1.dcm", "1.2.3")
    for name, target in (("2024", elsewhere), ("again", elsewhere), ("all", folder / "own")):
        (folder / name).symlink_to(target)
    for name, target in (("own/round", folder), ("own/up", tmp_path), ("own/itself", folder / "own" / "itself")):
        (folder / name).symlink_to(target)
    assert {slide.path.relative_to(folder).as_posix(): slide.centre for slide in find_slides(folder)} == {
        "own/a.svs": "own",
        "2024/b.svs": "2024",
        "2024/series": "2024",
    }


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that cannot be listed, by whoever runs the tests."""

    def scandir(place: str) -> object:
        if Path(place) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return list_folder(place)

    list_folder, folder = os.scandir, tmp_path / "locked"
    folder.mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    return folder


def test_an_input_folder_that_cannot_be_listed_is_told_as_such(locked: Path) -> None:
    with pytest.raises(UserError, match=r"locked cannot be listed \(Permission denied\); check its permissions\.$"):
        find_slides(locked)


def test_a_folder_that_cannot_be_listed_is_left_out_with_a_warning(locked: Path, monkeypatch, caplog) -> None:
    touch(locked.parent / "a.svs")
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)  # a command that ran before has cut it off
    with caplog.at_level(logging.WARNING, "uga"):
        assert [slide.slide_id for slide in find_slides(locked.parent)] == ["a"]
    assert f"{locked} cannot be listed (Permission denied)" in caplog.text
