from uga.model import lookup
from uga.model.lookup import find_model, holds_model


def test_a_folder_with_anything_in_it_is_taken_at_its_word(tmp_path):
    folder = tmp_path / "model"
    assert not holds_model(folder)
    folder.mkdir()
    (folder / ".keep").touch()
    (folder / "lost+found").mkdir()
    assert not holds_model(folder)
    (folder / "plans.json").touch()
    assert holds_model(folder)


def test_the_users_model_comes_before_the_platforms_and_that_before_the_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr(lookup, "PLATFORM_MODEL", tmp_path)
    assert find_model(None) == lookup.SHIPPED_MODEL
    (tmp_path / "model.json").touch()
    assert find_model(None) == tmp_path
    assert find_model(tmp_path / "own") == tmp_path / "own"
