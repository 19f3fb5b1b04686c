import numpy as np
import pytest
from pydantic import ValidationError

from uga.errors import UserError
from uga.training.labels import DEFAULT_MAPPING, DEMO_MAPPING, LabelMapping


def test_values_become_labels_in_order():
    mapping = LabelMapping.parse("background=0,1 tumour=2 necrosis=7 ignore=3")
    values = np.array([[0, 1, 2], [7, 3, 0]], np.uint8)
    assert mapping.apply(values, "m.tif").tolist() == [[0, 0, 1], [2, 3, 0]]
    assert mapping.dataset_labels(with_ignore=False) == {"background": 0, "tumour": 1, "necrosis": 2, "ignore": 3}


def test_values_and_classes_live_together():
    mapping = LabelMapping.parse('background=0,normal tumour=2,"Invasive Tumor",_0 ignore=9,artefact')
    assert mapping.apply(np.array([[0, 2, 9]], np.uint8), "m.tif").tolist() == [[0, 1, 2]]
    assert mapping.class_values == {
        "background": 0, "normal": 0, "tumour": 1, "invasive tumor": 1, "_0": 1, "ignore": 2, "artefact": 2,
    }  # fmt: skip


def test_the_ignore_label_is_there_if_anything_needs_it():
    mapping = LabelMapping.parse("background=0 tumour=1")
    assert "ignore" not in mapping.dataset_labels(with_ignore=False)
    assert mapping.dataset_labels(with_ignore=True)["ignore"] == mapping.ignore_label == 2


@pytest.mark.parametrize(
    ("label", "names"),
    [("tumour", ["Tumor", "metastases", "_0", "_1"]), ("background", ["_2", "Exclusion", "normal", "None"])],
)
def test_camelyons_classes_are_known(label, names):
    assert {DEFAULT_MAPPING.class_values[name.casefold()] for name in names} == {DEFAULT_MAPPING.value_of(label)}


def test_values_of_label_maps_are_never_guessed():
    with pytest.raises(UserError, match=r"m.tif holds the values \[0, 1\].*--labels"):
        DEFAULT_MAPPING.apply(np.array([[0, 1]], np.uint8), "m.tif")


def test_masks_of_black_and_white_can_be_named():
    mapping = LabelMapping.parse("background=0 tumour=255")
    assert mapping.apply(np.array([[0, 255]], np.uint8), "m.tif").tolist() == [[0, 1]]
    with pytest.raises(UserError, match=r"m.tif holds the values \[255\]"):
        DEMO_MAPPING.apply(np.array([[0, 255]], np.uint8), "m.tif")


def test_unnamed_value_is_an_error_that_names_file_and_value():
    with pytest.raises(UserError, match=r"m.tif holds the values \[9\]"):
        DEMO_MAPPING.apply(np.array([[0, 9]], np.uint8), "m.tif")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tumour=1", "start with background"),
        ("background=0", "at least one more"),
        ("background=0 cancer=1", "name the label tumour"),
        ("background=0 tumour=0", "'0' two meanings"),
        ("background=Normal tumour=normal", "'normal' two meanings"),
        ("background=0 tumour=1 ignore=tumour", "'tumour' two meanings"),
        ("background=0 tumour=1 tumour=2", "stands twice"),
        ("background=0 tumour=256", "outside 0..255"),
        ("background=0 tumour='1", "No closing quotation"),
        ("", "start with background"),
    ],
)
def test_bad_mappings_are_refused_in_one_sentence(text, reason):
    with pytest.raises(UserError, match=f"not of the form.*{reason}") as caught:
        LabelMapping.parse(text)
    assert "\n" not in str(caught.value)


def test_values_must_fit_a_byte():
    with pytest.raises(ValidationError):
        LabelMapping(labels={"background": (0,), "tumour": (256,)})
