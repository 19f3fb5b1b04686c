import os
import re
from pathlib import Path

import pytest
from review_helpers import record_of, write_list, write_output, write_slide

from uga.errors import UserError
from uga.output.schema import PatchRecord, Review
from uga.review.queue import Queue, standing


def names(queue: Queue) -> list[str]:
    return [entry.name for entry in queue.entries.values()]


def test_patches_of_one_slide_come_by_rank(tmp_path):
    packages = write_slide(tmp_path, record_of("s1"), {2: 0.9, 1: 0.1, 11: 0.5})
    queue = Queue.find(tmp_path)
    assert [entry.record.patch.rank for entry in queue.entries.values()] == [1, 2, 11]
    assert [entry.place for entry in queue.entries.values()] == [1, 2, 3]
    assert {entry.folder for entry in queue.entries.values()} == set(packages)
    assert queue.problems == ()


def test_patches_of_several_slides_come_by_score_unless_a_list_says_otherwise(tmp_path):
    """As `uga export-patches` leaves them, and as `uga rank` and `uga infer` do."""
    one = write_slide(tmp_path / "one", record_of("one"), {1: 0.3, 2: 0.2})
    two = write_slide(tmp_path / "two", record_of("two"), {1: 0.9, 2: 0.25})
    by_score = [two[0], one[0], two[1], one[1]]
    assert names(Queue.find(tmp_path)) == [package.relative_to(tmp_path).as_posix() for package in by_score]
    write_list(tmp_path, [one[1], two[0]], [record_of("one"), record_of("two")])
    listed_first = [one[1], two[0], one[0], two[1]]
    assert names(Queue.find(tmp_path)) == [package.relative_to(tmp_path).as_posix() for package in listed_first]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"patches": [{"folder": "../../etc"}]}'])
def test_a_list_that_is_none_is_passed_over(tmp_path, content):
    write_output(tmp_path)
    (tmp_path / "ranked-patches.json").write_bytes(content)
    assert len(Queue.find(tmp_path).entries) == 3


def test_files_beside_packages_belong_to_them(tmp_path):
    package = write_output(tmp_path, 1)[0]
    for suffix in (".png", ".geojson"):
        package.with_name(package.name + suffix).write_bytes(b"x")
    (entry,) = Queue.find(tmp_path).entries.values()
    assert [path.suffix for path in entry.beside] == [".geojson", ".png"]


def test_a_single_package_can_be_reviewed(tmp_path):
    package = write_output(tmp_path, 2)[0]
    assert names(Queue.find(package)) == [package.name]


def test_ids_say_nothing_and_stay(tmp_path):
    write_output(tmp_path)
    ids = list(Queue.find(tmp_path).entries)
    assert all(len(identity) == 12 and int(identity, 16) >= 0 for identity in ids)
    assert list(Queue.find(tmp_path).entries) == ids


def test_what_cannot_be_read_is_told_and_the_others_are_there(tmp_path):
    packages = write_output(tmp_path)
    (packages[0] / "patch.json").write_text("{}")
    (packages[1] / "patch.json").unlink()
    queue = Queue.find(tmp_path)
    assert len(queue.entries) == 1
    assert [problem.source for problem in queue.problems] == packages[:2]
    assert all(str(tmp_path) not in problem.reason for problem in queue.problems)


def test_a_name_that_no_page_can_hold_is_told_and_the_others_are_there(tmp_path):
    packages = write_output(tmp_path, 2)
    packages[0].rename(packages[0].with_name(os.fsdecode(b"caf\xe9")))
    queue = Queue.find(tmp_path)
    assert [entry.folder for entry in queue.entries.values()] == packages[1:]
    (problem,) = queue.problems
    assert "patches/caf\\udce9 is not UTF-8" in problem.reason


def test_links_are_not_followed(tmp_path, tmp_path_factory):
    write_output(tmp_path, 1)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_output(elsewhere, 1)
    (tmp_path / "more").symlink_to(elsewhere)
    assert len(Queue.find(tmp_path).entries) == 1


LINKED = [
    "correction.png", "image.png", "image.geojson", "notes.txt", "patch.json", "patch.json.partial",
    "correction.png.partial", ".history", ".history/steps.json", ".history/0.png",
]  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_in_a_package_is_refused_under_whatever_name(tmp_path, name, is_broken):
    packages = write_output(tmp_path / "out", 2)
    good, outside = Queue.find(tmp_path / "out"), tmp_path / "outside"
    place = packages[0] / name
    if not is_broken and name == ".history":
        outside.mkdir()
    elif not is_broken:
        outside.write_bytes(place.read_bytes() if place.exists() else b"secret")
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(outside)
    refused = rf"^patches/{packages[0].name}/{re.escape(name)} is a link, and `uga review` follows none"
    queue = Queue.find(tmp_path / "out")
    assert len(queue.entries) == 1
    (problem,) = queue.problems
    assert re.match(refused, problem.reason)
    entry = next(iter(good.entries.values()))  # the link came while the page was being served
    with pytest.raises(UserError, match="is a link"):
        entry.read()


def test_nothing_to_review(tmp_path):
    with pytest.raises(UserError, match="is not a folder; name the output folder"):
        Queue.find(tmp_path / "none")
    with pytest.raises(UserError, match="holds no patch to review; name an output folder"):
        Queue.find(tmp_path)
    (write_output(tmp_path, 1)[0] / "patch.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no patch to review \(patches/.*is not valid"):
        Queue.find(tmp_path)


def test_what_has_become_of_a_package(tmp_path):
    write_output(tmp_path, 1)
    (entry,) = Queue.find(tmp_path).entries.values()
    assert standing(entry.read()).state == "new"
    (entry.folder / ".history").mkdir()
    assert standing(entry.read()).state == "new"
    for name in ("patch.json.partial", "Thumbs.db", "desktop.ini", "notes.txt"):
        (entry.folder / name).write_bytes(b"x")
    assert standing(entry.read()).state == "new", "no reader of corrections looks into these"
    (entry.folder / "correction.png").write_bytes(b"x")
    assert standing(entry.read()).state == "corrected"
    assert standing(entry.read()).review is None
    review(entry.folder, "skipped")
    found = standing(entry.read())
    assert (found.state, found.review.reviewer) == ("skipped", "A. B.")


def review(package: Path, state: str) -> None:
    file = package / "patch.json"
    record = PatchRecord.model_validate_json(file.read_bytes())
    decided = Review(state=state, reviewer="A. B.", at="2031-02-03T04:05:06Z")
    file.write_text(record.model_copy(update={"review": decided}).model_dump_json(exclude_none=True))
