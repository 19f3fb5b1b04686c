import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import make_trained_folder
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from uga.finetuning.assess import Scores, Tally, fold_probabilities
from uga.finetuning.comparison import Comparison, judge, subset
from uga.finetuning.patches import LearningPatch
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.output.schema import NOT_JUDGED

LABELS = {"background": 0, "tumour": 1}
CPU = torch.device("cpu")


def certain(labels: np.ndarray, p: float = 1.0) -> torch.Tensor:
    """One fold, two classes."""
    one = torch.from_numpy(labels == 1).float() * (2 * p - 1) + (1 - p)
    return torch.stack([1 - one, one])[None]


def test_dice_is_pooled_over_patches_and_pixels_that_were_not_judged_do_not_count():
    tally = Tally(LABELS)
    first, second = np.array([[1, 1, 0, 255]], np.uint8), np.array([[0, 1, 0, 0]], np.uint8)
    tally.add(certain(np.array([[1, 0, 1, 1]], np.uint8)), first)
    tally.add(certain(np.array([[0, 1, 0, 0]], np.uint8)), second)
    scores = tally.scores()
    assert scores.dice == {"tumour": pytest.approx(2 * 2 / (2 * 2 + 1 + 1))}
    assert (scores.patches, scores.pixels) == (2, 7)


def test_nothing_judged_and_labels_that_never_occur_have_no_score():
    tally = Tally(LABELS)
    assert tally.scores() is None
    tally.add(certain(np.zeros((2, 2), np.uint8)), np.full((2, 2), 255, np.uint8))
    assert tally.scores() is None
    tally.add(certain(np.zeros((2, 2), np.uint8)), np.zeros((2, 2), np.uint8))
    assert tally.scores().dice == {"tumour": None}


def test_a_sure_and_wrong_ensemble_is_badly_calibrated():
    truth = np.array([[1, 0, 0, 0]], np.uint8)
    right, wrong, unsure = Tally(LABELS), Tally(LABELS), Tally(LABELS)
    right.add(certain(truth), truth)
    wrong.add(certain(1 - truth), truth)
    unsure.add(certain(np.zeros_like(truth), 0.75), truth)
    assert right.scores().calibration_error == pytest.approx(0)
    assert wrong.scores().calibration_error == pytest.approx(1)
    assert unsure.scores().calibration_error == pytest.approx(0, abs=1e-6)  # 75 % sure, right in 3 of 4


def test_dice_can_be_that_of_one_fold_while_disagreement_is_that_of_all():
    truth = np.array([[1, 0]], np.uint8)
    folds = torch.cat([certain(truth, 0.9), certain(1 - truth, 0.9), certain(1 - truth, 0.9)])
    alone, together = Tally(LABELS), Tally(LABELS)
    alone.add(folds, truth, fold=0)
    together.add(folds, truth)
    assert alone.scores().dice["tumour"] == 1
    assert together.scores().dice["tumour"] == 0
    assert alone.scores().disagreement == pytest.approx(together.scores().disagreement)
    mean = 0.9 / 3 + 0.2 / 3
    kl = sum(p * math.log(p / q) / 3 for f in (0.9, 0.1, 0.1) for p, q in ((mean, f), (1 - mean, 1 - f)))
    assert alone.scores().disagreement == pytest.approx(kl, abs=1e-5)


@pytest.mark.parametrize(
    ("normalisation", "norm", "shape"), [("rgb01", "batch", (150, 130)), ("zscore", "instance", (40, 100))]
)
def test_a_patch_is_predicted_as_nnunet_does(tmp_path, normalisation, norm, shape):
    model = load_model(make_trained_folder(tmp_path, folds=2, norm=norm, normalisation=normalisation).model)
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    image.setflags(write=False)  # as a decoder may leave it
    ours = fold_probabilities(Ensemble(model, device=CPU), image)
    assert ours.shape == (2, 3, *shape)
    predictor = nnUNetPredictor(tile_step_size=0.75, use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.path), use_folds=None)
    data, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        image.transpose(2, 0, 1)[:, None].astype(np.float32),
        None,
        {"spacing": [999, 1, 1]},
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.dataset_json,
    )
    for fold, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        theirs = predictor.predict_sliding_window_return_logits(torch.from_numpy(data))[:, 0].float().softmax(0)
        torch.testing.assert_close(ours[fold], theirs, atol=0.02, rtol=0)  # their accumulators are half precision


