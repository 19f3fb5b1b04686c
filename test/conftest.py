"""Fixtures that several parts share."""

from pathlib import Path

import pytest
from hypothesis import settings
from model_helpers import make_trained_folder

from uga.stopping import leave

# The first example of a test pays for imports and caches, and machines are busy: no test is about time.
settings.register_profile("uga", deadline=None)
settings.load_profile("uga")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of three tiny random folds with BatchNorm and /255; it predicts all its labels."""
    return make_trained_folder(tmp_path_factory.mktemp("tiny"), folds=3, norm="batch", window=(256, 256)).model


_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends as our commands do: all libraries at once in one process have not always survived being taken apart."""
    if (status := config.stash.get(_STATUS, None)) is not None:
        leave(status)
