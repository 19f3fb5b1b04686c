import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uga.errors import UserError
from uga.training.splits import Origin, Split, check_splits, make_splits, patch_splits, read_splits, slide_splits


def _origins(patients: dict[str, int], strata: dict[str, str] | None = None) -> dict[str, Origin]:
    return {
        f"{patient}-{number}": Origin(patient, ((strata or {}).get(patient, "a"),))
        for patient, count in patients.items()
        for number in range(count)
    }


@given(counts=st.lists(st.integers(1, 4), min_size=5, max_size=30), folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_patients_stay_together_and_are_validated_once(counts, folds, seed):
    origins = _origins({f"p{i}": count for i, count in enumerate(counts)})
    splits = make_splits(origins, folds=folds, seed=seed)
    validated = [name for split in splits for name in split["val"]]
    assert sorted(validated) == sorted(origins)
    for split in splits:
        assert sorted(split["train"] + split["val"]) == sorted(origins)
        sides = [{origins[name].patient for name in split[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1]


def test_strata_are_spread_over_the_folds():
    strata = {f"p{i}": "macro" if i < 5 else "negative" for i in range(15)}
    splits = make_splits(_origins(dict.fromkeys(strata, 1), strata), folds=5, seed=3)
    for split in splits:
        assert sum(strata[name.split("-")[0]] == "macro" for name in split["val"]) == 1


def test_seed_decides_the_deal():
    origins = _origins({f"p{i}": 1 for i in range(20)})
    assert make_splits(origins, folds=5, seed=1) == make_splits(origins, folds=5, seed=1)
    assert make_splits(origins, folds=5, seed=1) != make_splits(origins, folds=5, seed=2)


def test_too_few_patients():
    with pytest.raises(UserError, match="5 folds need as many patients, the cohort has 4"):
        make_splits(_origins({f"p{i}": 9 for i in range(4)}), folds=5, seed=0)


def test_a_patient_on_both_sides_is_an_error():
    patient_of = {"a-0": "a", "a-1": "a", "b-0": "b"}
    check_splits([Split(train=["a-0", "a-1"], val=["b-0"])], patient_of)
    with pytest.raises(UserError, match="patient 'a' in training and validation"):
        check_splits([Split(train=["a-0", "b-0"], val=["a-1"])], patient_of)


def test_unknown_patch_and_empty_side_are_errors():
    with pytest.raises(UserError, match="names the patch 'c-0'"):
        check_splits([Split(train=["a-0"], val=["c-0"])], {"a-0": "a"})
    with pytest.raises(UserError, match="validation empty"):
        check_splits([Split(train=["a-0"], val=[])], {"a-0": "a"})


PATIENT_OF = {"s1": "p1", "s2": "p1", "s3": "p2", "s4": "p3"}


def _file(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_own_splits_of_slides_are_read_and_spread_to_patches(tmp_path):
    splits = [{"train": ["s1", "s2", "s3"], "val": ["s4"]}, {"train": ["s3", "s4"], "val": ["s1", "s2"]}]
    assert read_splits(_file(tmp_path, splits), PATIENT_OF) == splits
    case_of = {f"{slide}_{number}": slide for slide in PATIENT_OF for number in range(2)}
    patches = patch_splits(splits, case_of)
    assert patches[0]["val"] == ["s4_0", "s4_1"]
    assert slide_splits(patches, case_of) == splits


RIGHT = {"train": ["s3", "s4"], "val": ["s1", "s2"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "not of the form"),
        ([RIGHT], "not of the form"),
        ([RIGHT, {"train": ["s1"]}], "not of the form"),
        ([RIGHT, {"train": ["s1", "s3"], "val": ["s2", "s4"]}], "Split 1 has patient 'p1' in training and validation"),
        ([RIGHT, {"train": ["s1", "s2", "s3"], "val": ["s4", "s9"]}], "names the slide 's9'"),
        ([RIGHT, {"train": ["s1", "s2", "s3", "s4"], "val": ["s4"]}], "names the slide 's4' 2 times|2 faults"),
        ([RIGHT, {"train": ["s1", "s2"], "val": ["s4"]}], "leaves out the slide 's3'"),
        ([RIGHT, {"train": ["s1", "s2", "s3", "s4"], "val": []}], "leaves training or validation empty"),
    ],
    ids=["json", "one", "keys", "leak", "unknown", "twice", "missing", "empty"],
)
def test_own_splits_with_faults(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read_splits(_file(tmp_path, content), PATIENT_OF)
    assert "\n" not in str(caught.value)


def test_a_file_of_splits_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_splits(tmp_path / "none.json", PATIENT_OF)
