"""The JSON records UGA writes about its results; field names are part of the public contract."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, model_validator

from uga.geometry import Grid, Level0Point, SpacingUm
from uga.model.card import RESEARCH_USE

if TYPE_CHECKING:
    from uga.ranking import Candidate

SCHEMA_VERSION: Final = "1.0"
NOT_JUDGED = 255
"""Value of pixels of a correction that the clinician did not judge."""


def _rounded(digits: int) -> PlainSerializer:
    return PlainSerializer(lambda value: round(value, digits), return_type=float, when_used="json")


# Scores are float32 sums and means: nine significant digits give them back exactly.
Score = Annotated[float, PlainSerializer(lambda v: float(f"{v:.9g}"), return_type=float, when_used="json")]
Fraction = Annotated[float, Field(ge=0, le=1), _rounded(6)]
Micrometres = Annotated[float, _rounded(4)]
Seconds = Annotated[float, Field(ge=0), _rounded(3)]
Pixels = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and not _is_absolute(path) and "\\" not in path and ".." not in pure.parts


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


class Record(BaseModel):
    """Base of all records: immutable, unknown fields and NaN refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SlideRecord(Record):
    """A slide: size in level-0 pixels, ``mpp`` in um per level-0 pixel.

    ``bounds_x`` and ``bounds_y``: level-0 corner of what was scanned, from which QuPath counts, where it is not (0, 0).
    """

    id: str = Field(min_length=1)
    file: str
    width: Pixels
    height: Pixels
    mpp_x: Annotated[float, Field(gt=0)]
    mpp_y: Annotated[float, Field(gt=0)]
    quickhash: str
    centre: str | None = None
    bounds_x: Pixels | None = None
    bounds_y: Pixels | None = None

    def grid(self, spacing_um: float) -> Grid:
        """The working grid of ``spacing_um`` over the slide."""
        bounds = Level0Point(self.bounds_x or 0, self.bounds_y or 0)
        return Grid.over(self.width, self.height, SpacingUm(self.mpp_x, self.mpp_y), spacing_um, bounds)

    @model_validator(mode="after")
    def _names_a_file_only(self) -> Self:
        if _is_absolute(self.file):
            raise ValueError(f"file must be a name, not the path {self.file!r}")
        return self


class ModelRecord(Record):
    """The model that made a result; ``sha256`` identifies what determines its predictions."""

    name: str
    sha256: Sha256
    folds: tuple[int, ...]


class UncertaintyRecord(Record):
    """What the scores measure; ``full_scale`` is the value that the 8-bit maps show as 255."""

    measure: str
    unit: Literal["nats", "1"] = "nats"
    aggregation: str = "mean"
    full_scale: Annotated[float, Field(gt=0)] = 4.0


class RankedPatch(Record):
    """One patch of the list.

    ``x``, ``y``, ``width``, ``height`` are level-0 pixels, ``x``, ``y`` the top-left corner; ``x_um``, ``y_um`` the
    same corner on the working grid, in um from the slide's corner. ``image_sha256`` is the SHA-256 of the raw RGB
    bytes of the patch, row by row. ``slide_id`` and ``folder`` (of its annotation package, relative to the list) are
    there where they are needed: in a list over several slides, and if packages were written.
    """

    rank: Annotated[int, Field(ge=1)]
    slide_id: str | None = None
    x: int
    y: int
    width: Pixels
    height: Pixels
    x_um: Micrometres
    y_um: Micrometres
    size_um: Micrometres
    score_mean: Score
    score_sum: Score
    tissue_fraction: Fraction
    tumor_fraction: Fraction
    excluded_black_fraction: Fraction
    excluded_white_fraction: Fraction
    image_sha256: Sha256
    folder: str | None = None

    @classmethod
    def of(cls, candidate: Candidate, *, rank: int, grid: Grid, image_sha256: str) -> RankedPatch:
        """The record of a ranked candidate; ``grid`` is the working grid of its slide."""
        level0 = grid.region_to_level0(candidate.region)
        return cls(
            rank=rank,
            x=level0.x,
            y=level0.y,
            width=level0.width,
            height=level0.height,
            x_um=candidate.x * grid.spacing_um,
            y_um=candidate.y * grid.spacing_um,
            size_um=candidate.size * grid.spacing_um,
            score_mean=candidate.score_mean,
            score_sum=candidate.score_sum,
            tissue_fraction=candidate.tissue_fraction,
            tumor_fraction=candidate.tumour_fraction,
            excluded_black_fraction=candidate.black_fraction,
            excluded_white_fraction=candidate.white_fraction,
            image_sha256=image_sha256,
        )


