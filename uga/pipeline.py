"""One slide from pixels to a finished output folder."""

from __future__ import annotations

import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from uga import __version__
from uga.background import Background
from uga.errors import SlideError, UserError
from uga.geometry import Grid, SpacingUm
from uga.inference import InferenceSettings, SlideInference
from uga.memory import peak_memory_bytes, return_free_memory
from uga.output.boxes import to_boxes
from uga.output.files import sha256_file, write_json
from uga.output.manifest import clear_outputs, discard, is_complete, read_manifest, write_manifest
from uga.output.maps import MapReader, label_description
from uga.output.package import PACKAGES_FOLDER, PackageWriter, image_sha256, written_files
from uga.output.report import REPORT_FILE, SlideResult, write_slide_report
from uga.output.schema import (
    ComputationRecord,
    InputRecord,
    RankedPatch,
    RankedPatches,
    RunIdentity,
    SlideRecord,
)
from uga.output.tiff import PyramidWriter
from uga.ranking import PatchGrid, PatchScores, rank, to_uint8
from uga.ranking.extras import extra_measures
from uga.recipe import Recipe
from uga.scores import SCORES_FILE, write_scores
from uga.slide import open_slide
from uga.slide.dicom import instances
from uga.statistics import slide_statistics
from uga.tissue import detect_tissue
from uga.tissue_file import read_tissue_mask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uga.inference import Band, Progress
    from uga.inputs import SlideInput
    from uga.model.ensemble import Ensemble
    from uga.options import RunOptions
    from uga.ranking import Candidate
    from uga.slide import Slide
    from uga.tissue import TissueMask

log = logging.getLogger(__name__)

_THUMBNAIL_PX = 1600
_EXPORT_THREADS = 2


