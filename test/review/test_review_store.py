"""What reviewers do, on disk: nothing is lost, nothing is overwritten unseen, nothing half done looks accepted."""

import json
import multiprocessing
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from output_helpers import LABELS, MODEL
from review_helpers import REVIEWER, SIZE, corrected, png, predicted, store_of, write_output

from uga.corrections import read_corrections
from uga.output.package import holds_correction
from uga.output.schema import PatchRecord
from uga.review import sheet as sheet_module
from uga.review import store as store_module
from uga.review.history import MAX_STEPS, History
from uga.review.refused import RefusedError
from uga.review.store import ConflictError

ENSEMBLE = SimpleNamespace(
    name=MODEL.name, sha256=MODEL.sha256, labels=LABELS, tumour_label="tumor", tumour_value=2, spacing_um=1.0
)


@pytest.fixture
def work(tmp_path):
    """A store over three packages, its first entry, and that entry's package."""
    write_output(tmp_path)
    store = store_of(tmp_path)
    entry = next(iter(store.queue.entries.values()))
    return SimpleNamespace(store=store, entry=entry, package=entry.folder, folder=tmp_path)


def review_of(package):
    return PatchRecord.model_validate_json((package / "patch.json").read_bytes()).review


def audit(folder):
    return [json.loads(line) for line in (folder / "reviews.jsonl").read_text().splitlines()]


def learnt(folder):
    return {correction.name: correction.labels for correction in read_corrections(folder, ENSEMBLE).used}


def with_square(labels, number):
    changed = labels.copy()
    changed[number : number + 3, number : number + 3] = (labels[number : number + 3, number : number + 3] + 1) % 3
    return changed


def test_a_new_patch_is_as_predicted(work):
    sheet = work.store.sheet(work.entry)
    np.testing.assert_array_equal(sheet.labels, predicted())
    assert (sheet.standing.state, sheet.steps.undoable, sheet.steps.redoable) == ("new", 0, 0)
    assert sheet.version == work.store.sheet(work.entry).version
    assert not (work.package / ".history").exists(), "looking writes nothing"
    assert not holds_correction(work.package)


def test_work_is_saved_at_once_but_counts_only_when_accepted(work):
    sheet = work.store.sheet(work.entry)
    saved = work.store.save(work.entry, sheet.version, REVIEWER, corrected())
    np.testing.assert_array_equal(work.store.sheet(work.entry).labels, corrected())
    assert saved.version == work.store.sheet(work.entry).version != sheet.version
    assert (saved.standing.state, review_of(work.package).reviewer) == ("started", REVIEWER)
    assert learnt(work.folder) == {}
    accepted = work.store.decide(work.entry, saved.version, "Another", "accept")
    assert (accepted.standing.state, review_of(work.package).reviewer) == ("corrected", "Another")
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], corrected())
    assert [(line["action"], line["state"], line["reviewer"]) for line in audit(work.folder)] == [
        ("edit", "started", REVIEWER),
        ("accept", "corrected", "Another"),
    ]
    assert all(line["changed_px"] == int((corrected() != predicted()).sum()) for line in audit(work.folder))


def test_accepting_what_is_as_predicted_confirms_it(work):
    sheet = work.store.decide(work.entry, work.store.sheet(work.entry).version, REVIEWER, "accept")
    assert sheet.standing.state == "confirmed"
    assert not (work.package / "correction.png").exists()
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], predicted())


def test_a_stroke_that_was_undone_leaves_a_confirmed_prediction(work):
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, corrected())
    sheet = work.store.step(work.entry, sheet.version, REVIEWER, "undo")
    assert sheet.standing.state == "started"
    assert work.store.decide(work.entry, sheet.version, REVIEWER, "accept").standing.state == "confirmed"
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], predicted())


def test_skipped_is_not_learnt_whatever_was_painted(work):
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, corrected())
    sheet = work.store.decide(work.entry, sheet.version, REVIEWER, "skip")
    assert (sheet.standing.state, learnt(work.folder)) == ("skipped", {})
    sheet = work.store.decide(work.entry, sheet.version, REVIEWER, "reopen")
    assert sheet.standing.state == "started"
    np.testing.assert_array_equal(sheet.labels, corrected())


