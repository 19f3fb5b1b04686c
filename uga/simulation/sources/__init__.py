"""Where the slides of an experiment come from: drawn, made of tiles, or found in the user's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.simulation.config import CamelyonData, CohortData, GlasData, NucleiData, VirtualData
from uga.simulation.sources import camelyon, files, glas, nuclei, virtual
from uga.simulation.sources.cohorts import Cohorts

if TYPE_CHECKING:
    from pathlib import Path

    from uga.simulation.config import LoadedConfig

__all__ = ["Cohorts", "prepare"]


def prepare(loaded: LoadedConfig, folder: Path, given: Path | None) -> Cohorts:
    """Make or find the slides of an experiment; slides that are there are kept.

    Args:
        loaded: The configuration.
        folder: For slides that are made.
        given: The folder that the user named with ``--data``.

    Raises:
        UserError: the configuration needs a folder that is not given, or its content does not fit.
    """
    data = loaded.config.data
    if isinstance(data, VirtualData):
        return virtual.prepare(data, folder)
    if isinstance(data, CohortData):
        return files.prepare(data, given or loaded.folder)
    if given is None:
        raise UserError(f"The configuration {loaded.called} reads a folder of yours; name it with --data.")
    if not given.is_dir():
        raise UserError(f"The folder {given} does not exist; name another one with --data.")
    if isinstance(data, GlasData):
        return glas.prepare(data, folder, given)
    if isinstance(data, NucleiData):
        return nuclei.prepare(data, folder, given)
    assert isinstance(data, CamelyonData)  # noqa: S101 - the last one
    return camelyon.prepare(data, given)
