"""Every refusal has its sentence, and what is good is used beside it."""

import json
import os
import re
import shutil
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from correction_helpers import (
    ENSEMBLE,
    REGION,
    SIZE,
    SLIDE,
    change_record,
    corrected,
    draw,
    feature,
    make_model,
    predicted,
    read,
    review,
    square,
    write_features,
    write_package,
    write_png,
)
from output_helpers import COMPUTATION, MODEL
from PIL import Image

from uga.corrections.export import painted
from uga.errors import UserError
from uga.geometry import GridRegion
from uga.output.manifest import clear_outputs, is_complete, write_manifest
from uga.output.package import holds_correction
from uga.output.schema import InputRecord, RunIdentity

EXPORTED = ["patch.json", "image.png", "prediction.png", "uncertainty.png", "annotation.geojson"]


@pytest.fixture
def good(tmp_path):
    """A correction that can be used, beside whatever a test adds."""
    package = write_package(tmp_path, seed=7, rank=7, region=GridRegion(900, 900, SIZE, SIZE))
    write_png(package / "correction.png", corrected(7))
    return package


def refused(folder, good, expected, *, unchanged=0, model=ENSEMBLE):
    """The only refusal; ``expected`` is a pattern of its sentence."""
    found = read(folder, model)
    assert [correction.name for correction in found.used] == [good.name]
    assert found.summary() == f"1 used, {unchanged} unchanged, 1 refused"
    (refusal,) = found.refused
    assert re.search(expected, refusal.reason), refusal.reason
    assert str(folder) not in refusal.reason
    assert ";" in refusal.reason, "a remedy"
    assert refusal.reason.endswith(".")
    return refusal


def painted_with(colour, place=(6, 5), mode="RGB"):
    pixels = painted(corrected(), ENSEMBLE)
    image = Image.fromarray(pixels).convert(mode)
    image.putpixel(place, colour)
    return image


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (painted_with((77, 128, 117)), r"\(77, 128, 117\) at x = 6, y = 5.*tumor \(0, 158, 115\) or 2.*anti-aliasing"),
        (painted_with((7, 7, 7)), "has the value 7 at x = 6, y = 5, which stands for no label"),
        (painted_with((0, 0, 0, 128), mode="RGBA"), "is transparent at x = 6, y = 5; fill"),
        (Image.fromarray(corrected()).resize((SIZE // 2, SIZE // 2)), "is 16 x 16 px but the patch is 32 x 32 px"),
        (Image.fromarray(corrected()[:-1]), "is 32 x 31 px but"),
        (Image.fromarray(corrected().astype(np.uint16)), "16 bits per channel; save it with 8"),
        (Image.fromarray(np.full((SIZE, SIZE), 255, np.uint8)), "white all over, which means not judged; paint"),
        (Image.fromarray(np.eye(SIZE) > 0), "black and white only, and white means not judged; paint labels"),
        (Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255), "black and white only, and white means not judged"),
    ],
)  # fmt: skip
def test_label_maps(tmp_path, good, picture, expected):
    package = write_package(tmp_path)
    picture.save(package / "correction.png")
    refusal = refused(tmp_path, good, expected)
    assert refusal.source == package / "correction.png"
    assert refusal.reason.startswith(f"patches/{package.name}/correction.png ")


def test_sixteen_bit_rgb(tmp_path, good):
    """Pillow would read it as 8 bits without a word."""
    rows = b"".join(b"\0" + bytes(6 * SIZE) for _ in range(SIZE))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    (write_package(tmp_path) / "correction.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    refused(tmp_path, good, "16 bits per channel")


@pytest.mark.parametrize("content", ["jpeg", "truncated", "empty", "header only", "damaged"])
def test_no_png(tmp_path, good, content):
    file = write_package(tmp_path) / "correction.png"
    write_png(file, corrected())
    whole = file.read_bytes()
    if content == "jpeg":
        Image.fromarray(corrected()).save(file, format="JPEG")
    else:
        parts = {"truncated": whole[:-30], "empty": b"", "header only": whole[:33]}
        file.write_bytes(parts.get(content, whole[:45] + b"????" + whole[49:]))
    expected = "is not a PNG" if content in ("jpeg", "empty") else "damaged"
    refused(tmp_path, good, expected)


def test_a_picture_far_too_large_is_not_decoded(tmp_path, good):
    file = write_package(tmp_path) / "correction.png"
    write_png(file, corrected())
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 1 << 30, 1 << 30)
    file.write_bytes(data)
    refused(tmp_path, good, "is 1073741824 x 1073741824 px")