class RankedPatches(Record):
    """``ranked-patches.json``: of one slide (``slide``), or of several (``slides``; each patch has a ``slide_id``)."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    slide: SlideRecord | None = None
    slides: tuple[SlideRecord, ...] | None = None
    model: ModelRecord
    uncertainty: UncertaintyRecord
    patch_size_px: Pixels
    spacing_um: Annotated[float, Field(gt=0)]
    patches: tuple[RankedPatch, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.slide is None) == (self.slides is None):
            raise ValueError("either slide or slides must be given")
        if [patch.rank for patch in self.patches] != list(range(1, len(self.patches) + 1)):
            raise ValueError("patches must be ranked 1, 2, 3, ...")
        known = {slide.id for slide in self.slides} if self.slides is not None else {None, self.all_slides[0].id}
        if unknown := {patch.slide_id for patch in self.patches} - known:
            raise ValueError(f"patches are of slides that are not listed: {unknown}")
        return self

    @property
    def all_slides(self) -> tuple[SlideRecord, ...]:
        """The slides, one or several."""
        return self.slides if self.slides is not None else (self.slide,) if self.slide is not None else ()


class PackageFile(Record):
    """A file of an annotation package as it was written, so that a change shows."""

    name: str
    sha256: Sha256


class PackageFiles(Record):
    """The files of an annotation package; the clinician adds ``correction`` or changes ``annotation``."""

    image: PackageFile
    prediction: PackageFile
    uncertainty: PackageFile
    annotation: PackageFile
    correction: str = "correction.png"


class Review(Record):
    """What a reviewer decided about a package, by last word.

    ``started`` is work that was saved but not accepted; ``corrected`` and ``confirmed`` were accepted, the latter with
    the labels as predicted. Nothing is learnt from ``started`` and ``skipped``. ``correction_sha256`` is the hash of
    the ``correction.png`` that was accepted. ``superseded`` are files of other tools, by name, with the hashes they had
    when the reviewer's label map took their place.
    """

    state: Literal["started", "corrected", "confirmed", "skipped"]
    reviewer: str
    at: AwareDatetime
    correction_sha256: Sha256 | None = None
    superseded: dict[str, Sha256] | None = None


class PatchRecord(Record):
    """``patch.json``: all it takes to check later that a correction fits its slide, its place and its model.

    The images cover ``size_px`` x ``size_px`` pixels of the working grid from ``grid_x``, ``grid_y``; a grid pixel is
    ``scale_x`` x ``scale_y`` level-0 pixels. So a point of ``annotation.geojson`` (level-0 pixels) lies at image
    pixel ``point / scale - grid``.
    """

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    slide: SlideRecord
    model: ModelRecord
    uncertainty: UncertaintyRecord
    labels: dict[str, Annotated[int, Field(ge=0, lt=NOT_JUDGED)]]
    tumour_label: str
    not_judged: int = NOT_JUDGED
    spacing_um: Annotated[float, Field(gt=0)]
    size_px: Pixels
    grid_x: int
    grid_y: int
    scale_x: Annotated[float, Field(gt=0)]
    scale_y: Annotated[float, Field(gt=0)]
    patch: RankedPatch
    files: PackageFiles
    review: Review | None = None

    @model_validator(mode="after")
    def _names_its_tumour(self) -> Self:
        if self.tumour_label not in self.labels:
            raise ValueError(f"tumour_label {self.tumour_label!r} is none of the labels")
        return self


class InputRecord(SlideRecord):
    """The slide of a run, with the size of its file (of all its files, if it is a series)."""

    size_bytes: Annotated[int, Field(ge=0)]

    @property
    def slide(self) -> SlideRecord:
        """The slide alone, as lists and packages have it."""
        return SlideRecord(**self.model_dump(exclude={"size_bytes"}))


class RunIdentity(Record):
    """What decides the result of a run; two runs that agree in it write the same files."""

    uga_version: str
    input: InputRecord
    model: ModelRecord
    options: dict[str, JsonValue]

    @model_validator(mode="after")
    def _names_no_host(self) -> Self:
        for name, value in self.options.items():
            if isinstance(value, str) and _is_absolute(value):
                raise ValueError(f"option {name} must not hold the path {value!r}; give a name or a hash")
        return self


class OutputRecord(Record):
    """A file that a run wrote; ``path`` is relative to the manifest, with forward slashes."""

    path: str
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @model_validator(mode="after")
    def _is_inside(self) -> Self:
        if not _inside(self.path):
            raise ValueError(f"path must lie inside the output folder, not at {self.path!r}")
        return self


class ComputationRecord(Record):
    """What computed the networks.

    ``label_agreement`` is the share of pixels of a window of the run's first slide that had the label of fp32 in torch;
    null if that is what computed, or if no slide had tissue.
    """

    device: str
    engine: str
    precision: str
    label_agreement: Fraction | None = None

    def __str__(self) -> str:
        return f"{self.device}, {self.engine} {self.precision}"


class Manifest(RunIdentity):
    """``manifest.json``: written last, so its presence means that the folder is complete."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    notice: str = RESEARCH_USE
    versions: dict[str, str]
    computation: ComputationRecord
    started: AwareDatetime
    finished: AwareDatetime
    timings_s: dict[str, Seconds]
    peak_memory_bytes: Annotated[int, Field(ge=0)]
    outputs: tuple[OutputRecord, ...]