@dataclass
class Stopwatch:
    """Seconds spent in each stage of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time inside the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Pipeline:
    """Runs one ensemble over slides with one set of options."""

    def __init__(self, ensemble: Ensemble, options: RunOptions) -> None:
        self.ensemble = ensemble
        self.recipe = Recipe(ensemble.model, ensemble.folds, options)

    def run(self, source: SlideInput, folder: Path, progress: Progress | None = None) -> bool:
        """Processes one slide into ``folder``.

        Returns:
            False if the folder already holds this very result, True if it was made.

        Raises:
            SlideError: the slide cannot be processed; nothing in the folder looks finished then.
        """
        started = datetime.now(UTC)
        watch = Stopwatch()
        with open_slide(source.path, mpp=self.recipe.options.mpp) as slide:
            grid = slide.grid(self.recipe.spacing_um)
            identity = self._identity(source, slide)
            if is_complete(folder, identity):
                return False
            if not source.owns_output:
                _check_owner(folder, identity.input)
            clear_outputs(folder)
            with watch.stage("tissue"):
                detected = detect_tissue(slide, grid)
                tissue = detected if source.tissue_mask is None else read_tissue_mask(source.tissue_mask, slide, grid)
            work = _SlideWork(self, source, slide, grid, tissue, folder, identity.input.slide)
            work.check_room()
            try:
                work.run(detected, watch, progress, started)
                write_manifest(
                    folder,
                    identity,
                    started=started,
                    timings_s=watch.seconds,
                    peak_memory_bytes=peak_memory_bytes(),
                    computation=self.computation,
                    outputs=work.outputs,
                )
            except BaseException:
                # Whoever takes a map from its place, without a look at the manifest, must not get half a result.
                discard(folder, work.outputs)
                raise
        return True

    @property
    def computation(self) -> ComputationRecord:
        """What computes the networks."""
        ensemble = self.ensemble
        return ComputationRecord(
            device=str(ensemble.device),
            engine=ensemble.arithmetic.engine,
            precision=ensemble.arithmetic.precision,
            label_agreement=ensemble.agreement,
        )

    def _identity(self, source: SlideInput, slide: Slide) -> RunIdentity:
        options = self.recipe.options.model_dump(mode="json", exclude={"scope", "per_slide_cap"})
        options["spacing_um"] = self.recipe.spacing_um
        options["layout"] = source.layout.model_dump()
        options["tissue_mask_sha256"] = None if source.tissue_mask is None else sha256_file(source.tissue_mask)
        return RunIdentity(
            uga_version=__version__,
            input=InputRecord(
                id=source.slide_id,
                file=source.path.name,
                width=slide.width_px,
                height=slide.height_px,
                mpp_x=slide.mpp.x,
                mpp_y=slide.mpp.y,
                quickhash=slide.quickhash,
                bounds_x=slide.bounds.x or None,
                bounds_y=slide.bounds.y or None,
                centre=source.centre or None,
                size_bytes=_size_bytes(source.path),
            ),
            model=self.recipe.model_record,
            options=options,
        )


@dataclass(frozen=True)
class _SlideWork:
    """The stages of one slide, in order: maps, ranking, packages, report."""

    pipeline: Pipeline
    source: SlideInput
    slide: Slide
    grid: Grid
    tissue: TissueMask
    folder: Path
    record: SlideRecord

    def check_room(self) -> None:
        """A platform takes the one image that lies in a socket's folder, so no other may lie there."""
        for image in (self.segmentation, self.uncertainty):
            others = sorted(path for path in image.parent.glob("*.tif") if path != image)
            if others:
                msg = f"{others[0]} is of another run; remove it or name another output folder."
                raise UserError(msg)

    def run(self, detected: TissueMask, watch: Stopwatch, progress: Progress | None, started: datetime) -> None:
        """Writes everything but the manifest."""
        with watch.stage("inference"):
            candidates, facts = self._write_maps(detected, progress)
            return_free_memory()
        with watch.stage("ranking"):
            write_scores(self.folder, candidates)
            packages = self._write_ranking(candidates)
        with watch.stage("report"):
            result = SlideResult(
                slide=self.record,
                segmentation=self.segmentation,
                uncertainty=self.uncertainty,
                packages=packages,
                thumbnail=self.slide.thumbnail(_THUMBNAIL_PX),
                facts=facts,
                scores=[candidate.score_mean for candidate in candidates],
            )
            provenance = self.pipeline.recipe.provenance(
                started, device=str(self.pipeline.computation), seconds=watch.seconds
            )
            write_slide_report(self.folder / REPORT_FILE, result, provenance)

    @property
    def outputs(self) -> list[Path]:
        """The files written so far."""
        layout, folder = self.source.layout, self.folder
        files = [self.segmentation, self.uncertainty]
        files += [folder / name for name in (layout.ranked_patches, layout.boxes, REPORT_FILE, SCORES_FILE)]
        return [*(file for file in files if file.is_file()), *written_files(folder / PACKAGES_FOLDER)]

    @property
    def segmentation(self) -> Path:
        return self.source.layout.segmentation_file(self.folder, self.source.stem)

    @property
    def uncertainty(self) -> Path:
        return self.source.layout.uncertainty_file(self.folder, self.source.stem)

    def _write_maps(self, detected: TissueMask, progress: Progress | None) -> tuple[list[Candidate], dict[str, str]]:
        options, ensemble, grid = self.pipeline.recipe.options, self.pipeline.ensemble, self.grid
        patches = PatchGrid(grid, options.patch_px, options.stride)
        tumour = ensemble.model.tumour_value
        measure = options.uncertainty
        extra = extra_measures(ensemble.model.labels) if options.keeps_extra else {}
        scores = PatchScores(patches, tumour_label=tumour, full_scale=measure.full_scale, extra=extra)
        settings = InferenceSettings(
            measure=measure,
            overlap=options.overlap,
            batch_size=ensemble.batch_size,
            bands_behind=1 if ensemble.device.type == "cuda" else 0,
            extra=extra,
        )
        needs_statistics = ensemble.model.normalisation.needs_statistics
        sampled = detected if detected.cells.any() else self.tissue  # a user may know of tissue that is not found
        inference = SlideInference(
            self.slide,
            grid,
            self.tissue,
            ensemble,
            slide_statistics(self.slide, grid, sampled) if needs_statistics else None,
            settings,
            also_read=patches.with_tissue(self.tissue),
        )
        log.info("%s: %d x %d px at %g um, %d windows", self.source.slide_id, grid.width, grid.height, grid.spacing_um,
                 inference.window_count)  # fmt: skip
        probe = inference.probe()
        if probe is not None:
            ensemble.settle(probe)
        spacing = SpacingUm(grid.spacing_um, grid.spacing_um)
        tissue_px = tumour_px = 0
        with ExitStack() as stack:
            segmentation = stack.enter_context(
                PyramidWriter(
                    self.segmentation,
                    width=grid.width,
                    height=grid.height,
                    spacing_um=spacing,
                    kind="labels",
                    description=label_description(ensemble.model.labels),
                    value_range=(0, max(ensemble.model.labels.values())),
                )
            )
            uncertainty = stack.enter_context(
                PyramidWriter(
                    self.uncertainty,
                    width=grid.width,
                    height=grid.height,
                    spacing_um=spacing,
                    kind="gray",
                    description=f"UGA uncertainty; {measure.value}; value = grey * {measure.full_scale:g} / 255 "
                    f"{measure.unit}",
                    value_range=(0, 255),
                )
            )

            def take(band: Band) -> None:
                nonlocal tissue_px, tumour_px
                for part in band.parts():
                    segmentation.append(part.labels)
                    uncertainty.append(to_uint8(part.uncertainty, measure.full_scale))
                    scores.add(part)
                    tissue_px += int(part.tissue.sum())
                    tumour_px += int((part.labels == tumour).sum())
                # Else the heap's holes add up, the more the more tissue there is; this takes milliseconds.
                return_free_memory()

            with Background("uga-bands") as beside:
                for band in inference.bands(progress):
                    beside.call(partial(take, band))
        px_per_mm2 = (1000 / grid.spacing_um) ** 2
        windows = len(inference.plan.xs) * len(inference.plan.ys)
        facts = {
            "Tissue": f"{tissue_px / px_per_mm2:.2f} mm²",
            f"Predicted {ensemble.model.tumour_label}": f"{tumour_px / px_per_mm2:.3f} mm²",
            "Windows": f"{inference.window_count} of {windows} (the others hold no tissue)",
        }
        return scores.candidates(self.source.slide_id, self.source.centre), facts

    def _write_ranking(self, candidates: list[Candidate]) -> list[Path]:
        recipe = self.pipeline.recipe
        options, model = recipe.options, recipe.model
        chosen = rank(
            candidates, top=options.top, strategy=options.strategy, exclusion=options.exclusion, seed=options.seed
        )
        exporter = PatchExporter(
            self.slide,
            self.grid,
            self.segmentation,
            self.uncertainty,
            PackageWriter(
                folder=self.folder,
                slide=self.record,
                model=recipe.model_record,
                uncertainty=recipe.uncertainty_record,
                labels=model.labels,
                tumour_label=model.tumour_label,
                grid=self.grid,
            ),
        )
        with ThreadPoolExecutor(_EXPORT_THREADS) as pool:
            exported = list(pool.map(exporter.export, chosen, itertools.count(1)))
        patches = [
            patch.model_copy(update={"folder": package.relative_to(self.folder).as_posix()})
            for package, patch in exported
        ]
        ranked = RankedPatches(
            slide=self.record,
            model=recipe.model_record,
            uncertainty=recipe.uncertainty_record,
            patch_size_px=options.patch_px,
            spacing_um=self.grid.spacing_um,
            patches=tuple(patches),
        )
        write_json(self.folder / self.source.layout.ranked_patches, ranked)
        write_json(self.folder / self.source.layout.boxes, to_boxes(ranked))
        return [package for package, _ in exported]


