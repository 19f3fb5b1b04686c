from datetime import UTC, datetime

import pytest
from finetuning_helpers import own_environment
from outcome_helpers import make_outcomes, make_patches

from uga.output.schema import ModelRecord
from uga.simulation.analysis import Outcomes
from uga.simulation.querying import centre_pools
from uga.simulation.summary import Summary


@pytest.fixture(autouse=True)
def _environment():
    with own_environment():
        yield


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    return make_outcomes()


@pytest.fixture
def summary_of():
    """Makes a summary of outcomes; what has nothing to do with them is left empty."""

    def make(outcomes: Outcomes, *, cells: int | None = None, **changes: object) -> Summary:
        values = {
            "data_notice": "Made by hand.",
            "name": "made",
            "title": "Made by hand",
            "description": "",
            "label": "tumour",
            "unit": "nats",
            "per": "a centre",
            "level": outcomes.options.level,
            "resamples": outcomes.options.resamples,
            "centres": outcomes.headline_centres,
            "centres_left_out": outcomes.centres_left_out,
            "dice_if_all": outcomes.dice_if_all,
            "test_slides": len(outcomes.slides),
            "test_patients": len(outcomes.slides),
            "lone_patients": outcomes.lone_patients,
            "seeds": len({key.seed for key in outcomes.results if key.strategy is not None}),
            "compare_with": outcomes.options.compare_with,
            "cells": cells or len(outcomes.results),
            "finished": len(outcomes.results),
            "points": outcomes.points,
            "differences": outcomes.differences,
            "areas": outcomes.areas,
            "choices": (),
            "pool": centre_pools(make_patches()),
            "rarities": (),
            "scores": (),
            "home_centres": (),
            "baseline": ModelRecord(name="demo", sha256="0" * 64, folds=(0, 1)),
            "given_baseline": False,
            "command": "python -m uga simulate made --output OUT",
            "config": {"name": "made"},
            "versions": {},
            "computed_on": ("cpu",),
            "cell_seconds": {"inference": 1.0},
            "updated": datetime(2024, 4, 12, tzinfo=UTC),
        }
        return Summary(**(values | changes))

    return make
