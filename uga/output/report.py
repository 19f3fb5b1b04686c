"""``report.html``: one page without any outside request that shows what was found, where, and by what."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from uga.model.card import RESEARCH_USE
from uga.output import pictures
from uga.output.colours import heat, heat_stops, label_colours
from uga.output.files import write_atomic
from uga.output.histogram import Histogram
from uga.output.package import RECORD_FILE
from uga.output.schema import PatchRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from uga.output.colours import Colour
    from uga.output.schema import ModelRecord, SlideRecord, UncertaintyRecord

REPORT_FILE = "report.html"

_OVERVIEW_PX = 1000
_THUMBNAIL_PX = 240
_PATCH_PX = 420
_SMALLEST_SCORE = 1e-12
_SCRIPT = "report.js"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Provenance:
    """What made the result; ``options``, ``versions`` and ``timings_s`` are shown as they are."""

    model: ModelRecord
    uncertainty: UncertaintyRecord
    labels: Mapping[str, int]
    tumour_label: str
    options: Mapping[str, object]
    versions: Mapping[str, str]
    started: datetime
    timings_s: Mapping[str, float] = field(default_factory=dict)
    device: str = ""

    @property
    def colours(self) -> dict[str, Colour]:
        """The colour of each label in the pictures."""
        return label_colours(self.labels, self.tumour_label)


@dataclass(frozen=True)
class SlideResult:
    """One finished slide.

    ``segmentation`` and ``uncertainty`` are the written pyramids, ``packages`` the annotation packages by rank,
    ``thumbnail`` the whole slide in RGB at any size, ``facts`` lines for the table under the title, such as areas,
    ``scores`` the mean scores of all its patches with tissue, and ``report`` the slide's own page, to which a cohort
    page links.
    """

    slide: SlideRecord
    segmentation: Path
    uncertainty: Path
    packages: Sequence[Path] = ()
    thumbnail: NDArray[np.uint8] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    scores: Sequence[float] = ()
    report: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A slide that could not be processed, and the sentence that says why."""

    slide: str
    message: str


def write_slide_report(path: Path, result: SlideResult, provenance: Provenance) -> None:
    """Write the page of one slide.

    Memory is bounded: of the pyramids only a level of about a thousand pixels is read, patches come one at a time.
    """
    labels = pictures.read_overview(result.segmentation, _OVERVIEW_PX, nearest=True)
    uncertainty = pictures.read_overview(result.uncertainty, _OVERVIEW_PX, nearest=False)
    records = _records(result.packages)
    display_max = pictures.display_max([uncertainty, *_uncertainties(records)])
    tissue = pictures.backdrop(result.thumbnail, labels.shape)
    overviews = [
        ("Prediction", pictures.overlay(tissue, labels, provenance.labels, provenance.colours)),
        ("Uncertainty", heat(uncertainty, display_max)),
    ]
    if result.thumbnail is not None:
        overviews.insert(0, ("Slide", tissue))
    _render(
        path,
        provenance,
        display_max,
        records,
        title=result.slide.id,
        slide=result.slide,
        facts=result.facts,
        scores=result.scores,
        overviews=[(name, pictures.jpeg_uri(picture)) for name, picture in overviews],
    )


def write_cohort_report(
    path: Path,
    results: Sequence[SlideResult],
    provenance: Provenance,
    *,
    packages: Sequence[Path] = (),
    failures: Sequence[Failure] = (),
) -> None:
    """Write the page over several slides: a line and a link per slide, the failures, the best patches of all.

    Args:
        path: The page; slides and packages lie below its folder.
        results: The finished slides; their own packages are only counted.
        provenance: What made the results.
        packages: Packages of the patches ranked over all slides, best first.
        failures: The slides that could not be processed.
    """
    records = _records(packages)
    display_max = pictures.display_max(list(_uncertainties(records)))
    rows = [_row(result, path.parent, provenance) for result in results]
    title = f"{len(results)} slide{'' if len(results) == 1 else 's'}"
    scores = [score for result in results for score in result.scores]
    _render(path, provenance, display_max, records, title=title, rows=rows, failures=failures, scores=scores)


