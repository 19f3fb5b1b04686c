"""A new ranked list over finished slides, with annotation packages, from their scores and maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.inputs import find_slides
from uga.output.files import write_json
from uga.output.manifest import read_manifest
from uga.output.package import PackageWriter
from uga.output.schema import RankedPatches, SlideRecord
from uga.pipeline import RANKED_FILE, SEGMENTATION_FOLDER, UNCERTAINTY_FOLDER, PatchExporter
from uga.ranking import rank
from uga.scores import read_scores
from uga.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from uga.model.folder import Model
    from uga.output.schema import Manifest, RankedPatch
    from uga.ranking import Candidate, Exclusion, Scope, Strategy


@dataclass(frozen=True)
class _Finished:
    """A finished slide: its output folder and manifest."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.input.id

    @property
    def record(self) -> SlideRecord:
        return SlideRecord(**self.manifest.input.model_dump(exclude={"size_bytes"}))

    def ranked(self) -> RankedPatches:
        return RankedPatches.model_validate_json((self.folder / RANKED_FILE).read_bytes())

    def map(self, kind: str) -> Path:
        return next(iter((self.folder / kind).glob("*.tif")))


def rerank(  # noqa: PLR0913 - the options of the command
    folders: Sequence[Path],
    output: Path,
    slides: Path,
    model: Model,
    *,
    top: int,
    strategy: Strategy,
    exclusion: Exclusion,
    scope: Scope,
    seed: int,
) -> int:
    """Ranks all patches of finished slides and writes the list and a package per patch into ``output``.

    Args:
        folders: output folders of one or several runs.
        output: a new or empty folder.
        slides: where the slides lie.
        model: the model of the runs; names the labels.
        top: patches from each part of ``scope``.
        strategy: order of the patches.
        exclusion: which patches are dropped.
        scope: per slide, per centre or over all.
        seed: of the random strategies.

    Returns:
        The number of patches ranked.

    Raises:
        UserError: the folders hold no finished slide, do not belong together, or a slide is missing.
    """
    if output.exists() and any(output.iterdir()):
        msg = f"{output} is not empty; name a new folder with --output."
        raise UserError(msg)
    finished = {one.id: one for one in _finished(folders)}
    first = _check(list(finished.values()), model)
    sources = {source.slide_id: source.path for source in find_slides(slides)}
    candidates = [candidate for one in finished.values() for candidate in read_scores(one.folder)]
    chosen = rank(candidates, top=top, strategy=strategy, exclusion=exclusion, scope=scope, seed=seed)
    missing = sorted({c.slide_id for c in chosen} - sources.keys())
    if missing:
        msg = f"{slides} holds no slide {missing[0]}; name the folder that was the runs' input with --slides."
        raise UserError(msg)
    patches = [
        _export(number, candidate, finished[candidate.slide_id], sources[candidate.slide_id], output, model, first)
        for number, candidate in enumerate(chosen, start=1)
    ]
    ranked = RankedPatches(
        slides=tuple(one.record for one in finished.values()),
        model=first.model,
        uncertainty=first.uncertainty,
        patch_size_px=first.patch_size_px,
        spacing_um=first.spacing_um,
        patches=tuple(patches),
    )
    write_json(output / RANKED_FILE, ranked)
    return len(patches)


def _finished(folders: Sequence[Path]) -> Iterator[_Finished]:
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
            yield _Finished(candidate, manifest)
    if not seen:
        msg = f"{', '.join(map(str, folders))} holds no finished slide; run `uga infer` first."
        raise UserError(msg)


def _check(finished: Sequence[_Finished], model: Model) -> RankedPatches:
    """The first slide's list, if all slides were scored alike, by this model."""
    first = finished[0].ranked()
    for one in finished:
        own = one.ranked()
        if own.model.sha256 != model.sha256:
            msg = f"{one.folder} was made by another model than {model.path}; name its own with --model."
            raise UserError(msg)
        same = (own.uncertainty, own.patch_size_px, own.spacing_um) == (
            first.uncertainty,
            first.patch_size_px,
            first.spacing_um,
        )
        if not same:
            msg = f"{one.folder} and {finished[0].folder} differ in measure, patch size or spacing; rank them apart."
            raise UserError(msg)
    return first


def _export(
    number: int, candidate: Candidate, one: _Finished, source: Path, output: Path, model: Model, first: RankedPatches
) -> RankedPatch:
    mpp = one.manifest.options.get("mpp")
    with open_slide(source, mpp=mpp if isinstance(mpp, float) else None) as slide:
        if slide.quickhash != one.manifest.input.quickhash:
            msg = f"{source} is not the slide that {one.folder} was made of; name the right folder with --slides."
            raise UserError(msg)
        grid = slide.grid(first.spacing_um)
        writer = PackageWriter(
            folder=output,
            slide=one.record,
            model=first.model,
            uncertainty=first.uncertainty,
            labels=model.labels,
            tumour_label=model.tumour_label,
            grid=grid,
        )
        exporter = PatchExporter(slide, grid, one.map(SEGMENTATION_FOLDER), one.map(UNCERTAINTY_FOLDER), writer)
        package, patch = exporter.export(candidate, number)
    return patch.model_copy(update={"slide_id": one.id, "folder": package.relative_to(output).as_posix()})