def test_a_decision_can_be_taken_back(work):
    sheet = work.store.decide(work.entry, work.store.sheet(work.entry).version, REVIEWER, "skip")
    sheet = work.store.decide(work.entry, sheet.version, REVIEWER, "reopen")
    assert (sheet.standing.state, review_of(work.package)) == ("new", None)
    assert [line["state"] for line in audit(work.folder)] == ["skipped", "new"]


def test_painting_on_takes_acceptance_back(work):
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, corrected())
    sheet = work.store.decide(work.entry, sheet.version, REVIEWER, "accept")
    sheet = work.store.save(work.entry, sheet.version, REVIEWER, with_square(corrected(), 30))
    assert (sheet.standing.state, learnt(work.folder)) == ("started", {})


def test_nothing_judged_cannot_be_accepted(work):
    blank = np.full((SIZE, SIZE), 255, np.uint8)
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, blank)
    with pytest.raises(RefusedError, match="Nothing in the patch is judged; skip it instead") as refused:
        work.store.decide(work.entry, sheet.version, REVIEWER, "accept")
    assert refused.value.code == "nothing-judged"
    assert review_of(work.package).state == "started"


def test_background_and_not_judged_alone_can_be_accepted_and_learnt(work):
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:, 30:] = 255
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, labels)
    work.store.decide(work.entry, sheet.version, REVIEWER, "accept")
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], labels)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["edit", "edit", "undo", "redo", "reload"]), max_size=14))
def test_undo_and_redo_work_after_any_reload(tmp_path_factory, actions):
    """Against a list in memory; a reload is a store of its own."""
    folder = tmp_path_factory.mktemp("steps")
    write_output(folder, 1)
    store = store_of(folder)
    entry = next(iter(store.queue.entries.values()))
    model, position = [predicted()], 0
    for number, action in enumerate(actions):
        sheet = store.sheet(entry)
        if action == "reload":
            store = store_of(folder)
        elif action == "edit":
            model = [*model[: position + 1], with_square(model[position], number)]
            position += 1
            store.save(entry, sheet.version, REVIEWER, model[position])
        else:
            target = position + (1 if action == "redo" else -1)
            if not 0 <= target < len(model):
                with pytest.raises(RefusedError, match=f"There is nothing to {action}"):
                    store.step(entry, sheet.version, REVIEWER, action)
                continue
            position = target
            store.step(entry, sheet.version, REVIEWER, action)
        shown = store.sheet(entry)
        np.testing.assert_array_equal(shown.labels, model[position])
        assert (shown.steps.undoable, shown.steps.redoable) == (position, len(model) - 1 - position)


def test_history_is_bounded_and_leaves_no_files_behind(work, monkeypatch):
    monkeypatch.setattr("uga.review.history.MAX_STEPS", 4)
    sheet = work.store.sheet(work.entry)
    for number in range(8):
        sheet = work.store.save(work.entry, sheet.version, REVIEWER, with_square(predicted(), number))
    assert sheet.steps.undoable == 3
    assert len(list((work.package / ".history").glob("*.png"))) == 4
    assert MAX_STEPS >= 100


def test_a_damaged_history_costs_the_steps_only(work):
    sheet = work.store.sheet(work.entry)
    for number in range(3):
        sheet = work.store.save(work.entry, sheet.version, REVIEWER, with_square(predicted(), number))
    for file in (work.package / ".history").glob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(RefusedError, match="nothing to undo"):
        work.store.step(work.entry, sheet.version, REVIEWER, "undo")
    shutil.rmtree(work.package / ".history")
    (work.package / ".history").mkdir()
    (work.package / ".history" / "steps.json").write_text("{")
    fresh = work.store.sheet(work.entry)
    np.testing.assert_array_equal(fresh.labels, with_square(predicted(), 2))
    assert fresh.steps.undoable == 0


