"""Finished slides that belong together, with the slides themselves: what patches are exported from after the run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.inputs import find_slides
from uga.output.finished import finished_slides
from uga.output.maps import MapReader
from uga.output.package import PackageWriter
from uga.pipeline import PatchExporter
from uga.slide import open_slide
from uga.sockets import load_sockets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from uga.geometry import Grid
    from uga.model.folder import Model
    from uga.output.finished import FinishedSlide
    from uga.output.schema import RankedPatches
    from uga.slide import Slide


@dataclass(frozen=True, slots=True)
class FinishedRuns:
    """Slides that one model has scored alike.

    Attributes:
        finished: Output folders, by slide.
        sources: Slide files, by slide; may lack some.
        slides: Where the slide files were sought.
        model: The model.
        ranked: The list of one of the slides; measure, patch size and spacing are the same in all.
    """

    finished: dict[str, FinishedSlide]
    sources: dict[str, Path]
    slides: Path
    model: Model
    ranked: RankedPatches

    @classmethod
    def find(cls, folders: Sequence[Path], slides: Path, model: Model) -> FinishedRuns:
        """Look into output folders of one or several runs.

        Raises:
            UserError: no finished slide, slides that do not belong together or to the model, no slide file at all.
        """
        finished = {one.id: one for one in finished_slides(folders)}
        ranked = _check(list(finished.values()), model)
        found = find_slides(slides, load_sockets(None, model.path), without=folders)
        sources = {source.slide_id: source.path for source in found}
        return cls(finished, sources, slides, model, ranked)

    def require(self, slide_ids: Iterable[str]) -> None:
        """Make sure that slides and their maps are there and open, before anything is written.

        Raises:
            UserError: a slide file is missing, or not the one of the run.
            SlideError: a slide or a map cannot be read.
        """
        wanted = sorted(set(slide_ids))
        if missing := [slide_id for slide_id in wanted if slide_id not in self.sources]:
            raise UserError(
                f"{self.slides} holds no slide {missing[0]}; name the folder that was the runs' input with --slides."
            )
        for slide_id in wanted:
            one = self.finished[slide_id]
            with self.open(slide_id), MapReader(one.segmentation), MapReader(one.uncertainty):
                pass

    @contextmanager
    def open(self, slide_id: str) -> Iterator[tuple[Slide, Grid]]:
        """A slide, with its working grid.

        Raises:
            UserError: the slide file is not the one of the run.
            SlideError: it cannot be read.
        """
        one, source = self.finished[slide_id], self.sources[slide_id]
        mpp = one.manifest.options.get("mpp")
        with open_slide(source, mpp=mpp if isinstance(mpp, float) else None) as slide:
            if slide.quickhash != one.manifest.input.quickhash:
                raise UserError(
                    f"{source} is not the slide that {one.folder} was made of; name the right folder with --slides."
                )
            yield slide, slide.grid(self.ranked.spacing_um)

    @contextmanager
    def exporter(self, slide_id: str, target: Path) -> Iterator[PatchExporter]:
        """Writes packages of a slide below ``target``.

        Raises:
            UserError: the slide file is not the one of the run.
            SlideError: it cannot be read.
        """
        one = self.finished[slide_id]
        with self.open(slide_id) as (slide, grid):
            writer = PackageWriter(
                folder=target,
                slide=one.record,
                model=self.ranked.model,
                uncertainty=self.ranked.uncertainty,
                labels=self.model.labels,
                tumour_label=self.model.tumour_label,
                grid=grid,
            )
            yield PatchExporter(slide, grid, one.segmentation, one.uncertainty, writer)


def _check(finished: Sequence[FinishedSlide], model: Model) -> RankedPatches:
    """The first slide's list, if all slides were scored alike, by this model."""
    first = finished[0].ranked()
    for one in finished:
        own = one.ranked()
        if own.model.sha256 != model.sha256:
            raise UserError(f"{one.folder} was made by another model than {model.path}; name its own with --model.")
        if any(getattr(own, name) != getattr(first, name) for name in ("uncertainty", "patch_size_px", "spacing_um")):
            raise UserError(
                f"{one.folder} and {finished[0].folder} differ in measure, patch size or spacing; name them apart."
            )
    return first
