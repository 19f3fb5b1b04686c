"""Where nnU-Net keeps its files: below one work folder, never demanded from the user."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class NnunetFolders:
    """The three folders nnU-Net knows, below one work folder."""

    work: Path

    @property
    def raw(self) -> Path:
        """Datasets as images and labels."""
        return self.work / "raw"

    @property
    def preprocessed(self) -> Path:
        """Normalised patches, plans and splits."""
        return self.work / "preprocessed"

    @property
    def results(self) -> Path:
        """Checkpoints and logs."""
        return self.work / "results"

    def activate(self) -> None:
        """Create the folders and point nnU-Net at them; call before anything imports ``nnunetv2``."""
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ["nnUNet_raw"] = str(self.raw)  # noqa: SIM112 - nnU-Net's own spelling
        os.environ["nnUNet_preprocessed"] = str(self.preprocessed)  # noqa: SIM112
        os.environ["nnUNet_results"] = str(self.results)  # noqa: SIM112
        os.environ["nnUNet_compile"] = "0"  # noqa: SIM112 - compiling costs more than the short runs here gain
        os.environ["nnUNet_wandb_enabled"] = "0"  # noqa: SIM112 - nothing leaves the machine
        # Caches below the work folder: a container's user may have no home that can be written, nor a name.
        for variable in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            os.environ.setdefault(variable, str(self.work / "cache" / variable.lower()))
