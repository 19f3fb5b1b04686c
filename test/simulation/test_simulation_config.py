import json
from pathlib import Path

import pytest

from uga.errors import UserError
from uga.ranking import Strategy
from uga.simulation.cells import BASELINE, CellKey, cell_keys, config_record
from uga.simulation.config import config_text, load_config, shipped_configs
from uga.simulation.oracle import Oracle

NAMES = ["camelyon", "glas", "glas-grade", "glas-rare", "nuclei", "virtual", "virtual-mini"]


def test_every_shipped_configuration_is_valid_and_has_its_file_s_name() -> None:
    assert list(shipped_configs()) == NAMES
    for name in NAMES:
        loaded = load_config(name)
        assert loaded.config.name == name
        assert loaded.config.title
        assert config_text(name).startswith("#")
    virtual = load_config("virtual").config
    assert virtual.grid.budgets == (5, 10, 20)
    assert len(virtual.grid.seeds) >= 3
    assert virtual.data.centres == (1, 2, 3, 4, 5)


def test_the_experiments_compare_every_strategy() -> None:
    for name in ("virtual", "glas", "glas-grade", "camelyon"):
        asked = set(load_config(name).config.grid.strategies)
        assert asked == set(Strategy) - {Strategy.SUM}  # which is the mean


def test_cells_come_seed_by_seed_after_the_baseline() -> None:
    config = load_config("glas-rare").config
    keys = cell_keys(config)
    assert keys[0] == BASELINE
    grid = config.grid
    assert len(keys) == 1 + len(grid.seeds) * len(grid.budgets) * len(grid.strategies) * len(config.query.rarity)
    assert [key.seed for key in keys[1:]] == sorted(key.seed for key in keys[1:])
    assert len({key.name for key in keys}) == len(keys)


def test_a_cell_is_named_after_what_it_is() -> None:
    assert BASELINE.name == "baseline"
    key = CellKey(strategy=Strategy.MEAN, budget=5, seed=2, rarity=0.05)
    assert key.name == "mean-005-seed2-rarity0.05"
    assert str(key) == "mean, 5 patches, seed 2, 5 % shifted"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "virtual-mini"', 'name = "Virtual Mini"', "name"),
        ("centres = [1, 4]", 'centres = "1"', "data.virtual.centres"),
        ('source = "virtual"', 'source = "moon"', "data"),
        ("micro = 1, negative = 1, size_um = 700", "micro = -1, size_um = 700", "data.virtual.query.micro"),
        ('model = "demo"', 'modell = "demo"', "baseline.modell"),
        ('model = "demo"', "", "baseline: give either model or the table training"),
        ("patch_px = 256", "patch_px = 2", "query.patch_px"),
        ("patch_px = 256", "patch_px = 256\nrarity = [1.5]", "query.rarity.0"),
        ('"mean", "foreground-random"', '"meen"', "grid.strategies.0"),
        ('"mean", "foreground-random"', '"mean", "mean"', "strategies holds a value twice"),
        ('"mean", "foreground-random"', '"mean", "random"', "all are compared with foreground-random; add it"),
        ("budgets = [2]", "budgets = [0]", "grid.budgets.0"),
        ("seeds = [0]", "seeds = []", "grid.seeds"),
        ("iterations = 4", "iterations = 4.5", "finetuning.iterations"),
        ("iterations = 4", "learning_rate = 4", "finetuning.learning_rate"),
        ("overlap = 0.0", "overlap = 1.0", "inference.overlap"),
        ("resamples = 200", "resamples = 2", "evaluation.resamples"),
        ("resamples = 200", "resamples = ", "is not TOML"),
        ('title = "Virtual centres, in miniature"', "", "title"),
    ],
)
def test_mistakes_name_their_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = config_text("virtual-mini")
    assert text.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_config(str(path))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use one of camelyon, glas"):
        load_config("virtual-maxi")
    (tmp_path / "manifest.json").write_text('{"cell": {}}')
    with pytest.raises(UserError, match="not the manifest of a cell"):
        load_config(str(tmp_path / "manifest.json"))


def test_the_command_may_give_another_grid() -> None:
    loaded = load_config("virtual-mini")
    other = loaded.with_grid(strategies="entropy, foreground-random", budgets=None, seeds="3,4")
    assert other.config.grid.strategies == (Strategy.ENTROPY, Strategy.FOREGROUND_RANDOM)
    assert other.config.grid.seeds == (3, 4)
    assert other.config.grid.budgets == loaded.config.grid.budgets
    assert other.changes == ("--strategies entropy,foreground-random", "--seeds 3,4")
    assert other.config.model_copy(update={"grid": loaded.config.grid}) == loaded.config
    assert loaded.with_grid(strategies=None, budgets=None, seeds=None) is loaded
    assert loaded.with_grid(strategies="oracle,foreground-random").config.grid.strategies[0] is Oracle.ORACLE


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({"budgets": "5,x"}, "--budgets '5,x' is not valid"),
        ({"budgets": "0"}, "--budgets '0' is not valid"),
        ({"budgets": ""}, "--budgets '' is not valid"),
        ({"seeds": "1,1"}, "seeds holds a value twice"),
        ({"strategies": "meen,foreground-random"}, "'foreground-random'"),
        ({"strategies": "mean,entropy"}, "all are compared with foreground-random; add it"),
    ],
)
def test_a_grid_of_the_command_is_checked(lists: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("virtual-mini").with_grid(**lists)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def write_manifest(path: Path, cell: dict[str, object]) -> Path:
    """What is read of a cell's manifest."""
    content = {
        "cell": cell,
        "config": config_record(load_config("glas-rare").config),
        "computation": {"engine": "torch", "precision": "fp32"},
        "threads": 1,
        "baseline": {"sha256": "a" * 64},
    }
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_repeats_its_cell_alone(tmp_path: Path) -> None:
    baseline = load_config(str(write_manifest(tmp_path / "manifest.json", {"budget": 0, "seed": 0})))
    assert baseline.only_baseline
    assert (baseline.baseline_sha256, baseline.threads) == ("a" * 64, 1)
    cell = {"strategy": "mean", "budget": 10, "seed": 1, "rarity": 0.05}
    mean = load_config(str(write_manifest(tmp_path / "manifest.json", cell)))
    assert not mean.only_baseline
    assert cell_keys(mean.config) == [BASELINE, CellKey(strategy=Strategy.MEAN, budget=10, seed=1, rarity=0.05)]
    oracle = load_config(str(write_manifest(tmp_path / "manifest.json", {**cell, "strategy": "oracle"})))
    assert oracle.config.grid.strategies == (Oracle.ORACLE,)
    with pytest.raises(UserError, match=r"repeats one cell; leave out --budgets\."):
        mean.with_grid(budgets="5")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(config_text("virtual-mini"))
    assert load_config(str(tmp_path / "mine.toml")).folder == tmp_path