BOW_TIE = [(0, 0), (20, 20), (20, 0), (0, 20)]


def moved(ring):
    corner = square(REGION.x, REGION.y, 0)[0]
    return [(corner[0] + 4 * x, corner[1] + 4 * y) for x, y in ring]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ([feature(square(REGION.x, REGION.y, 9), "stroma")], "unknown class 'stroma'.*background, tissue, tumor"),
        ([feature(square(REGION.x, REGION.y, 9), "")], "has no class"),
        ([feature(moved(BOW_TIE))], "crosses itself.*redraw"),
        ([feature(square(-50, REGION.y, 9)), feature(square(REGION.x, REGION.y, 9))], "outside the slide"),
        ([feature(square(900, 900, 9))], "not of this patch, as its shapes lie elsewhere"),
        ([feature(square(0, 0, 9))], "drawn on image.png as image.geojson"),
        ([feature(square(REGION.x + 4, REGION.y, SIZE), "Region*")], "not of this patch"),
        ([], "holds no shape; export all objects, with the frame"),
    ],
)  # fmt: skip
def test_outlines(tmp_path, good, features, expected):
    package = write_package(tmp_path)
    file = write_features(package / "annotation.geojson", *features)
    assert refused(tmp_path, good, expected).source == file


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b'{"type": "FeatureCollection"}', b"\xff" * 99, b"not json"])
def test_damaged_outlines(tmp_path, good, content):
    (write_package(tmp_path) / "annotation.geojson").write_bytes(content)
    refused(tmp_path, good, "annotation.geojson")


def test_outlines_of_another_package(tmp_path, good):
    package = write_package(tmp_path)
    shutil.copy(good / "annotation.geojson", package / "annotation.geojson")
    refused(tmp_path, good, "not of this patch, as its shapes lie elsewhere on the slide; save it in the package")


def test_outlines_beside_the_picture(tmp_path, good):
    package = write_package(tmp_path)
    write_features(package / "image.geojson", feature(square(REGION.x, REGION.y, 9)))
    refused(tmp_path, good, "image.geojson.*outside")


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol0 "lol">'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
    + "]><ASAP_Annotations>&lol9;</ASAP_Annotations>"
)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("s1.xml", LAUGHS, "declares entities"),
        ("s1.xml", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><ASAP_Annotations/>', "declares entities|no valid XML"),
        ("s1.xml", "<ASAP_Annotations>", "no valid XML"),
        ("s1.xml", "<Annotations/>", "no annotation of ASAP"),
        ("s1.xml", "<ASAP_Annotations/>", "holds no shape"),
        ("S1.json", "{}", "S1.json"),
        ("s1.svs.geojson", json.dumps(feature(square(5000, 10, 5))), "outside the slide"),
        ("s1.geojson", json.dumps(feature(square(10, 10, 5))), "no shape in any package of its slide; draw inside"),
        (
            "s2.geojson",
            json.dumps(feature(square(10, 10, 5))),
            r"has the name of no slide of these packages \(s1\); ren",
        ),
        ("case.json", '{"polygons": [{"path_points": []}]}', "has the name of no slide"),
        ("case.xml", "<ASAP_Annotations/>", "has the name of no slide"),
    ],
)
def test_files_on_the_slide(tmp_path, good, name, content, expected):
    (tmp_path / "slides").mkdir()
    file = tmp_path / "slides" / name
    file.write_text(content)
    assert refused(tmp_path, good, expected).source == file


@pytest.mark.parametrize(("name", "content"), [("manifest.json", "{}"), ("scan.xml", "<Scan/>"), ("shot.png", "")])
def test_files_that_are_no_annotation_are_passed_over(tmp_path, good, name, content):
    (tmp_path / name).write_text(content)
    assert read(tmp_path).summary() == "1 used, 0 unchanged, 0 refused"


def test_a_file_named_like_two_slides(tmp_path, good):
    other = write_package(tmp_path / "b", slide=SLIDE.model_copy(update={"quickhash": "q2"}))
    file = write_features(tmp_path / "s1.geojson", feature(square(REGION.x, REGION.y, 9)))
    refused(tmp_path, good, "has the name of several slides; put it in the folder", unchanged=1)
    file.rename(tmp_path / "b" / file.name)
    assert [correction.name for correction in read(tmp_path).used] == [other.name, good.name]


