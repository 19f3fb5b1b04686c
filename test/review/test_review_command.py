import shlex
import shutil
from pathlib import Path

from output_helpers import MODEL
from review_helpers import record_of, write_output, write_slide

from uga.model.card import read_card
from uga.review.command import finetune_commands
from uga.review.queue import Queue

DEMO = Path(__file__).parents[2] / "weights"


def arguments(command):
    words = shlex.split(command.text)
    assert words[:4] == ["python", "-m", "uga", "finetune"]
    return dict(zip(words[4::2], words[5::2], strict=True))


def of_demo(folder, monkeypatch):
    """Packages of the shipped model."""
    card = read_card(DEMO / "demo" / "model.json")
    monkeypatch.setattr("review_helpers.MODEL", MODEL.model_copy(update={"sha256": card.sha256, "name": card.name}))
    write_slide(folder, record_of("s1"), {1: 0.5})
    return card


def test_the_command_names_folders_as_they_are(tmp_path, monkeypatch):
    folder = tmp_path / "my out;put"
    card = of_demo(folder, monkeypatch)
    (command,) = finetune_commands(Queue.find(folder), (tmp_path / "none", DEMO))
    assert command.is_complete
    assert command.model.name == card.name
    assert arguments(command) == {
        "--input": str(folder),
        "--output": str(tmp_path / "my out;put-finetuned"),
        "--model": str(DEMO),
    }


def test_an_output_that_exists_is_not_named(tmp_path, monkeypatch):
    write_output(tmp_path / "out")
    for name in ("out-finetuned", "out-finetuned-2"):
        (tmp_path / name).mkdir()
    (command,) = finetune_commands(Queue.find(tmp_path / "out"), ())
    assert arguments(command)["--output"] == str(tmp_path / "out-finetuned-3")


def test_another_model_is_not_named(tmp_path):
    write_output(tmp_path / "out")
    shutil.copytree(DEMO / "demo", tmp_path / "broken", ignore=shutil.ignore_patterns("fold_*"))
    (tmp_path / "broken" / "model.json").write_text("{}")
    for models in ((), (DEMO,), (tmp_path / "broken",)):
        (command,) = finetune_commands(Queue.find(tmp_path / "out"), models)
        assert not command.is_complete
        assert arguments(command)["--model"] == "MODEL"


def test_packages_of_two_models_need_two_commands(tmp_path, monkeypatch):
    write_slide(tmp_path / "out" / "other", record_of("other"), {1: 0.4})
    of_demo(tmp_path / "out" / "demo", monkeypatch)
    commands = finetune_commands(Queue.find(tmp_path / "out"), (DEMO,))
    assert sorted(command.is_complete for command in commands) == [False, True]
    outputs = {arguments(command)["--output"] for command in commands}
    assert outputs == {str(tmp_path / f"out-finetuned-{command.model.name}") for command in commands}


def test_two_models_of_one_name_get_two_outputs(tmp_path, monkeypatch):
    for sha256 in ("1" * 64, "2" * 64):
        named = MODEL.model_copy(update={"sha256": sha256, "name": "a/b c"})
        monkeypatch.setattr("review_helpers.MODEL", named)
        write_slide(tmp_path / "out" / sha256[0], record_of(sha256[0]), {1: 0.4})
    (tmp_path / "out-finetuned-a-b-c").mkdir()
    commands = finetune_commands(Queue.find(tmp_path / "out"), ())
    outputs = [arguments(command)["--output"] for command in commands]
    assert outputs == [str(tmp_path / f"out-finetuned-a-b-c-{number}") for number in (2, 3)]
