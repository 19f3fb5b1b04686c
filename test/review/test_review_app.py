"""What the page asks for and sends."""

import io
import json
import re
import shutil
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from output_helpers import LABELS, MODEL
from PIL import Image
from review_helpers import (
    HOST,
    REVIEWER,
    SIZE,
    client_of,
    corrected,
    first_id,
    png,
    predicted,
    record_of,
    write_output,
    write_slide,
)

from uga.corrections import read_corrections
from uga.review.labelmap import largest_upload

ENSEMBLE = SimpleNamespace(
    name=MODEL.name, sha256=MODEL.sha256, labels=LABELS, tumour_label="tumor", tumour_value=2, spacing_um=1.0
)


@pytest.fixture
def client(tmp_path):
    write_output(tmp_path)
    return client_of(tmp_path)


def labels_of(answer):
    return np.frombuffer(answer.content, np.uint8).reshape(SIZE, SIZE)


def save(client, identity, labels, base=None, **changes):
    base = client.get(f"/api/patches/{identity}").json()["version"] if base is None else base
    content = labels if isinstance(labels, bytes) else png(labels)
    arguments = {"params": {"base": base, "reviewer": REVIEWER}, "headers": {"Content-Type": "image/png"}}
    return client.put(f"/api/patches/{identity}/labels", content=content, **(arguments | changes))


def act(client, identity, action, base=None, **changes):
    base = client.get(f"/api/patches/{identity}").json()["version"] if base is None else base
    return client.post(
        f"/api/patches/{identity}/review", json={"base": base, "reviewer": REVIEWER, "action": action} | changes
    )


def test_the_queue(client):
    patches = client.get("/api/patches").json()["patches"]
    assert [(p["place"], p["rank"], p["state"], p["slide"]) for p in patches] == [
        (n, n, "new", "s1") for n in (1, 2, 3)
    ]
    assert [p["score"] for p in patches] == sorted((p["score"] for p in patches), reverse=True)
    session = client.get("/api/session").json()
    assert "Research use only" in session["notice"]
    assert (len(session["heat"]), session["not_judged"]) == (768, 255)


def test_a_patch_and_its_maps(client):
    identity = first_id(client)
    patch = client.get(f"/api/patches/{identity}").json()
    assert [(label["name"], label["value"]) for label in patch["labels"]] == sorted(LABELS.items(), key=lambda i: i[1])
    assert [label["colour"] is None for label in patch["labels"]] == [True, False, False]
    assert (patch["size_px"], patch["tiles"], patch["undoable"], patch["as_predicted"]) == (SIZE, None, 0, True)
    for name in ("labels", "prediction"):
        answer = client.get(f"/api/patches/{identity}/{name}")
        np.testing.assert_array_equal(labels_of(answer), predicted())
    assert json.loads(client.get(f"/api/patches/{identity}/labels").headers["x-review"])["version"] == patch["version"]
    assert client.get(f"/api/patches/{identity}/uncertainty").status_code == 200
    picture = Image.open(io.BytesIO(client.get(f"/api/patches/{identity}/image.png").content))
    assert picture.size == (SIZE, SIZE)
    thumbnail = Image.open(io.BytesIO(client.get(f"/api/patches/{identity}/thumbnail.jpg").content))
    assert thumbnail.format == "JPEG"


def test_maps_travel_deflated(client):
    """Browsers undo it; a picture's decoder, which may alter pixels, takes no part."""
    with client.stream("GET", f"/api/patches/{first_id(client)}/labels") as answer:
        raw = b"".join(answer.iter_raw())
    assert zlib.decompress(raw) == predicted().tobytes()


def test_from_painting_to_learning(client, tmp_path):
    identity = first_id(client)
    saved = save(client, identity, corrected()).json()
    assert (saved["state"], saved["undoable"], saved["as_predicted"]) == ("started", 1, False)
    np.testing.assert_array_equal(labels_of(client.get(f"/api/patches/{identity}/labels")), corrected())
    assert act(client, identity, "undo", saved["version"]).json()["redoable"] == 1
    assert act(client, identity, "redo").json()["undoable"] == 1
    assert act(client, identity, "accept").json()["state"] == "corrected"
    others = [patch["id"] for patch in client.get("/api/patches").json()["patches"][1:]]
    assert act(client, others[0], "accept").json()["state"] == "confirmed"
    assert act(client, others[1], "skip").json()["state"] == "skipped"
    used = read_corrections(tmp_path, ENSEMBLE).used
    np.testing.assert_array_equal(used[0].labels, corrected())
    np.testing.assert_array_equal(used[1].labels, predicted(2))
    assert len(used) == 2
    states = [patch["state"] for patch in client.get("/api/patches").json()["patches"]]
    assert states == ["corrected", "confirmed", "skipped"]
    assert {json.loads(line)["reviewer"] for line in (tmp_path / "reviews.jsonl").read_text().splitlines()} == {
        REVIEWER
    }