def test_a_correction_that_another_tool_saved_meanwhile_becomes_a_step(work):
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, corrected())
    painted = with_square(corrected(), 33)
    (work.package / "correction.png").write_bytes(png(painted))
    with pytest.raises(ConflictError):
        work.store.save(work.entry, sheet.version, REVIEWER, predicted())
    fresh = work.store.sheet(work.entry)
    np.testing.assert_array_equal(fresh.labels, painted)
    back = work.store.step(work.entry, fresh.version, REVIEWER, "undo")
    np.testing.assert_array_equal(back.labels, corrected())


# --- two reviewers ---


def test_a_reviewer_cannot_overwrite_what_was_never_shown(work):
    first = second = work.store.sheet(work.entry)
    work.store.save(work.entry, first.version, "A", corrected())
    before = (work.package / "correction.png").read_bytes()
    for change in (
        lambda: work.store.save(work.entry, second.version, "B", with_square(predicted(), 1)),
        lambda: work.store.decide(work.entry, second.version, "B", "accept"),
        lambda: work.store.decide(work.entry, second.version, "B", "skip"),
        lambda: work.store.step(work.entry, second.version, "B", "undo"),
    ):
        with pytest.raises(ConflictError) as conflict:
            change()
        np.testing.assert_array_equal(conflict.value.sheet.labels, corrected())
        assert conflict.value.sheet.standing.review.reviewer == "A"
    assert (work.package / "correction.png").read_bytes() == before
    assert [line["reviewer"] for line in audit(work.folder)] == ["A"]
    mine = work.store.save(work.entry, conflict.value.sheet.version, "B", with_square(predicted(), 1))
    theirs = work.store.step(work.entry, mine.version, "B", "undo")
    np.testing.assert_array_equal(theirs.labels, corrected())


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_labels_and_their_version_are_of_one_moment(work, monkeypatch, moment):
    """Somebody saves while the patch is being read, before one or another look at its files."""
    right, looks = sheet_module._version, []

    def version(package, files):
        looks.append(files)
        if len(looks) == moment:
            (work.package / "correction.png").write_bytes(png(corrected()))
        return right(package, files)

    monkeypatch.setattr(sheet_module, "_version", version)
    sheet = work.store.sheet(work.entry)
    assert len(looks) >= moment
    np.testing.assert_array_equal(sheet.labels, corrected())
    assert sheet.version == work.store.sheet(work.entry).version


def test_a_decision_of_somebody_else_is_a_conflict_too(work):
    sheet = work.store.sheet(work.entry)
    work.store.decide(work.entry, sheet.version, "A", "skip")
    with pytest.raises(ConflictError):
        work.store.save(work.entry, sheet.version, "B", corrected())


def save_from_elsewhere(folder, version, number, barrier, results):
    store = store_of(folder)
    entry = next(iter(store.queue.entries.values()))
    barrier.wait()
    try:
        store.save(entry, version, f"reviewer {number}", with_square(predicted(), number))
        results.put(number)
    except ConflictError:
        pass


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_of_several_at_the_same_moment_one_wins(work, kind):
    context = multiprocessing.get_context("fork")
    makers = {"threads": (threading.Thread, threading.Barrier), "processes": (context.Process, context.Barrier)}
    make, make_barrier = makers[kind]
    barrier, results = make_barrier(4), context.Queue()
    version = work.store.sheet(work.entry).version
    runs = [make(target=save_from_elsewhere, args=(work.folder, version, n, barrier, results)) for n in range(4)]
    for run in runs:
        run.start()
    winner = results.get(timeout=30)
    for run in runs:
        run.join(30)
    assert results.empty()
    np.testing.assert_array_equal(work.store.sheet(work.entry).labels, with_square(predicted(), winner))
    assert [line["reviewer"] for line in audit(work.folder)] == [f"reviewer {winner}"]


# --- crashes ---


class PowerCutError(Exception):
    pass


