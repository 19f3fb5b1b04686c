"""The page of evidence is made of results, and of nothing else."""

import re
from pathlib import Path

import pytest
from outcome_helpers import OPTIONS, make_patches
from PIL import Image

from uga.errors import UserError
from uga.output.files import write_json
from uga.simulation.analysis import Outcomes
from uga.simulation.cells import BASELINE, config_record
from uga.simulation.config import load_config, shipped_configs
from uga.simulation.evidence import fill, main
from uga.simulation.figures import CAPTIONS, draw_figures
from uga.simulation.findings import findings
from uga.simulation.shipped import deviations
from uga.simulation.summary import RarityPool

PAGE = "# Evidence\n\nWords.\n\n<!-- made -->\n<!-- end -->\n\n## After\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path, outcomes, summary_of) -> Path:
    folder = tmp_path / "results"
    summary = summary_of(outcomes)
    write_json(folder / "summary.json", summary)
    draw_figures(folder / "figures", summary, make_patches())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "evidence.md").write_text(PAGE)
    return folder


def test_figures_are_drawn_alike_every_time(tmp_path, outcomes, summary_of):
    for name in ("one", "two"):
        draw_figures(tmp_path / name, summary_of(outcomes), make_patches())
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {f"{stem}.png" for stem in CAPTIONS} - set(files) == {"gain-by-rarity.png"}
    assert len(files) == 2 * (len(CAPTIONS) - 1)
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if name.endswith(".png"):
            with Image.open(tmp_path / "one" / name) as picture:
                assert min(picture.size) > 100
        else:
            assert "mean" in (tmp_path / "one" / name).read_text() or "fig3" in name


def test_a_section_is_filled_and_filled_again(tmp_path, results, outcomes):
    assert main([str(results), "--docs", str(tmp_path / "docs")]) == 0
    page = (tmp_path / "docs" / "evidence.md").read_text()
    assert page.startswith("# Evidence\n\nWords.")
    assert page.endswith("## After\n")
    value = outcomes.points[0].dice.value
    assert f"{value:.3f}" in page
    assert "`python -m uga simulate made --output OUT`" in page
    assert "mean is above random" in page
    assert "entropy is not told apart from random" in page
    for link in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (tmp_path / "docs" / link).is_file()
    assert main([str(results), "--docs", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "evidence.md").read_text() == page


def test_figures_of_one_pool_are_not_drawn_for_several(tmp_path, outcomes, summary_of):
    """Nor left there from before."""
    results = {BASELINE: outcomes.results[BASELINE]}
    for rarity in (0.1, 0.5):
        for key, listed in outcomes.results.items():
            if key.strategy is not None and key.budget == 5:
                results[key.model_copy(update={"rarity": rarity})] = listed
    draw_figures(tmp_path, summary_of(outcomes), make_patches())
    pools = tuple(RarityPool(rarity=rarity, patches=20, shifted=20 * rarity) for rarity in (0.1, 0.5))
    several = summary_of(Outcomes(results, OPTIONS, 2.0), rarities=pools)
    assert not several.areas
    draw_figures(tmp_path, several, make_patches())
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == set(CAPTIONS) - {"fig4b-by-centre", "fig4c-by-class"}
    for picture in (tmp_path / "differences.svg", tmp_path / "fig4a-dice-by-budget.svg"):
        assert "10 %" in picture.read_text()
    assert "area" not in (tmp_path / "differences.svg").read_text()
    one = {key: listed for key, listed in results.items() if key.rarity != 0.5}
    draw_figures(tmp_path, summary_of(Outcomes(one, OPTIONS, 2.0)), make_patches())
    assert "10 % of the pool shifted" in (tmp_path / "fig4b-by-centre.svg").read_text()


def test_another_grid_than_the_shipped_one_is_told(outcomes, summary_of):
    def made(config, **changes):
        return summary_of(outcomes, name=config.name, config=config_record(config), **changes)

    shipped = load_config("virtual")
    assert deviations(made(shipped.config)) == []
    cut = shipped.with_grid(budgets="5", strategies="mean,foreground-random").config
    settled = cut.inference.model_copy(update={"engine": "torch"})  # what auto took is no deviation
    changed = cut.model_copy(update={"inference": settled, "query": cut.query.model_copy(update={"patch_px": 256})})
    assert deviations(made(changed, given_baseline=True)) == [
        "the baseline is demo, given with --model",
        "query.patch_px is 256 instead of 512",
        f"grid.strategies is mean, foreground-random instead of {', '.join(shipped.config.grid.strategies)}",
        "grid.budgets is 5 instead of 5, 10, 20",
    ]
    said = "\n".join(findings(made(changed)))
    assert "This is not the configuration virtual as it comes with UGA: query.patch_px is 256 instead of 512;" in said
    assert deviations(summary_of(outcomes)) == []  # of a name that does not come with UGA


def test_an_experiment_without_a_place_gets_one(tmp_path, results):
    page = tmp_path / "docs" / "evidence.md"
    page.write_text("# Evidence\n")
    fill(tmp_path / "docs", [results])
    assert "## Made by hand\n\n<!-- made -->" in page.read_text()
    page.write_text(f"{PAGE}{PAGE}")
    with pytest.raises(UserError, match="2 places for made"):
        fill(tmp_path / "docs", [results])


def test_what_is_no_experiment_is_refused(tmp_path, results, capsys):
    with pytest.raises(UserError, match="no summary of an experiment"):
        fill(tmp_path / "docs", [tmp_path])
    with pytest.raises(SystemExit) as ended:
        main([str(results), "--docs", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "name the folder of the docs with --docs" in capsys.readouterr().err


def test_the_page_has_a_place_for_every_shipped_experiment():
    text = (ROOT / "docs" / "evidence.md").read_text()
    for name in set(shipped_configs()) - {"virtual-mini"}:
        assert len(re.findall(rf"<!-- {name} -->", text)) == 1
