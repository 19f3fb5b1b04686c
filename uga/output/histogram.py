"""A histogram of patch scores as the report draws it: bars and ticks in the units of its drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 640, 190
_LEFT, _TOP, _BOTTOM = 44, 8, 24
_GAP = 1.5
_MOST_BINS = 32


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of the drawing."""

    kind: Literal["all", "ranked"]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A number below the axis."""

    x: float
    text: str
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Scores of all patches, those of the ranked ones apart, in bins of equal width from 0 to the highest.

    ``left``, ``top`` and ``base`` are where the bars' area begins and where their feet are, ``highest`` the count that
    the tallest stands for.
    """

    count: int
    ranked: int
    maximum: float
    median: float
    highest: int
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    top: int = _TOP
    base: int = _HEIGHT - _BOTTOM

    @classmethod
    def of(cls, scores: Sequence[float], ranked: Sequence[float]) -> Self | None:
        """The histogram of all scores, ``ranked`` being some of them; None if there is none, or nothing but 0."""
        maximum = max(scores, default=0.0)
        if maximum <= 0:
            return None
        edges = np.linspace(0, maximum, min(_MOST_BINS, 4 + len(scores)) + 1)
        total = np.histogram(scores, edges)[0]
        chosen = np.minimum(np.histogram(ranked, edges)[0], total)
        highest = int(total.max())
        step, room = (_WIDTH - _LEFT) / len(total), _HEIGHT - _BOTTOM - _TOP
        bars = []
        for index, (all_, some) in enumerate(zip(total.tolist(), chosen.tolist(), strict=True)):
            foot = float(_HEIGHT - _BOTTOM)
            kinds: tuple[tuple[Literal["all", "ranked"], int], ...] = (("ranked", some), ("all", all_ - some))
            for kind, count in kinds:
                if count:
                    tall = room * count / highest
                    bars.append(Bar(kind, _LEFT + index * step, foot - tall, step - _GAP, tall))
                    foot -= tall
        anchors: tuple[Literal["start", "middle", "end"], ...] = ("start", "middle", "end")
        ticks = tuple(
            Tick(_LEFT + share * (_WIDTH - _LEFT), f"{share * maximum:.3g}", anchor)
            for share, anchor in zip((0, 0.5, 1), anchors, strict=True)
        )
        return cls(len(scores), len(ranked), maximum, float(np.median(scores)), highest, tuple(bars), ticks)