def test_two_corrections_that_differ(tmp_path, good):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    write_features(package / "annotation.geojson", feature(square(REGION.x, REGION.y, 9)))
    reason = refused(tmp_path, good, "is corrected by .*, which differ; keep the one that counts").reason
    assert "correction.png" in reason
    assert "annotation.geojson" in reason
    (package / "correction.png").unlink()
    draw("slide.xml", package, corrected())
    refused(tmp_path, good, "is corrected by .*annotation.geojson and s1.xml, which differ")


def test_a_good_file_beside_a_bad_one_is_not_taken_for_the_whole(tmp_path, good):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    write_features(package / "annotation.geojson", feature(square(REGION.x, REGION.y, 9), "stroma"))
    found = read(tmp_path)
    assert found.summary() == "1 used, 0 unchanged, 2 refused"
    assert {refusal.source.name for refusal in found.refused} == {"annotation.geojson", "correction.png"}
    assert "another file that corrects it is refused; mend or remove that one." in found.refused[1].reason


def test_both_forms_of_the_prediction_changed(tmp_path, good):
    package = write_package(tmp_path)
    write_png(package / "prediction.png", corrected())
    write_features(package / "annotation.geojson", feature(square(REGION.x, REGION.y, 9)))
    refused(tmp_path, good, "neither prediction.png nor annotation.geojson as exported, so the prediction is lost; put")


@pytest.mark.parametrize(
    "name",
    [
        "correction.jpg",
        "Correction.PNG",
        "correction (1).png",
        "objects.geojson",
        "s1.xml",
        "image_corrected.png",
        "mask.png",
        "Korrektur.TIF",
        "image.psd",
        "image.xcf",
    ],
)
def test_work_under_another_name(tmp_path, good, name):
    package = write_package(tmp_path)
    (package / name).write_bytes(b"")
    (package / "notes.txt").write_text("")
    assert (
        refused(tmp_path, good, "is not read under this name; save a label map as correction.png").source.name == name
    )


@pytest.mark.parametrize("ending", ["_corrected.png", ".jpg", " (1).png", ".png.tiff", ".xcf"])
def test_work_beside_the_package_under_another_name(tmp_path, good, ending):
    package = write_package(tmp_path)
    file = write_png(package.with_name(package.name + ending), painted(corrected(), ENSEMBLE))
    (package.parent / "overview.jpg").write_bytes(b"")
    refusal = refused(tmp_path, good, f"is not read under this name; save a label map as {package.name}.png here, or")
    assert refusal.source == file
    assert refusal.reason.endswith(f" as correction.png in patches/{package.name}.")


def test_a_name_that_begins_like_that_of_another_package_is_its_own(tmp_path):
    one = write_package(tmp_path)
    two = write_package(tmp_path, seed=2, region=GridRegion(900, 900, SIZE, SIZE))
    two = two.rename(one.with_name(f"{one.name}7"))
    draw("beside.png", two, corrected(2))
    assert [correction.name for correction in read(tmp_path).used] == [two.name]
    (tmp_path / "patches" / f"{two.name}.bmp").write_bytes(b"")
    assert f"save a label map as {two.name}.png" in read(tmp_path).refused[0].reason


@pytest.mark.parametrize("place", ["package", "folder", "beside", "inside"])
def test_names_that_no_report_can_hold(tmp_path, good, place):
    odd = os.fsdecode(b"caf\xe9")
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    if place in ("package", "folder"):
        target = package.with_name(odd) if place == "package" else tmp_path / odd / package.name
        target.parent.mkdir(exist_ok=True)
        package.rename(target)
        refusal = refused(
            tmp_path, good, r"The name of .*caf\\udce9.* is not UTF-8, which no JSON file can hold; rename"
        )
    else:
        (package / "correction.png").unlink()
        file = package / f"{odd}.png" if place == "inside" else tmp_path / f"{odd}.geojson"
        file.write_bytes(b"")
        refusal = refused(tmp_path, good, r"caf\\udce9", unchanged=int(place == "beside"))
    refusal.reason.encode()


