from pathlib import Path

import pytest
from finetuning_helpers import own_environment, train_parent

from uga.model.folder import Model


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two tiny folds that know purple discs, with packs; nobody may write into its folder."""
    with own_environment():
        return train_parent(Path(tmp_path_factory.mktemp("parent")))


@pytest.fixture(autouse=True)
def _environment():
    with own_environment():
        yield
