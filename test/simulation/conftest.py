import pytest
from finetuning_helpers import own_environment


@pytest.fixture(autouse=True)
def _environment():
    with own_environment():
        yield