@dataclass(frozen=True)
class PatchExporter:
    """Writes annotation packages of one slide from the slide and its written maps."""

    slide: Slide
    grid: Grid
    segmentation: Path
    uncertainty: Path
    writer: PackageWriter

    def export(self, candidate: Candidate, number: int) -> tuple[Path, RankedPatch]:
        """Writes the package of one candidate; returns its folder and its entry in the ranked list."""
        region = candidate.region
        image = self.slide.read(self.grid, region)
        patch = RankedPatch.of(candidate, rank=number, grid=self.grid, image_sha256=image_sha256(image))
        with MapReader(self.segmentation) as labels, MapReader(self.uncertainty) as uncertainty:
            package = self.writer.write(
                patch, region, image=image, prediction=labels.read(region), uncertainty=uncertainty.read(region)
            )
        return package, patch


def _check_owner(folder: Path, slide: InputRecord) -> None:
    """Results of this slide may be made anew, those of another one are somebody's, whatever its name."""
    manifest = read_manifest(folder)
    if manifest is None or (manifest.input.id, manifest.input.quickhash) == (slide.id, slide.quickhash):
        return
    held = manifest.input.file if manifest.input.file != slide.file else f"another slide named {slide.file}"
    msg = (
        f"{folder} holds the results of {held}; name another output folder for {slide.file} with --output, "
        "or remove that folder."
    )
    raise UserError(msg)


def _size_bytes(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in (instances(path) if path.is_dir() else [path]))
    except OSError as error:
        msg = f"{path.name} cannot be read ({error.strerror}); check its permissions."
        raise SlideError(msg) from error
