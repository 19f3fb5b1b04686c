from collections import Counter

import pytest

from uga.errors import UserError
from uga.training.demo import FOLDS, TRAINING_CENTRE, holdout_specs, main, pack_specs, train_demo, training_specs


def test_training_slides_are_of_one_centre_and_one_patient_each():
    specs = training_specs(0)
    assert {spec.centre_id for spec in specs} == {TRAINING_CENTRE}
    assert len({spec.patient_id for spec in specs}) == len(specs) >= FOLDS
    assert len(set(Counter(spec.lesion for spec in specs).values())) == 1


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_holdout_tissue_was_never_trained_on_nor_packed(seed):
    trained = {spec.seed for other in range(20) for spec in training_specs(other)}
    packed = {spec.seed for other in range(20) for spec in pack_specs(other)}
    held_out = holdout_specs(seed)
    assert not (trained | packed) & {spec.seed for spec in held_out}
    assert not trained & packed
    tissues = Counter(spec.seed for spec in held_out)
    assert set(tissues.values()) == {5}


def test_the_hold_out_pack_is_of_the_training_centre():
    assert {spec.centre_id for spec in pack_specs(0)} == {TRAINING_CENTRE}


def test_an_existing_target_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        train_demo(tmp_path / "model", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_help_needs_no_training(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "--work" in capsys.readouterr().out