def crash_at(monkeypatch, count, error=PowerCutError):
    """Let the program end, or a write fail, at the count-th write of a file; returns what counts."""
    written = []

    def cut(function):
        def write(path, *content):
            written.append(path)
            if len(written) == count:
                raise error
            return function(path, *content)

        return write

    for module in ("uga.review.store", "uga.review.history"):
        for name in ("write_atomic", "write_json"):
            monkeypatch.setattr(f"{module}.{name}", cut(getattr(store_module, name)))
    monkeypatch.setattr("uga.review.change.write_json", cut(store_module.write_json))
    monkeypatch.setattr("uga.review.store.append", cut(store_module.append))
    return written


@pytest.mark.parametrize("action", ["edit", "undo", "accept"])
def test_a_crash_between_any_two_writes_loses_no_more_than_the_last_action(work, monkeypatch, action):
    """And leaves nothing that is learnt without having been accepted as it is."""
    first = with_square(predicted(), 1)
    second = with_square(first, 20)
    store, entry = work.store, work.entry
    sheet = store.save(entry, store.sheet(entry).version, REVIEWER, first)
    safe = work.folder / "safe"
    shutil.copytree(work.package, safe)
    act = {
        "edit": lambda: store.save(entry, sheet.version, REVIEWER, second),
        "undo": lambda: store.step(entry, sheet.version, REVIEWER, "undo"),
        "accept": lambda: store.decide(entry, sheet.version, REVIEWER, "accept"),
    }[action]
    after = {"edit": second, "undo": predicted(), "accept": first}[action]
    count, done = 0, False
    while not done:
        count += 1
        shutil.rmtree(work.package)
        shutil.copytree(safe, work.package)
        with monkeypatch.context() as patched:
            crash_at(patched, count)
            try:
                act()
                done = True
            except PowerCutError:
                pass
        fresh = store_of(work.folder)
        found = fresh.sheet(entry)
        assert (found.labels == first).all() or (found.labels == after).all()
        assert found.steps.undoable + found.steps.redoable >= 1, "earlier steps are still there"
        if found.standing.state != "corrected":
            assert learnt(work.folder) == {}
        else:
            assert action == "accept"
            np.testing.assert_array_equal(learnt(work.folder)[work.package.name], first)
        work.store.save(entry, found.version, REVIEWER, with_square(found.labels, 50))
    assert count > 2


@pytest.mark.parametrize("error", [PowerCutError, OSError(28, "No space left on device")])
@pytest.mark.parametrize("action", ["edit", "undo", "accept", "skip"])
def test_what_is_asked_for_again_is_done_once_wherever_it_was_broken_off(work, monkeypatch, action, error):
    """Whose answer was lost must not hear of somebody else; the log has every action once."""
    first = with_square(predicted(), 1)
    second = with_square(first, 20)
    entry = work.entry
    sheet = work.store.save(entry, work.store.sheet(entry).version, REVIEWER, first)

    def act(store):
        if action == "edit":
            return store.save(entry, sheet.version, REVIEWER, second)
        if action == "undo":
            return store.step(entry, sheet.version, REVIEWER, "undo")
        return store.decide(entry, sheet.version, REVIEWER, action)

    labels = {"edit": second, "undo": predicted()}.get(action, first)
    state = {"accept": "corrected", "skip": "skipped"}.get(action, "started")
    safe, log = work.folder / "safe", work.folder / "reviews.jsonl"
    shutil.copytree(work.package, safe)
    begun, count, done = log.read_bytes(), 0, False
    while not done:
        count += 1
        shutil.rmtree(work.package)
        shutil.copytree(safe, work.package)
        log.write_bytes(begun)
        with monkeypatch.context() as patched:
            crash_at(patched, count, error)
            try:
                act(work.store)
                done = True
            except (PowerCutError, RefusedError):
                pass
        for _ in range(2):
            found = act(store_of(work.folder))
            np.testing.assert_array_equal(found.labels, labels)
            assert found.standing.state == state
            assert found.version == store_of(work.folder).sheet(entry).version
            assert [line["action"] for line in audit(work.folder)] == ["edit", action]
        back, forth = {"edit": ("undo", "redo"), "undo": ("redo", "undo")}.get(action, (None, None))
        if back is not None:  # the step is whole: both of its label maps were kept
            found = work.store.step(entry, found.version, REVIEWER, back)
            np.testing.assert_array_equal(found.labels, first)
            found = work.store.step(entry, found.version, REVIEWER, forth)
            np.testing.assert_array_equal(found.labels, labels)
    assert count > (3 if action in ("accept", "skip") else 5)


