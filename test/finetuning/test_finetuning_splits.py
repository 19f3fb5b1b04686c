from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uga.errors import UserError
from uga.finetuning import run as run_module
from uga.finetuning.patches import LearningPatch
from uga.finetuning.schedule import WarmUpPoly
from uga.finetuning.splits import deal, make_splits, slide_digest
from uga.model.card import Training


def patch(
    name: str, slide: str, *, patient: str | None = None, centre: str = "c", fold: int | None = None
) -> LearningPatch:
    return LearningPatch(
        name, slide, patient or slide, centre, 1, fold, lambda: np.zeros((1, 1, 3)), lambda: np.zeros((1, 1))
    )


COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=12)


@given(corrected=COUNTS, old=COUNTS, folds=st.integers(2, 6), seed=st.integers(0, 99), stated=st.booleans())
def test_no_slide_is_on_both_sides_and_every_patch_is_learned(corrected, old, folds, seed, stated):
    corrections = [patch(f"c{s}_{n}", f"new{s}") for s, count in enumerate(corrected) for n in range(count)]
    replay = [
        patch(f"r{s}_{n}", f"old{s}", patient=f"p{s // 2}", fold=(s // 2) % folds if stated else None)
        for s, count in enumerate(old)
        for n in range(count)
    ]
    held_out = deal(corrections, replay, earlier={}, folds=folds, seed=seed)
    splits = make_splits(held_out, folds=folds)
    slide_of = {p.name: p.slide for p in (*corrections, *replay)}
    patient_of = {p.name: p.patient for p in (*corrections, *replay)}
    assert len(splits) == folds
    for split in splits:
        assert sorted(split["train"] + split["val"]) == sorted(slide_of)
        for group in (slide_of, patient_of):
            assert not {group[n] for n in split["train"]} & {group[n] for n in split["val"]}
    for name in slide_of:
        assert sum(name in split["val"] for split in splits) == (0 if held_out[name] is None else 1)
    if stated:
        assert all(held_out[p.name] == p.fold for p in replay)
    shares = [len({slide_of[n] for n in split["val"] if n.startswith("c")}) for split in splits]
    assert max(shares) - min(shares) <= 1
    if len(corrected) > 1:
        assert all(held_out[p.name] is not None for p in corrections)


@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=5), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_no_fold_holds_out_more_of_a_centre_than_its_part(counts, folds, seed):
    corrections = [
        patch(f"{c}_{s}", f"{c}_{s}", centre=f"c{c}") for c, count in enumerate(counts) for s in range(count)
    ]
    held_out = deal(corrections, [], earlier={}, folds=folds, seed=seed)
    for number, count in enumerate(counts):
        for fold in range(folds):
            mine = [p for p in corrections if p.centre == f"c{number}" and held_out[p.name] == fold]
            assert len(mine) <= -(-count // folds)


def test_a_single_corrected_slide_is_learned_by_all_folds():
    held_out = deal([patch("a", "s"), patch("b", "s")], [patch("r", "o", fold=1)], earlier={}, folds=5, seed=0)
    assert held_out == {"a": None, "b": None, "r": 1}


def test_a_corrected_slide_of_the_replay_stays_with_its_fold():
    replay = [patch("r0", "o0", fold=0), patch("r1", "o1", fold=1)]
    assert deal([patch("a", "o1")], replay, earlier={}, folds=2, seed=0)["a"] == 1
    named = [patch("r0", "tumor-001", fold=0), patch("r1", "tumor-002-b", fold=1)]  # as a training names slides
    dealt = deal([patch("a", "tumor_002.b"), patch("b", "tumor_001")], named, earlier={}, folds=2, seed=0)
    assert dealt == {"a": 1, "b": 0, "r0": 0, "r1": 1}
    held_out = deal([patch("a", "o1"), patch("b", "new")], replay, earlier={}, folds=2, seed=0)
    assert held_out["a"] == 1
    assert held_out["b"] is not None


def test_a_slide_of_an_earlier_fine_tuning_stays_with_the_fold_that_did_not_learn_from_it():
    earlier = {slide_digest("tumor_001"): 1, slide_digest("b"): None, slide_digest("elsewhere"): 0}
    corrections = [patch("x", "tumor-001"), patch("y", "b"), patch("z", "new")]
    for seed in range(10):
        held_out = deal(corrections, [], earlier=earlier, folds=2, seed=seed)
        assert (held_out["x"], held_out["y"]) == (1, None)
        assert held_out["z"] is not None
    assert deal(corrections, [patch("r", "tumor_001", fold=0)], earlier=earlier, folds=2, seed=0)["x"] == 0
    assert deal(corrections[:1], [], earlier=earlier, folds=2, seed=0) == {"x": None}  # alone, now all learn from it


def test_what_an_earlier_fine_tuning_held_out_counts_when_new_slides_are_dealt():
    earlier = {slide_digest("a"): 0, slide_digest("b"): 0}
    for seed in range(5):
        for centre in "cd":  # of the same centre or of another
            held_out = deal(
                [patch("x", "a"), patch("y", "new", centre=centre)], [], earlier=earlier, folds=2, seed=seed
            )
            assert held_out == {"x": 0, "y": 1}
        more = [patch("x", "a"), patch("y", "b"), *(patch(name, name) for name in "efgh")]
        assert sorted(deal(more, [], earlier=earlier, folds=3, seed=seed).values()) == [0, 0, 1, 1, 2, 2]
    replayed = [patch("r0", "a", fold=0), patch("r1", "o", fold=1)]
    assert deal([patch("x", "a"), patch("y", "new")], replayed, earlier={}, folds=2, seed=0)["y"] == 1


def test_slides_that_one_fold_has_held_out_are_learned_by_all_folds_where_there_are_no_others():
    corrections = [patch("x", "a"), patch("y", "b")]
    held_out = deal(corrections, [], earlier={slide_digest("a"): 0, slide_digest("b"): 0}, folds=2, seed=0)
    assert held_out == {"x": None, "y": None}
    assert all(split["train"] for split in make_splits(held_out, folds=2))
    replay = [patch("r", "a", fold=0), patch("s", "o", fold=1)]
    held_out = deal(corrections, replay, earlier={slide_digest("b"): 0}, folds=2, seed=0)
    assert held_out == {"x": 0, "y": None, "r": 0, "s": 1}, "the replay stays where it was"


def test_a_fold_that_would_learn_from_nothing_is_refused():
    with pytest.raises(UserError, match=r"Fold 1 would learn from nothing, .*; correct a patch of another slide"):
        deal([patch("x", "a")], [patch("r", "a", fold=1)], earlier={}, folds=2, seed=0)


@pytest.mark.parametrize(
    ("corrected", "earlier", "kept"),
    [("tumor_001", "another", ["h2"]), ("new", "another", ["h1", "h2"]), ("new", "tumor_002", ["h1"])],
)
def test_the_guard_looks_at_no_slide_that_is_or_was_corrected(monkeypatch, corrected, earlier, kept):
    pack = [patch("h1", "tumor-001"), patch("h2", "tumor-002")]
    monkeypatch.setattr(run_module, "pack_patches", lambda *_: pack)
    training = Training(corrected={slide_digest(earlier): 0})
    parent = SimpleNamespace(card=SimpleNamespace(training=training))
    corrections = SimpleNamespace(used=[SimpleNamespace(slide_id=corrected)])
    run = run_module._Run(None, parent, corrections, None, "a pack")
    assert [each.name for each in run._held_out_patches()] == kept
    assert run_module._Run(None, parent, corrections, None, None)._held_out_patches() == []


def test_a_replay_that_leaks_is_refused():
    with pytest.raises(UserError, match="'p' in two folds"):
        deal([patch("a", "s")], [patch("x", "o1", patient="p", fold=0), patch("y", "o2", patient="p", fold=1)],
             earlier={}, folds=2, seed=0)  # fmt: skip


class Optimiser:
    def __init__(self):
        self.param_groups = [{"lr": 0.0}, {"lr": 0.0}]


@given(epochs=st.integers(1, 10), per_epoch=st.integers(1, 30), share=st.floats(0, 1))
def test_the_rate_rises_to_the_peak_and_falls_and_is_never_zero(epochs, per_epoch, share):
    total = epochs * per_epoch
    warm_up = round(share * total)
    schedule = WarmUpPoly(Optimiser(), peak=0.1, warm_up=warm_up, per_epoch=per_epoch, epochs=epochs)
    rates = [schedule.rate(i) for i in range(total)]
    assert all(0 < rate <= 0.1 for rate in rates)
    top = max(0, warm_up - 1)
    assert rates[top] == pytest.approx(0.1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_an_epoch_starts_where_its_first_iteration_does():
    optimiser = Optimiser()
    schedule = WarmUpPoly(optimiser, peak=0.1, warm_up=4, per_epoch=3, epochs=4)
    schedule.step(2)
    assert [group["lr"] for group in optimiser.param_groups] == [schedule.rate(6)] * 2