def test_the_same_patch_twice(tmp_path, good):
    shutil.copytree(good, tmp_path / "copy" / good.name)
    refused(tmp_path, good, "holds the same patch as .* and is a copy of it; remove one")
    write_png(tmp_path / "copy" / good.name / "correction.png", corrected(3))
    found = read(tmp_path)
    assert found.summary() == "0 used, 0 unchanged, 2 refused"
    assert all("differs; keep the one that counts" in refusal.reason for refusal in found.refused)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__sha256": "0" * 64}, r"corrects the model demo \(000000000000\), not demo \(\w{12}\); name the model"),
        ({"labels": {"background": 0, "tumor": 1, "tissue": 2}}, "has labels .*but the model demo has"),
        ({"spacing_um": 0.5}, "0.5 um/px, but"),
        ({"not_judged": 254}, "has labels"),
        ({"grid_x": REGION.x + 1}, r"grid pixel \(302, 200\), but at \(1239, 797\) on the slide, which is not"),
        ({"patch__y": 800}, "not the same place"),
        ({"slide__mpp_x": 0.25}, "not the same place"),
        ({"scale_y": 4.0}, "not the same place"),
        ({"size_px": 2 * SIZE}, "not the same place"),
        ({"size_px": 1 << 20}, "more than the 8192 px of any patch"),
        ({"patch__image_sha256": "0" * 64}, "image.png is not the picture that was exported.*put the exported"),
        ({"files__image__name": "../../image.png"}, r"names the file '\.\./\.\./image.png', which no package has"),
        ({"files__correction": "/etc/passwd"}, "names the file '/etc/passwd'"),
        ({"files__annotation__name": "..\\annotation.geojson"}, "names the file"),
        ({"slide__file": "/data/s1.svs"}, "is not valid"),
        ({"review": {"state": "perhaps"}}, "is not valid"),
        ({"unknown": 1}, "is not valid"),
    ],
)  # fmt: skip
def test_records(tmp_path, good, changes, expected):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    change_record(package, **changes)
    assert refused(tmp_path, good, expected).source == package


def test_a_correction_for_another_model(tmp_path, good):
    found = read(tmp_path, make_model(name="second", sha256="f" * 64))
    assert found.summary() == "0 used, 0 unchanged, 1 refused"
    assert "not second (ffffffffffff); name the model it was exported with by --model." in found.refused[0].reason


def test_a_shifted_picture_or_one_of_another_slide(tmp_path, good):
    for rank, picture in enumerate((np.roll, shutil.copy), start=1):
        package = write_package(tmp_path, rank=rank, region=GridRegion(40 * rank, 90, SIZE, SIZE))
        write_png(package / "correction.png", corrected())
        if picture is np.roll:
            shown = np.asarray(Image.open(package / "image.png"))
            write_png(package / "image.png", np.roll(shown, 1, axis=1))
        else:
            shutil.copy(good / "image.png", package / "image.png")
    found = read(tmp_path)
    assert found.summary() == "1 used, 0 unchanged, 2 refused"
    assert all("shows another place or slide or was edited" in refusal.reason for refusal in found.refused)


def test_a_picture_painted_over_and_nothing_else(tmp_path, good):
    package = write_package(tmp_path)
    Image.open(package / "image.png").save(package / "image.png", compress_level=0)
    assert read(tmp_path).summary() == "1 used, 1 unchanged, 0 refused"
    painted_over = np.array(Image.open(package / "image.png"))
    painted_over[4:9, 4:9] = (0, 158, 115)
    write_png(package / "image.png", painted_over)
    assert refused(tmp_path, good, "image.png is not the picture that was exported.*put the").source == package


def test_outlines_that_judge_nothing(tmp_path, good):
    """Ignored throughout, without the frame; beyond the slide's edge nobody can judge."""
    grid = SLIDE.grid(1.0)
    for number, x in enumerate((REGION.x, grid.width - SIZE // 2), start=1):
        package = write_package(tmp_path, rank=number, region=GridRegion(x, REGION.y, SIZE, SIZE))
        file = package / "annotation.geojson"
        write_features(file, feature(square(x, REGION.y, min(SIZE, grid.width - x)), "Ignore*"))
    found = read(tmp_path)
    assert found.summary() == "1 used, 0 unchanged, 2 refused"
    for refusal in found.refused:
        assert refusal.reason.endswith("judges nothing in the patch; draw labels, or skip it in `uga review`.")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (["patch.json"], "has no patch.json; copy the whole package"),
        (["image.png"], "has no image.png"),
        (["prediction.png", "annotation.geojson"], "the prediction is lost"),
        ([*EXPORTED, "correction.png"], "is empty"),
    ],
)  # fmt: skip
def test_incomplete_packages(tmp_path, good, missing, expected):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    for name in missing:
        (package / name).unlink()
    refused(tmp_path, good, expected)


