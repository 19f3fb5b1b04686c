"""How an experiment differs from the configuration of its name that comes with UGA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.simulation.cells import config_record
from uga.simulation.config import load_config, shipped_configs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uga.simulation.summary import Summary

_SETTLED = "auto"
_TOLD_ELSEWHERE = ("name", "title", "description", "keep_models")


def deviations(summary: Summary) -> list[str]:
    """Such as ``grid.budgets is 5 instead of 5, 10, 20``; nothing for an experiment that does not come with UGA.

    What was ``auto`` and is settled by what computed the query pool is no deviation.
    """
    if summary.name not in shipped_configs():
        return []
    shipped, own = flat(config_record(load_config(summary.name).config)), flat(summary.config)
    given = [f"the baseline is {summary.baseline.name}, given with --model"] if summary.given_baseline else []
    return given + [
        f"{key} is {_shown(own.get(key))} instead of {_shown(shipped.get(key))}"
        for key in dict.fromkeys((*shipped, *own))
        if own.get(key) != shipped.get(key) and shipped.get(key) != _SETTLED and key not in _TOLD_ELSEWHERE
    ]


def flat(content: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Values of nested tables by their dotted keys."""
    values: dict[str, object] = {}
    for key, value in content.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value) or "none"
    return "not given" if value is None else str(value)