def test_stamps_change_with_the_labels(client):
    before = client.get("/api/patches").json()["patches"]
    save(client, before[0]["id"], corrected())
    after = client.get("/api/patches").json()["patches"]
    assert [one["stamp"] != other["stamp"] for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_a_conflict_tells_how_things_stand(client):
    identity = first_id(client)
    version = client.get(f"/api/patches/{identity}").json()["version"]
    save(client, identity, corrected(), version)
    for answer in (save(client, identity, predicted(), version), act(client, identity, "accept", version)):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        current = answer.json()["current"]
        assert (current["state"], current["reviewer"]) == ("started", REVIEWER)
    assert act(client, identity, "accept", current["version"]).status_code == 200


# --- refused ---


@pytest.mark.parametrize(
    "path",
    [
        "/api/patches/{}",
        "/api/patches/{}/image.png",
        "/api/patches/{}/thumbnail.jpg",
        "/api/patches/{}/labels",
        "/api/patches/{}/prediction",
        "/api/patches/{}/uncertainty",
        "/api/patches/{}/tiles/0/0_0.jpg",
        "/patch/{}",
        "/static/{}",
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "..",
        "%2e%2e",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "..%5c..%5cpatch.json",
        "....//",
        "%00",
        "patches",
        "",
        "s1",
    ],
)
def test_no_address_leads_to_a_file(client, path, name):
    """Names are looked up in tables; the path of a file cannot be made of one."""
    answer = client.get(path.format(name))
    assert answer.status_code in (404, 405) or (name in ("", "..", "%2e%2e", "....//") and answer.status_code == 200)
    assert "root:" not in answer.text
    if answer.status_code == 200:  # the client has resolved the dots before it asked: a page or a list of patches
        assert answer.headers["content-type"].startswith(("text/html", "application/json"))


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/vendor/../../app.py", "/vendor", "/vendor/", "/", "//etc/passwd"]
)
def test_static_files_are_those_of_the_page_alone(client, path):
    raw = client.build_request("GET", f"http://{HOST}/static/x")
    raw.url = raw.url.copy_with(raw_path=b"/static" + path.encode())
    answer = client.send(raw)
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_static_files(client):
    answer = client.get("/static/main.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    again = client.get("/static/main.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "openseadragon" in client.get("/static/vendor/openseadragon/openseadragon.min.js").text[:200]
    assert (
        "BSD" in client.get("/static/vendor/openseadragon/LICENSE.txt").text
        or "Redistribution" in client.get("/static/vendor/openseadragon/LICENSE.txt").text
    )


def test_the_page_names_no_other_host(client):
    """Nothing is fetched from elsewhere: no address in what we wrote leads to a host."""
    for name in ("index.html", "style.css", *(f"{module}.js" for module in MODULES)):
        text = client.get(f"/static/{name}").text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"url\(|@import", text), name