def _render(
    path: Path,
    provenance: Provenance,
    display_max: int,
    records: Sequence[tuple[Path, PatchRecord]],
    *,
    scores: Sequence[float],
    **content: Any,  # noqa: ANN401 - what the template shows
) -> None:
    defaults: dict[str, Any] = {"slide": None, "facts": {}, "overviews": [], "rows": [], "failures": []}
    ranked = [record.patch.score_mean for _, record in records]
    script = (TEMPLATES / _SCRIPT).read_text("utf-8")
    page = page_template(TEMPLATES, "report.html.j2").render(
        **(defaults | content),
        provenance=provenance,
        notice=RESEARCH_USE,
        unit="" if provenance.uncertainty.unit == "1" else f" {provenance.uncertainty.unit}",
        cards=[
            _card(rank, folder, record, path.parent, provenance, display_max)
            | {"share": 100 * record.patch.score_mean / max(*ranked, *scores, _SMALLEST_SCORE)}
            for rank, (folder, record) in enumerate(records, start=1)
        ],
        histogram=Histogram.of(scores, ranked),
        several_slides=content.get("slide") is None,
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        heat_stops=heat_stops(),
        scale_end=display_max / 255 * provenance.uncertainty.full_scale,
    )
    write_atomic(path, page.encode())


def page_template(folder: Path, name: str) -> jinja2.Template:
    """A page's template; it may include what all pages share, such as ``page.css``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(name)


def _row(result: SlideResult, root: Path, provenance: Provenance) -> dict[str, Any]:
    labels = pictures.read_overview(result.segmentation, _THUMBNAIL_PX, nearest=True)
    tissue = pictures.backdrop(result.thumbnail, labels.shape)
    return {
        "slide": result.slide,
        "facts": result.facts,
        "picture": pictures.jpeg_uri(pictures.overlay(tissue, labels, provenance.labels, provenance.colours)),
        "patches": len(result.packages),
        "link": None if result.report is None else result.report.relative_to(root).as_posix(),
    }


def _card(
    rank: int, folder: Path, record: PatchRecord, root: Path, provenance: Provenance, display_max: int
) -> dict[str, Any]:
    image = pictures.shrink(pictures.read_png(folder / record.files.image.name), _PATCH_PX, nearest=False)
    labels = pictures.shrink(pictures.read_png(folder / record.files.prediction.name), _PATCH_PX, nearest=True)
    uncertainty = pictures.shrink(pictures.read_png(folder / record.files.uncertainty.name), _PATCH_PX, nearest=False)
    outlined = pictures.outlined(image, labels, provenance.labels, provenance.colours)
    return {
        "rank": rank,  # in this page's list; the package knows only its place in the list of its slide
        "patch": record.patch,
        "slide": record.slide,
        "folder": folder.relative_to(root).as_posix(),
        "pictures": [
            ("Tissue", pictures.jpeg_uri(image)),
            ("Prediction", pictures.jpeg_uri(outlined)),
            ("Uncertainty", pictures.jpeg_uri(heat(uncertainty, display_max))),
        ],
    }


def _records(packages: Sequence[Path]) -> list[tuple[Path, PatchRecord]]:
    return [(folder, PatchRecord.model_validate_json((folder / RECORD_FILE).read_bytes())) for folder in packages]


def _uncertainties(records: Sequence[tuple[Path, PatchRecord]]) -> list[NDArray[np.uint8]]:
    """The patches' uncertainty maps, reduced."""
    maps = (pictures.read_png(folder / record.files.uncertainty.name) for folder, record in records)
    return [pictures.shrink(values, _PATCH_PX, nearest=False) for values in maps]
