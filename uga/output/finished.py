"""Finished slides of earlier runs: their folders, manifests, lists and maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uga.errors import UserError
from uga.output.layout import Layout
from uga.output.manifest import read_manifest
from uga.output.schema import RankedPatches, SlideRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from uga.geometry import Grid
    from uga.output.schema import Manifest


@dataclass(frozen=True, slots=True)
class FinishedSlide:
    """A slide's output folder and manifest."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """Identity of the slide within its run."""
        return self.manifest.input.id

    @property
    def record(self) -> SlideRecord:
        """The slide."""
        return self.manifest.input.slide

    @property
    def layout(self) -> Layout:
        """Where its files lie."""
        return Layout.model_validate(self.manifest.options["layout"])

    @property
    def segmentation(self) -> Path:
        """The label map."""
        return self._map(self.layout.segmentation)

    @property
    def uncertainty(self) -> Path:
        """The uncertainty map."""
        return self._map(self.layout.uncertainty)

    def ranked(self) -> RankedPatches:
        """Its list.

        Raises:
            UserError: the list is missing or damaged.
        """
        path = self.folder / self.layout.ranked_patches
        try:
            return RankedPatches.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(f"{path} cannot be read as a list of ranked patches; run the slide again.") from error

    def grid(self, spacing_um: float) -> Grid:
        """The grid its maps lie on."""
        return self.manifest.input.grid(spacing_um)

    def _map(self, folder: str) -> Path:
        found = next(iter((self.folder / folder).glob("*.tif")), None)
        if found is None:
            raise UserError(f"{self.folder / folder} holds no map any more; run the slide again.")
        return found


def finished_slides(folders: Sequence[Path]) -> Iterator[FinishedSlide]:
    """The finished slides in each folder and in the folders directly below it.

    Raises:
        UserError: there is none, or one slide is there twice.
    """
    seen: dict[str, Path] = {}
    for folder in folders:
        for candidate in (folder, *sorted(p for p in folder.glob("*") if p.is_dir())):
            manifest = read_manifest(candidate)
            if manifest is None:
                continue
            if manifest.input.id in seen:
                msg = f"{candidate} and {seen[manifest.input.id]} hold the same slide; name one of them."
                raise UserError(msg)
            seen[manifest.input.id] = candidate
            yield FinishedSlide(candidate, manifest)
    if not seen:
        msg = f"{', '.join(map(str, folders))} holds no finished slide; run `uga infer` first."
        raise UserError(msg)
