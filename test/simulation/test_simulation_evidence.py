"""The page of evidence is made of results, and of nothing else."""

import re
from pathlib import Path

import pytest
from outcome_helpers import make_patches
from PIL import Image

from uga.errors import UserError
from uga.output.files import write_json
from uga.simulation.config import shipped_configs
from uga.simulation.evidence import fill, main
from uga.simulation.figures import CAPTIONS, draw_figures

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
