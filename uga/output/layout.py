"""Where the outputs of one slide lie below its folder.

The default is what `docs/outputs.md` describes. A grand-challenge algorithm has output sockets with paths of its own,
so a job of the platform may ask for other places.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

_RESERVED = frozenset({"manifest.json", "failures.json", "inputs.json"})


def _image_folder(path: str) -> str:
    parts = PurePosixPath(path).parts
    plain = "/".join(parts) == path and "\\" not in path and ".." not in parts
    if not plain or len(parts) < 2 or parts[0] != "images" or PurePosixPath(path).suffix:
        raise ValueError(
            f"{path!r} is no image socket's path; it must be a folder below images/, such as images/tumour"
        )
    return path


def _json_file(path: str) -> str:
    if not path.endswith(".json") or "/" in path or "\\" in path or path.startswith(".") or path in _RESERVED:
        raise ValueError(f"{path!r} is no JSON socket's path; it must be a file name such as uncertain-patches.json")
    return path


ImageFolder = Annotated[str, AfterValidator(_image_folder)]
JsonFile = Annotated[str, AfterValidator(_json_file)]


class Layout(BaseModel):
    """Paths relative to a slide's folder: a folder for each image, a file for each list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segmentation: ImageFolder = "images/segmentation"
    uncertainty: ImageFolder = "images/uncertainty"
    ranked_patches: JsonFile = "ranked-patches.json"
    boxes: JsonFile = "uncertain-patches.json"

    @model_validator(mode="after")
    def _keeps_outputs_apart(self) -> Self:
        folders = PurePosixPath(self.segmentation), PurePosixPath(self.uncertainty)
        if folders[0].is_relative_to(folders[1]) or folders[1].is_relative_to(folders[0]):
            raise ValueError("segmentation and uncertainty must be two folders, none inside the other")
        if self.ranked_patches == self.boxes:
            raise ValueError("ranked_patches and boxes must be two files")
        return self

    def segmentation_file(self, folder: Path, stem: str) -> Path:
        """The label map of a slide, given its output folder and the stem of its images."""
        return folder / self.segmentation / f"{stem}.tif"

    def uncertainty_file(self, folder: Path, stem: str) -> Path:
        """The uncertainty map of a slide, given its output folder and the stem of its images."""
        return folder / self.uncertainty / f"{stem}.tif"


DEFAULT_LAYOUT = Layout()
"""What `docs/outputs.md` describes."""
