"""A plan is read the same by us and by nnU-Net's own reader, which only unusual plans need."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uga.model.plan import read_plan

DEMO = Path(__file__).parents[2] / "weights" / "demo"
NAME = "2d"


@pytest.fixture
def folder(tmp_path):
    for name in ("plans.json", "dataset.json"):
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_plan_that_inherits_is_the_one_it_inherits_from(folder):
    edit(folder / "plans.json", lambda plans: plans["configurations"].update(heir={"inherits_from": NAME}))
    mine, theirs = read_plan(folder, NAME), read_plan(folder, "heir")
    assert theirs.architecture == mine.architecture
    assert theirs.window_px == mine.window_px
    assert theirs.normalisation == mine.normalisation


def test_an_ignored_label_is_none_of_the_networks(folder):
    plain = read_plan(folder, NAME)
    edit(folder / "dataset.json", lambda dataset: dataset["labels"].update(ignore=len(plain.labels)))
    assert read_plan(folder, NAME).labels == plain.labels


def test_intensities_may_be_named_by_modality(folder):
    plain = read_plan(folder, NAME)

    def rename(plans):
        plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")

    edit(folder / "plans.json", rename)
    assert read_plan(folder, NAME).normalisation == plain.normalisation


def test_a_usual_plan_waits_for_no_reader_of_plans(folder):
    code = (
        "import sys; from pathlib import Path; from uga.model.plan import read_plan; "
        f"read_plan(Path({str(folder)!r}), {NAME!r}); "
        "sys.exit('nnunetv2.utilities.plans_handling.plans_handler' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
