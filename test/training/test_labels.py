import numpy as np
import pytest
from pydantic import ValidationError

from uga.errors import UserError
from uga.training.labels import DEMO_MAPPING, LabelMapping


def test_values_become_labels_in_order():
    mapping = LabelMapping.parse("background=0,1 tumour=2 necrosis=7 ignore=3")
    values = np.array([[0, 1, 2], [7, 3, 0]], np.uint8)
    assert mapping.apply(values, "m.tif").tolist() == [[0, 0, 1], [2, 3, 0]]
    assert mapping.dataset_labels == {"background": 0, "tumour": 1, "necrosis": 2, "ignore": 3}


def test_unnamed_value_is_an_error_that_names_file_and_value():
    with pytest.raises(UserError, match=r"m.tif holds the values \[9\]"):
        DEMO_MAPPING.apply(np.array([[0, 9]], np.uint8), "m.tif")


@pytest.mark.parametrize("text", ["tumour=1", "background=0", "background=0 tumour=0", "background=0 tumour=x", ""])
def test_bad_mappings_are_refused(text):
    with pytest.raises(UserError, match="not of the form"):
        LabelMapping.parse(text)


def test_values_must_fit_a_byte():
    with pytest.raises(ValidationError):
        LabelMapping(labels={"background": (0,), "tumour": (256,)})