def test_asking_again_is_no_way_around_what_somebody_else_has_saved(work):
    store, entry = work.store, work.entry
    seen = store.sheet(entry)
    saved = store.save(entry, seen.version, "A", corrected())
    with pytest.raises(ConflictError):
        store.save(entry, seen.version, "A", with_square(corrected(), 30))  # from another tab
    with pytest.raises(ConflictError):
        store.save(entry, seen.version, "B", corrected())
    with pytest.raises(ConflictError):
        store.decide(entry, seen.version, "A", "accept")
    assert store.save(entry, seen.version, "A", corrected()).version == saved.version
    (work.package / "correction.png").write_bytes(png(with_square(corrected(), 31)))
    with pytest.raises(ConflictError):
        store.save(entry, seen.version, "A", corrected())
    assert len(audit(work.folder)) == 1


def test_another_tool_s_labels_that_could_not_be_accepted_are_not_half_accepted(work, monkeypatch):
    (work.package / "prediction.png").write_bytes(png(corrected()))
    seen = work.store.sheet(work.entry)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("uga.review.store.write_json", full)
        with pytest.raises(RefusedError, match="make room"):
            work.store.decide(work.entry, seen.version, REVIEWER, "accept")
    assert not (work.package / "correction.png").exists()
    assert work.store.decide(work.entry, seen.version, REVIEWER, "accept").standing.state == "corrected"


def test_a_link_that_came_meanwhile_is_not_written_through(work):
    """Neither a label map nor a step, nor what is being written of them."""
    seen = work.store.sheet(work.entry)
    outside = work.folder / "outside"
    for name in ("correction.png.partial", "patch.json.partial", ".history"):
        outside.mkdir() if name == ".history" else outside.write_bytes(b"x")
        (work.package / name).symlink_to(outside)
        with pytest.raises(RefusedError, match="is a link") as refused:
            work.store.save(work.entry, seen.version, REVIEWER, corrected())
        assert refused.value.code == "unusable"
        (work.package / name).unlink()
        assert list(outside.iterdir()) == [] if name == ".history" else outside.read_bytes() == b"x"
        outside.rmdir() if name == ".history" else outside.unlink()


def test_a_log_that_is_a_link_is_not_written(work):
    outside = work.folder.parent / "outside.jsonl"
    outside.write_text("")
    (work.folder / "reviews.jsonl").symlink_to(outside)
    with pytest.raises(RefusedError, match="cannot be written"):
        work.store.decide(work.entry, work.store.sheet(work.entry).version, REVIEWER, "skip")
    assert outside.read_text() == ""


def test_a_torn_line_of_the_log_is_ended(work):
    (work.folder / "reviews.jsonl").write_text('{"at": "20')
    work.store.decide(work.entry, work.store.sheet(work.entry).version, REVIEWER, "skip")
    lines = (work.folder / "reviews.jsonl").read_text().splitlines()
    assert lines[0] == '{"at": "20'
    assert json.loads(lines[1])["action"] == "skip"


def test_a_full_disk_is_told_and_what_was_there_stays(work, monkeypatch):
    sheet = work.store.save(work.entry, work.store.sheet(work.entry).version, REVIEWER, corrected())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("uga.review.store.write_atomic", full)
        with pytest.raises(RefusedError, match=r"cannot be written \(No space left on device\); make room") as refused:
            work.store.save(work.entry, sheet.version, REVIEWER, with_square(corrected(), 20))
    assert (refused.value.status, refused.value.code) == (507, "unwritable")
    np.testing.assert_array_equal(work.store.sheet(work.entry).labels, corrected())
    again = work.store.save(work.entry, sheet.version, REVIEWER, with_square(corrected(), 20))
    assert again.steps.undoable == 2