@pytest.mark.parametrize("room", [8, 4])
def test_batches_of_windows_change_nothing_but_rounding(tmp_path, monkeypatch, room):
    model = load_model(make_trained_folder(tmp_path, folds=2, norm="batch").model)
    image = np.random.default_rng(0).integers(0, 255, (150, 130, 3), np.uint8)
    one_by_one = fold_probabilities(Ensemble(model, device=CPU), image)
    ensemble = Ensemble(model, device=CPU)
    logits, asked = ensemble._engine.logits, []

    def as_on_a_gpu(batch):
        asked.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(batch)

    monkeypatch.setattr(ensemble._engine, "logits", as_on_a_gpu)
    monkeypatch.setattr(Ensemble, "batch_size", 8)
    torch.testing.assert_close(fold_probabilities(ensemble, image), one_by_one, atol=1e-5, rtol=0)
    assert max(asked) == 8
    assert sum(size > room for size in asked) == (room == 4)


def scores(dice: float | None, disagreement: float = 0.1, absent: float | None = None) -> Scores:
    return Scores(
        patches=1,
        pixels=1,
        dice={"tumour": dice},
        absent={} if absent is None else {"tumour": absent},
        calibration_error=0,
        uncertainty=0.2,
        disagreement=disagreement,
    )


@pytest.mark.parametrize(
    ("before", "after", "passed"), [(0.9, 0.9, True), (0.9, 0.88, True), (0.9, 0.87, False), (0.5, 0.8, True)]
)
def test_the_guard_trips_beyond_the_tolerance(before, after, passed):
    verdict = judge(Comparison(before=scores(before), after=scores(after)), 0.021)
    assert verdict.passed is passed
    assert "tumour" in verdict.sentence


@pytest.mark.parametrize(
    ("before", "after", "passed", "words"),
    [
        (0.0, 0.0, True, "0.000 less"),
        (0.0, 0.001, True, "0.001 more"),  # a pixel or two, though its Dice falls from none to 0
        (0.001, 0.3, False, "0.299 more"),  # a flood, though its Dice was 0 before
        (0.2, 0.1, True, "0.100 less"),
    ],
)
def test_a_label_that_the_old_patches_do_not_hold_is_judged_by_its_area(before, after, passed, words):
    old = Comparison(before=scores(0.0 if before else None, absent=before), after=scores(0.0, absent=after))
    verdict = judge(old, 0.02)
    assert verdict.passed is passed
    assert f"tumour, which they do not hold, is found on {words} of their area" in verdict.sentence


def test_area_is_counted_of_labels_that_the_reference_does_not_hold():
    tally = Tally({"background": 0, "tumour": 1, "necrosis": 2})
    found = torch.tensor([[0, 1, 2, 2]])
    one_hot = torch.nn.functional.one_hot(found, 3).movedim(-1, 0).float()
    tally.add(one_hot[None], np.array([[0, 1, 0, NOT_JUDGED]], np.uint8))
    judged = tally.scores()
    assert judged is not None
    assert judged.absent == {"necrosis": 1 / 3}
    assert judged.dice == {"tumour": 1.0, "necrosis": 0.0}


def test_without_old_patches_the_guard_says_so():
    verdict = judge(None, 0.02)
    assert verdict.passed is None
    assert "nothing guards" in verdict.sentence


def test_folds_that_have_moved_together_are_noticed():
    assert Comparison(before=scores(0.9, 0.1), after=scores(0.9, 0.04)).folds_have_converged
    assert not Comparison(before=scores(0.9, 0.1), after=scores(0.9, 0.06)).folds_have_converged


@given(slides=st.lists(st.integers(1, 9), min_size=1, max_size=6), count=st.integers(0, 40), seed=st.integers(0, 9))
def test_the_guard_looks_at_all_slides(slides, count, seed):
    patches = [
        LearningPatch(f"{s}_{n}", f"s{s}", "p", "c", 1, None, list, list)
        for s, many in enumerate(slides)
        for n in range(many)
    ]
    chosen = subset(patches, count, seed=seed)
    assert chosen == [p for p in patches if p in chosen]
    assert len(chosen) == (min(count, len(patches)) if count else len(patches))
    assert len({p.slide for p in chosen}) == min(len(chosen), len(slides))
    assert chosen == subset(patches, count, seed=seed)
