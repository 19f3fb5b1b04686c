"""Corrections that are the reference, in the form that the product reads."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from finetuning_helpers import PATCH_PX, trained_parent
from hypothesis import given
from hypothesis import strategies as st
from simulation_helpers import write_config, write_slides

from uga.corrections import read_corrections
from uga.output.schema import NOT_JUDGED
from uga.simulation.config import load_config
from uga.simulation.pathologist import correct, unsure
from uga.simulation.pool import on_slide, open_runs, read_patches, write_patches
from uga.simulation.segmenting import segment_pool
from uga.simulation.sources import prepare
from uga.simulation.workers import Slot
from uga.training.dataset import open_reference
from uga.training.labels import LabelMapping


@pytest.fixture(scope="module")
def queried(tmp_path_factory):
    """The segmented query slides of the tiny experiment, their patches, and the cohorts."""
    folder = tmp_path_factory.mktemp("queried")
    write_slides(folder)
    loaded, model = load_config(str(write_config(folder))), trained_parent()
    cohorts = prepare(loaded, folder, None)
    segment_pool(cohorts.query, model, folder / "pool", loaded.config, [Slot("cpu", 1)])
    runs = open_runs(folder / "pool", cohorts, model)
    return runs, read_patches(runs, cohorts, "tumour"), cohorts, model


def labels_of(cohorts, runs, patch):
    case = next(case for case in cohorts.query if case.id == patch.candidate.slide_id)
    grid = runs.finished[case.id].grid(runs.ranked.spacing_um)
    with open_reference(case, grid, cohorts.mapping) as reference:
        return reference.read(patch.candidate.region)


def test_patches_are_seen_beside_their_reference(queried):
    runs, patches, cohorts, _ = queried
    assert len([patch for patch in patches if patch.candidate.x >= PATCH_PX]) == 4 * 9  # left of them is glass
    for patch in patches:
        truth = labels_of(cohorts, runs, patch) == 1
        assert patch.agreement.true_positive + patch.agreement.false_negative == truth.sum()
        assert patch.shifted == (patch.candidate.centre == "abroad")
        assert patch.judged == 1
        assert {"entropy", "disagreement", "mutual-information"} <= set(patch.candidate.extra)
    assert sum(patch.holds_label for patch in patches) == 10


def test_corrections_are_the_reference_whatever_was_predicted(queried, tmp_path):
    runs, patches, cohorts, model = queried
    chosen = [patch for patch in patches if patch.candidate.slide_id in ("query-home-0", "query-abroad-3")]
    correct(chosen, runs, cohorts, tmp_path / "c", unsure_um=0)
    found = read_corrections(tmp_path / "c", model)
    assert (len(found.used), len(found.unchanged), len(found.refused)) == (len(chosen), 0, 0)
    by_place = sorted(chosen, key=lambda patch: patch.candidate.place)
    for correction, patch in zip(found.used, by_place, strict=True):
        np.testing.assert_array_equal(correction.labels, labels_of(cohorts, runs, patch))
        assert correction.slide_id == patch.candidate.slide_id
    assert any((each.labels == each.prediction).all() for each in found.used)  # confirmed, and learnt from
    assert not all((each.labels == each.prediction).all() for each in found.used)


def test_the_order_in_which_patches_were_chosen_does_not_matter(queried, tmp_path):
    runs, patches, cohorts, model = queried
    for name, chosen in (("a", patches[:4]), ("b", patches[3::-1])):
        correct(chosen, runs, cohorts, tmp_path / name, unsure_um=0)
    one, two = (read_corrections(tmp_path / name, model) for name in ("a", "b"))
    assert [each.sha256 for each in one.used] == [each.sha256 for each in two.used]
    assert [each.name for each in one.used] == [each.name for each in two.used]


def test_an_unsure_pathologist_leaves_borders_out(queried, tmp_path):
    runs, patches, cohorts, model = queried
    patch = next(patch for patch in patches if patch.holds_label and patch.shifted)
    correct([patch], runs, cohorts, tmp_path / "c", unsure_um=3)
    (correction,) = read_corrections(tmp_path / "c", model).used
    truth = labels_of(cohorts, runs, patch)
    left_out = correction.labels == NOT_JUDGED
    np.testing.assert_array_equal(correction.labels[~left_out], truth[~left_out])
    np.testing.assert_array_equal(left_out, unsure(truth, 3))
    assert 0 < left_out.mean() < 0.2


def test_what_overhangs_the_slide_is_not_judged(queried, tmp_path):
    runs, patches, cohorts, model = queried
    patch = patches[-1]
    grid = runs.finished[patch.candidate.slide_id].grid(runs.ranked.spacing_um)
    candidate = replace(patch.candidate, x=grid.width - 10, y=grid.height - 20)
    inside = on_slide(candidate.region, grid)
    assert inside.sum() == 10 * 20
    assert inside[:20, :10].all()
    assert on_slide(patch.candidate.region, grid).all()
    assert correct([replace(patch, candidate=candidate)], runs, cohorts, tmp_path, unsure_um=0) == 1
    (found,) = read_corrections(tmp_path, model).used
    np.testing.assert_array_equal(found.labels != NOT_JUDGED, inside)


def test_what_no_reference_judges_is_not_judged(queried, tmp_path):
    """Tumour made the ignored label: a patch without it is background in part, and one of it alone is skipped."""
    runs, patches, cohorts, model = queried
    mapping = LabelMapping(labels={"background": (1,), "tumour": ()}, ignore=(0, 2))
    partial = replace(cohorts, mapping=mapping)
    chosen = [patch for patch in patches if patch.holds_label and patch.shifted][:2]
    assert correct(chosen, runs, partial, tmp_path / "c", unsure_um=0) == 2
    found = read_corrections(tmp_path / "c", model)
    assert len(found.used) == 2
    assert not found.refused  # black and white, but somebody has accepted it
    assert {0, NOT_JUDGED} == set(np.unique(found.used[0].labels))
    nothing = replace(cohorts, mapping=LabelMapping(labels={"background": (), "tumour": ()}, ignore=(0, 1, 2)))
    assert correct(chosen, runs, nothing, tmp_path / "d", unsure_um=0) == 0
    skipped = read_corrections(tmp_path / "d", model)
    assert (len(skipped.used), len(skipped.unchanged), len(skipped.refused)) == (0, 2, 0)
    unjudged = read_patches(runs, nothing, "tumour")
    assert {patch.judged for patch in unjudged} == {0}
    write_patches(tmp_path / "patches.csv", unjudged)
    with (tmp_path / "patches.csv").open(newline="") as stream:
        assert {row["smoothed_dice"] for row in csv.DictReader(stream)} == {""}  # not the 1 of nothing wrong


@given(seed=st.integers(0, 50), within=st.floats(0.5, 5))
def test_unsure_is_a_distance(seed: int, within: float):
    labels = np.random.default_rng(seed).choice([0, 1], (9, 11), p=[0.9, 0.1]).astype(np.uint8)
    expected = np.zeros(labels.shape, bool)
    if labels.min() != labels.max():
        for y, x in np.ndindex(labels.shape):
            others = np.argwhere(labels != labels[y, x])
            expected[y, x] = np.hypot(*(others - [y, x]).T).min() < within
    np.testing.assert_array_equal(unsure(labels, within), expected)
    assert not unsure(labels, 0).any()
