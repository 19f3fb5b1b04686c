"""Where nnU-Net keeps its files: below one work folder, never demanded from the user."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
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
        # A container's user may have no home that can be written, nor a name.
        for variable in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            if variable not in os.environ:
                os.environ[variable] = str(_cache_folder() / variable.lower())


@cache
def _cache_folder() -> Path:
    """A folder of this process and its children; not the work folder, which may be gone while a cache is in use."""
    folder = Path(tempfile.mkdtemp(prefix="uga-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
