import os

import pytest
import tifffile
import torch
from training_helpers import tiny_preset, write_cohort, write_synthetic_dataset

from uga.errors import UserError
from uga.model.ensemble import Ensemble
from uga.training.dataset import preprocess
from uga.training.folds import train_folds
from uga.training.holdout import CaseScore, pooled_dice, score_cases
from uga.training.labels import DEMO_MAPPING, LabelMapping
from uga.training.release import ReleaseNotes, release


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    before, threads = dict(os.environ), torch.get_num_threads()
    work = tmp_path_factory.mktemp("work")
    preset = tiny_preset(epochs=15, iterations=8)
    dataset = write_synthetic_dataset(work, preset)
    preprocess(dataset, preset, folds=2, seed=0)
    train_folds(dataset, [0, 1], device=torch.device("cpu"), threads=1)
    notes = ReleaseNotes(name="tiny", description="A test.", data="Synthetic.")
    model = release(dataset, preset, work / "model", folds=2, notes=notes)
    os.environ.clear()
    os.environ.update(before)
    yield Ensemble(model, device=torch.device("cpu"))
    torch.set_num_threads(threads)


def test_counts_are_those_of_the_reference(tmp_path, ensemble):
    cases = write_cohort(tmp_path)
    scores = score_cases(ensemble, cases, DEMO_MAPPING)
    for case, score in zip(cases, scores, strict=True):
        true = 0 if case.mask is None else int((tifffile.imread(case.mask) == 2).sum())
        assert score.true_positive + score.false_negative == true
        assert score.mean_uncertainty > 0
    assert pooled_dice(scores) > 0.8


def test_unannotated_pixels_do_not_count(tmp_path, ensemble):
    case = write_cohort(tmp_path)[0]
    everything_ignored_but_benign = LabelMapping.parse("background=1 tumour=9 ignore=0,2")
    (score,) = score_cases(ensemble, [case], everything_ignored_but_benign)
    assert (score.true_positive, score.false_negative) == (0, 0)
    (plain,) = score_cases(ensemble, [case], DEMO_MAPPING)
    assert score.false_positive <= plain.false_positive


def test_labels_must_be_the_models(tmp_path, ensemble):
    with pytest.raises(UserError, match="are not those of"):
        score_cases(ensemble, write_cohort(tmp_path), LabelMapping.parse("background=0,1 cancer=2"))


def test_pooled_dice_is_over_pixels_not_slides():
    scores = [CaseScore(None, 90, 0, 10, 0.1), CaseScore(None, 0, 10, 0, 0.1)]
    assert pooled_dice(scores) == pytest.approx(180 / 200)
    assert scores[1].dice == 0
    assert CaseScore(None, 0, 0, 0, 0.1).dice is None
