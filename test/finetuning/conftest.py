import pytest
from finetuning_helpers import own_environment, trained_parent

from uga.model.folder import Model


@pytest.fixture(scope="session")
def parent() -> Model:
    return trained_parent()


@pytest.fixture(autouse=True)
def _environment():
    with own_environment():
        yield