def test_prediction_lost_but_outlines_kept(tmp_path):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected())
    (package / "prediction.png").unlink()
    np.testing.assert_array_equal(read(tmp_path).used[0].prediction, predicted())


@pytest.mark.parametrize("what", ["file", "folder", "record", "file on the slide"])
def test_links_that_leave_the_folder(tmp_path_factory, tmp_path, good, what):
    outside = tmp_path_factory.mktemp("outside")
    secret = write_package(outside)
    if what == "folder":
        (tmp_path / "more").symlink_to(outside)
    elif what == "file on the slide":
        (tmp_path / "s1.xml").symlink_to(secret / "annotation.geojson")
    else:
        package = write_package(tmp_path)
        name = "correction.png" if what == "file" else "patch.json"
        (package / name).unlink(missing_ok=True)
        (package / name).symlink_to(secret / ("prediction.png" if what == "file" else name))
    refused(tmp_path, good, "is a link that leaves the folder of corrections; copy")


def test_links_within_the_folder_count_once(tmp_path, good):
    (tmp_path / "again").symlink_to(good.parent)
    assert read(tmp_path).summary() == "1 used, 0 unchanged, 0 refused"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_rights(tmp_path, good):
    package = write_package(tmp_path)
    write_png(package / "correction.png", corrected()).chmod(0)
    refused(tmp_path, good, "cannot be read")


def test_sentences_show_paths_from_the_folder_on(tmp_path, monkeypatch):
    file = write_package(tmp_path / "a", slide=SLIDE.model_copy(update={"id": "a"})) / "correction.png"
    file.write_bytes(b"")
    for folder in (tmp_path / "a", Path("a")):
        monkeypatch.chdir(tmp_path)
        (refusal,) = read(folder).refused
        assert refusal.source.samefile(file)
        assert refusal.reason.startswith(f"patches/{file.parent.name}/correction.png is not a PNG")


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="is not a folder; name the folder that holds the corrected packages"):
        read(tmp_path / "none")
    assert read(tmp_path).summary() == "0 used, 0 unchanged, 0 refused"


def test_a_review_is_work_that_a_rerun_keeps(tmp_path):
    package = write_package(tmp_path)
    slide = InputRecord(**SLIDE.model_dump(), size_bytes=1)
    identity = RunIdentity(uga_version="0", input=slide, model=MODEL, options={})
    write_manifest(
        tmp_path, identity, started=datetime.now(UTC), timings_s={}, peak_memory_bytes=0, computation=COMPUTATION
    )
    assert not holds_correction(package)
    review(package, "confirmed")
    assert holds_correction(package)
    assert is_complete(tmp_path, identity)
    with pytest.raises(UserError, match="holds a correction"):
        clear_outputs(tmp_path)


@pytest.mark.parametrize("name", ["annotation.geojson", "correction.png", "prediction.png"])
def test_a_file_saved_one_folder_too_high_hides_no_package(tmp_path, good, name):
    """As QuPath's export saved into patches/ instead of the patch's own folder."""
    package = write_package(tmp_path, rank=2, seed=2)
    draw("beside.png", package, corrected(2))
    (tmp_path / "patches" / name).write_bytes((package / name.replace("correction", "prediction")).read_bytes())
    found = read(tmp_path)
    assert len(found.used) == 2
    (refusal,) = found.refused
    assert "patches" in refusal.reason
    assert "patch.json" in refusal.reason


def test_polygons_of_the_slide_saved_into_a_package_are_told(tmp_path, good):
    package = write_package(tmp_path, rank=2, seed=2)
    file = draw("slide.json", package, corrected(2))
    file.rename(package / file.name)
    found = read(tmp_path)
    assert any(file.name in refusal.reason for refusal in found.refused)
    (package / file.name).write_text('{"notes": "nothing drawn"}')
    assert not read(tmp_path).refused