MODULES = ("main", "queue", "editor", "panel", "viewer", "layers", "tools", "raster", "saver", "png", "api", "strings")


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(client, tmp_path):
    identity, limit = first_id(client), largest_upload(SIZE)
    whole = save(client, identity, bytes(limit + 1))
    assert (whole.status_code, whole.json()["code"]) == (413, "too-large")

    def pieces():
        for _ in range(limit // 1000 + 2):
            yield bytes(1000)

    version = client.get(f"/api/patches/{identity}").json()["version"]
    streamed = client.put(
        f"/api/patches/{identity}/labels",
        params={"base": version, "reviewer": REVIEWER},
        headers={"Content-Type": "image/png"},
        content=pieces(),
    )
    assert streamed.status_code == 413
    lying = save(client, identity, png(corrected()), headers={"Content-Type": "image/png", "Content-Length": "-1"})
    assert lying.status_code == 413
    assert act(client, identity, "x" * 5000).status_code == 413
    assert not (tmp_path / "reviews.jsonl").exists()


@pytest.mark.parametrize(
    "upload",
    [b"", b"not a PNG", png(predicted()[:-1]), png(predicted(), "RGB"), png(predicted() + 100), png(predicted())[:-30]],
)
def test_a_bad_png_changes_nothing(client, tmp_path, upload):
    identity = first_id(client)
    answer = save(client, identity, upload)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-label-map")
    assert answer.json()["sentence"].endswith(".")
    assert list(tmp_path.rglob("correction.png")) == []


@pytest.mark.parametrize("reviewer", ["", "   ", "x" * 81, "a\x00b", "a\u202eb", "a\x1b[31m"])
def test_a_reviewer_has_a_name(client, reviewer):
    identity = first_id(client)
    version = client.get(f"/api/patches/{identity}").json()["version"]
    assert save(client, identity, corrected(), params={"base": version, "reviewer": reviewer}).status_code == 400
    assert act(client, identity, "skip", reviewer=reviewer).json()["code"] == "reviewer"


def test_a_name_is_one_line(client, tmp_path):
    act(client, first_id(client), "skip", reviewer="  A.\n B.\t")
    assert json.loads((tmp_path / "reviews.jsonl").read_text())["reviewer"] == "A. B."


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"base": "x"}', "null", '{"base": 1, "reviewer": "A", "action": ["skip"]}']
)
def test_requests_the_page_would_not_send(client, content):
    identity = first_id(client)
    answer = client.post(
        f"/api/patches/{identity}/review", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert client.put(f"/api/patches/{identity}/labels", headers={"Content-Type": "image/png"}).status_code == 400


def test_a_package_that_cannot_be_reviewed_is_shown_as_such(client, tmp_path):
    identity = first_id(client)
    folder = next((tmp_path / "patches").glob("001_*"))
    (folder / "uncertainty.png").write_bytes(b"x")
    assert client.get(f"/api/patches/{identity}").json()["code"] == "unusable"
    (folder / "image.png").unlink()
    assert client.get(f"/api/patches/{identity}/image.png").status_code == 422
    (folder / "patch.json").write_text("{}")
    listed = client.get("/api/patches").json()["patches"][0]
    assert listed["state"] == "unusable"
    assert "patch.json is not valid" in listed["sentence"]
    assert str(tmp_path) not in listed["sentence"]
    answer = client.get(f"/api/patches/{identity}/labels")
    assert (answer.status_code, answer.json()["code"]) == (422, "unusable")


def test_a_link_is_not_shown(client, tmp_path):
    identity = first_id(client)
    folder, outside = next((tmp_path / "patches").glob("001_*")), tmp_path / "outside.png"
    for name, address in (
        ("image.png", "image.png"),
        ("uncertainty.png", "uncertainty"),
        ("notes.txt", "thumbnail.jpg"),
    ):
        place = folder / name
        kept = place.read_bytes() if place.exists() else None
        outside.write_bytes(kept or b"x")
        place.unlink(missing_ok=True)
        place.symlink_to(outside)
        answer = client.get(f"/api/patches/{identity}/{address}")
        assert (answer.status_code, answer.json()["code"]) == (422, "unusable")
        assert "is a link" in answer.json()["sentence"]
        place.unlink()
        if kept is not None:
            place.write_bytes(kept)


def test_a_defect_is_no_traceback(client, monkeypatch):
    monkeypatch.setattr("uga.review.store.standing", lambda _: 1 / 0)
    answer = client.get("/api/patches")
    assert (answer.status_code, answer.json()["code"]) == (500, "defect")
    assert "Traceback" not in answer.text
    assert "ZeroDivisionError" in answer.text


# --- the archive ---


def test_the_archive_is_what_finetune_takes(tmp_path):
    folder = tmp_path / "out"
    for name in ("one", "two"):
        write_slide(folder / name, record_of(name), {1: 0.5, 2: 0.4})
    client = client_of(folder)
    ids = [patch["id"] for patch in client.get("/api/patches").json()["patches"]]
    save(client, ids[0], corrected())
    act(client, ids[0], "accept")
    act(client, ids[1], "accept")
    act(client, ids[2], "skip")
    save(client, ids[3], corrected(2))
    answer = client.get("/api/corrections.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="corrections.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert all(name.startswith("corrections/") and ".." not in name and "/." not in name for name in archive.namelist())
    archive.extractall(tmp_path / "unpacked")
    unpacked, here = (read_corrections(path, ENSEMBLE) for path in (tmp_path / "unpacked" / "corrections", folder))
    assert [c.sha256 for c in unpacked.used] == [c.sha256 for c in here.used]
    assert len(unpacked.used) == 2
    assert (unpacked.refused, unpacked.unchanged) == ((), ())
    assert (tmp_path / "unpacked" / "corrections" / "reviews.jsonl").read_bytes() == (
        folder / "reviews.jsonl"
    ).read_bytes()


def test_an_archive_of_nothing(client, tmp_path):
    shutil.rmtree(next((tmp_path / "patches").glob("002_*")))
    archive = zipfile.ZipFile(io.BytesIO(client.get("/api/corrections.zip").content))
    assert archive.namelist() == []
