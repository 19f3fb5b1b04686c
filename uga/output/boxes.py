"""``uncertain-patches.json``: the ranked patches as a grand-challenge.org 'Multiple 2D bounding boxes' file.

The platform's schema knows neither rank nor score and forbids other fields: the order of the list and the name
carry the rank, ``probability`` the score. Coordinates are mm from the slide's top-left corner, as in the platform's
pathology challenges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from uga.output.schema import Record

if TYPE_CHECKING:
    from uga.output.schema import RankedPatch, RankedPatches, SlideRecord

_Z_MM = 0.5
_UM_PER_MM = 1000

Point = tuple[float, float, float]


class Version(Record):
    """Version of the platform's format."""

    major: int = 1
    minor: int = 0


class Box(Record):
    """One patch; corners in mm as (right, top), (left, top), (left, bottom), (right, bottom) of increasing y down."""

    name: str
    type: Literal["2D bounding box"] = "2D bounding box"
    corners: tuple[Point, Point, Point, Point]
    probability: Annotated[float, Field(ge=0, le=1)]


class Boxes(Record):
    """The content of ``uncertain-patches.json``."""

    name: str
    type: Literal["Multiple 2D bounding boxes"] = "Multiple 2D bounding boxes"
    boxes: tuple[Box, ...]
    version: Version = Version()


def to_boxes(ranked: RankedPatches) -> Boxes:
    """The list of one slide as bounding boxes.

    ``probability`` is the mean uncertainty of the patch divided by the full scale of the 8-bit map (4 nats for
    entropies), at most 1: 255 times it is the mean grey value of the patch in the uncertainty map.

    Raises:
        ValueError: The list is over several slides, which the format cannot tell apart.
    """
    if ranked.slide is None:
        raise ValueError("uncertain-patches.json can hold the patches of one slide only.")
    slide, scale = ranked.slide, ranked.uncertainty
    return Boxes(
        name=f"Uncertain patches; probability = mean {scale.measure} / {scale.full_scale:g} {scale.unit}",
        boxes=tuple(_box(patch, slide, scale.full_scale) for patch in ranked.patches),
    )


def _box(patch: RankedPatch, slide: SlideRecord, full_scale: float) -> Box:
    left, right = (_mm(x, slide.mpp_x) for x in (patch.x, patch.x + patch.width))
    top, bottom = (_mm(y, slide.mpp_y) for y in (patch.y, patch.y + patch.height))
    return Box(
        name=f"rank {patch.rank}: x {patch.x}, y {patch.y}, mean uncertainty {patch.score_mean:.4f}",
        corners=((right, bottom, _Z_MM), (left, bottom, _Z_MM), (left, top, _Z_MM), (right, top, _Z_MM)),
        probability=round(min(1.0, max(0.0, patch.score_mean / full_scale)), 6),
    )


def _mm(pixels: int, mpp: float) -> float:
    return round(pixels * mpp / _UM_PER_MM, 7)