# --- other tools ---


def test_a_correction_of_another_tool_is_where_a_review_begins(work):
    image = work.package / "image.geojson"
    square = [[10, 10], [40, 10], [40, 40], [10, 40], [10, 10]]
    shape = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"objectType": "annotation", "classification": {"name": "tumor"}},
    }
    image.write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    sheet = work.store.sheet(work.entry)
    expected = np.full((SIZE, SIZE), 255, np.uint8)
    expected[10:40, 10:40] = 2
    np.testing.assert_array_equal(sheet.labels, expected)
    assert (sheet.standing.state, sheet.standing.review, sheet.source) == ("corrected", None, image)
    sheet = work.store.save(work.entry, sheet.version, REVIEWER, corrected())
    assert (sheet.source, sheet.differing) == (None, [image])
    sheet = work.store.decide(work.entry, sheet.version, REVIEWER, "accept")
    assert sheet.differing == []
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], corrected())
    image.write_text(image.read_text().replace("40", "41"))
    assert work.store.sheet(work.entry).differing == [image]
    assert learnt(work.folder) == {}, "drawn anew after the review, so it is not certain which counts"


def test_a_correction_of_another_tool_can_be_accepted_as_it_is(work):
    beside = work.package.with_name(f"{work.package.name}.png")
    beside.write_bytes(png(corrected()))
    store = store_of(work.folder)
    entry = store.queue.entries[work.entry.id]
    sheet = store.decide(entry, store.sheet(entry).version, REVIEWER, "accept")
    assert sheet.standing.state == "corrected"
    beside.unlink()
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], corrected())


def test_a_file_of_another_tool_that_changes_between_look_and_acceptance_is_a_conflict(work):
    beside = work.package.with_name(f"{work.package.name}.png")
    beside.write_bytes(png(corrected()))
    store = store_of(work.folder)
    entry = store.queue.entries[work.entry.id]
    seen = store.sheet(entry)
    beside.write_bytes(png(with_square(corrected(), 31)))
    with pytest.raises(ConflictError):
        store.decide(entry, seen.version, REVIEWER, "accept")


def test_a_file_of_another_tool_that_cannot_be_read_is_told_and_superseded(work):
    (work.package / "image.geojson").write_text("{")
    sheet = work.store.sheet(work.entry)
    assert [path.name for path in sheet.differing] == ["image.geojson"]
    np.testing.assert_array_equal(sheet.labels, predicted())
    work.store.decide(work.entry, sheet.version, REVIEWER, "accept")
    np.testing.assert_array_equal(learnt(work.folder)[work.package.name], predicted())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("correction.png", b"x", "correction.png is not a PNG"),
        ("image.png", png(np.zeros((SIZE, SIZE, 3), np.uint8)), "image.png is not the picture that was exported"),
        ("patch.json", b"{}", "patch.json is not valid"),
        ("prediction.png", None, None),
    ],
)
def test_a_package_that_cannot_be_reviewed_says_why(work, name, content, expected):
    file = work.package / name
    file.write_bytes(content) if content is not None else file.unlink()
    if expected is None:  # the outlines still tell what was predicted
        np.testing.assert_array_equal(work.store.sheet(work.entry).labels, predicted())
        return
    with pytest.raises(RefusedError, match=expected) as refused:
        work.store.sheet(work.entry)
    assert str(work.folder) not in str(refused.value)


def test_a_package_that_is_gone(work):
    shutil.rmtree(work.package)
    with pytest.raises(RefusedError):
        work.store.sheet(work.entry)
    with pytest.raises(RefusedError):
        work.store.standing(work.entry)


def test_history_of_labels_it_does_not_know(tmp_path):
    steps = History(tmp_path).steps(predicted())
    assert (steps.position, len(steps.sha256)) == (0, 1)
