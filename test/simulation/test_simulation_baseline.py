"""A trained baseline is kept as long as nothing that decides it has changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from finetuning_helpers import trained_parent
from simulation_helpers import write_experiment

from uga.simulation import baseline
from uga.simulation.config import BaselineTraining, load_config
from uga.simulation.sources import Cohorts, prepare
from uga.simulation.workers import Compute

TRAINING = BaselineTraining()
PRESET = baseline.preset_of(TRAINING)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Cohorts:
    folder = tmp_path_factory.mktemp("slides")
    cohorts = prepare(load_config(str(write_experiment(folder))), folder / "made", None)
    return replace(cohorts, training=cohorts.query)


def first(cohorts: Cohorts, **changes: object) -> Cohorts:
    """The cohorts with something else said of the first slide."""
    return replace(cohorts, training=(replace(cohorts.training[0], **changes), *cohorts.training[1:]))


def request(cohorts: Cohorts) -> str:
    return baseline._request(TRAINING, PRESET, cohorts)


def test_whatever_decides_a_baseline_is_asked_for(cohorts: Cohorts, tmp_path: Path) -> None:
    annotation = cohorts.training[0].annotation
    same = tmp_path / "same" / annotation.name
    other = tmp_path / "other" / annotation.name
    for path in (same, other):
        path.parent.mkdir()
        shutil.copyfile(annotation, path)
    content = bytearray(other.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    asked = request(cohorts)
    assert request(first(cohorts, annotation=same)) == asked
    changed = [
        request(first(cohorts, annotation=other)),
        request(first(cohorts, patient="somebody")),
        request(first(cohorts, lesion="macro")),
        request(first(cohorts, tissue=annotation)),
        request(first(cohorts, unannotated="background")),
        request(replace(cohorts, training=cohorts.training[1:])),
        baseline._request(TRAINING.model_copy(update={"epochs": 3}), PRESET, cohorts),
        baseline._request(TRAINING, PRESET.model_copy(update={"plans": {**PRESET.plans, "more": 1}}), cohorts),
    ]
    assert len({asked, *changed}) == 1 + len(changed)


def test_a_baseline_is_kept_until_something_changes(
    cohorts: Cohorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(baseline, "train", train)
    shutil.copytree(trained_parent().path, tmp_path / "model")
    asked = tmp_path / "request.json"
    asked.write_text(request(cohorts))
    assert baseline._trained(TRAINING, cohorts, tmp_path, Compute()).sha256 == trained_parent().sha256
    with pytest.raises(InterruptedError):
        baseline._trained(TRAINING, first(cohorts, patient="somebody"), tmp_path, Compute())
    assert not (tmp_path / "model").exists()
