"""Slides gathered by centre and lesion class, with confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uga.evaluation import statistics as of
from uga.evaluation import uncertainty as certainty
from uga.evaluation.agreement import Agreement, Empty
from uga.evaluation.bootstrap import DEFAULT_RESAMPLING, Estimate, Resampling, bootstrap_interval
from uga.evaluation.records import BinRecord, Evaluation, FailureRecord, GroupRecord, Settings, UncertaintyGroup
from uga.training.cases import LESION_CLASSES
from uga.training.labels import BACKGROUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from uga.evaluation.bootstrap import Floats, Statistic
    from uga.evaluation.slides import PatchEvaluation, SlideEvaluation, SlideFailure
    from uga.evaluation.uncertainty import Bins, Scale
    from uga.training.cases import LesionClass

DEFAULT_SETTINGS = Settings()


def summarise(
    slides: Sequence[SlideEvaluation],
    settings: Settings = DEFAULT_SETTINGS,
    *,
    failures: Sequence[SlideFailure] = (),
) -> Evaluation:
    """Everything that slides of one model say together.

    Args:
        slides: At least one.
        settings: How they were compared, and how figures are to be computed.
        failures: The slides that could not be evaluated.
    """
    first = slides[0]
    return Evaluation(
        model=first.model,
        uncertainty=first.measure,
        spacing_um=first.spacing_um,
        patch_size_px=first.patch_size_px,
        labels=(BACKGROUND, *first.labels),
        settings=settings,
        failures=tuple(FailureRecord(slide=one.slide, message=str(one.error)) for one in failures),
        groups=group_slides(slides, empty=settings.empty, resampling=settings.resampling),
        uncertainty_groups=group_uncertainty(slides, home=settings.home, resampling=settings.resampling),
    )


def group_slides(
    slides: Sequence[SlideEvaluation],
    *,
    empty: Empty = Empty.EXCLUDE,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> tuple[GroupRecord, ...]:
    """All slides, each centre, each lesion class and each class at each centre; for every label."""
    return tuple(_group(part, label, empty, resampling) for part in _parts(slides) for label in part.slides[0].labels)


def group_uncertainty(
    slides: Sequence[SlideEvaluation], *, home: str | None = None, resampling: Resampling = DEFAULT_RESAMPLING
) -> tuple[UncertaintyGroup, ...]:
    """The same groups; with a ``home`` centre, how well scores tell the patches of each other centre from its own."""
    return tuple(_uncertainty(part, _at_home(slides, part, home), resampling) for part in _parts(slides))


def scale_of_map(one: SlideEvaluation) -> Scale:
    """What the grey values of a slide's uncertainty map mean."""
    return certainty.scale_of(one.measure.measure, one.measure.full_scale, 1 + len(one.labels))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the slides, such as those of a centre."""

    slides: Sequence[SlideEvaluation]
    centre: str | None = None
    lesion: LesionClass | None = None

    @property
    def patients(self) -> list[str]:
        return [one.case.patient for one in self.slides]

    @property
    def patches(self) -> list[tuple[int, PatchEvaluation]]:
        """Ranked patches, each with the index of its slide."""
        return [(index, patch) for index, one in enumerate(self.slides) for patch in one.ranked_patches]

    def estimates(self, statistics: Mapping[str, Statistic], resampling: Resampling) -> dict[str, Estimate]:
        return {name: bootstrap_interval(each, self.patients, resampling) for name, each in statistics.items()}


def _parts(slides: Sequence[SlideEvaluation]) -> Iterator[_Part]:
    centres = sorted({one.case.centre for one in slides})
    lesions = [lesion for lesion in LESION_CLASSES if any(one.case.lesion == lesion for one in slides)]
    for centre in (None, *centres):
        for lesion in (None, *lesions):
            members = [one for one in slides if centre in (None, one.case.centre) and lesion in (None, one.case.lesion)]
            if members:
                yield _Part(members, centre, lesion)


def _at_home(slides: Sequence[SlideEvaluation], part: _Part, home: str | None) -> list[SlideEvaluation]:
    """The home centre's slides of the same lesion class, to compare another centre with."""
    if home is None or part.centre in (None, home):
        return []
    return [one for one in slides if one.case.centre == home and part.lesion in (None, one.case.lesion)]


def _group(part: _Part, label: str, empty: Empty, resampling: Resampling) -> GroupRecord:
    slides, patches = part.slides, part.patches
    agreements = [one.labels[label] for one in slides]
    false_positives = [agreement.false_positive for agreement in agreements]
    dices = [agreement.dice_by(empty) for agreement in agreements]
    surfaces = [one.surfaces.get(label) for one in slides]
    with_dice = _with_value(patches, lambda patch: patch.labels[label].dice_by(empty) if patch.judged_px else None)
    statistics = {
        "dice": of.pooled_dice(agreements, empty),
        "dice_mean": of.mean_of(dices),
        "patch_dice_mean": of.patch_mean(with_dice.owner, with_dice.values, len(slides)),
        "patch_score_mean": of.patch_mean(*_owners_and_scores(patches), len(slides)),
        "patch_spearman": with_dice.correlation(len(slides), sign=-1),
        "false_positive_mm2_mean": of.mean_of([slides[0].mm2(pixels) for pixels in false_positives]),
        "false_positive_share": of.ratio_of(false_positives, [one.tissue_px for one in slides]),
        "nsd_mean": of.mean_of([one.nsd if one else None for one in surfaces]),
        "hd95_median_um": of.median_of([one.hd95_um if one else None for one in surfaces]),
        "distance_median_um": of.median_of([one.mean_um if one else None for one in surfaces]),
    }
    pooled = Agreement.pooled(agreements)
    return GroupRecord(
        centre=part.centre,
        lesion=part.lesion,
        label=label,
        slides=len(slides),
        patients=len(set(part.patients)),
        true_positive=pooled.true_positive,
        false_positive=pooled.false_positive,
        false_negative=pooled.false_negative,
        slides_with_dice=sum(dice is not None for dice in dices),
        patches=len(patches),
        patches_with_dice=len(with_dice.owner),
        missed_outside_tissue=sum(one.missed_outside_tissue[label] for one in slides),
        slides_with_outlines=sum(one is not None and one.hd95_um is not None for one in surfaces),
        **_fields(part.estimates(statistics, resampling)),
    )


def _uncertainty(part: _Part, at_home: Sequence[SlideEvaluation], resampling: Resampling) -> UncertaintyGroup:
    slides = part.slides
    errors = [one.errors for one in slides]
    bins = [certainty.binned(each, scale_of_map(slides[0])) for each in errors]
    statistics = {
        "error_rate": of.histogram_figure(errors, certainty.error_rate),
        "error_auroc": of.histogram_figure(errors, certainty.error_auroc),
        "aurc": of.histogram_figure(errors, certainty.risk_area),
        "excess_aurc": of.histogram_figure(errors, certainty.excess_risk_area),
        "calibration_error": of.bins_figure(bins, certainty.calibration_error),
        "average_calibration_error": of.bins_figure(bins, certainty.average_calibration_error),
        "uce": of.bins_figure(bins, certainty.normalised_calibration_error),
    }
    judged = _with_value(part.patches, lambda patch: patch.error_rate)
    statistics["patch_error_spearman"] = judged.correlation(len(slides))
    return UncertaintyGroup(
        centre=part.centre,
        lesion=part.lesion,
        slides=len(slides),
        patients=len(set(part.patients)),
        pixels=sum(one.tissue_px for one in slides),
        patches=len(part.patches),
        bins=_bins(bins),
        **_fields(part.estimates(statistics, resampling) | _shift(part, at_home, resampling)),
    )


def _shift(part: _Part, at_home: Sequence[SlideEvaluation], resampling: Resampling) -> dict[str, Estimate]:
    both = _Part([*part.slides, *at_home])
    owner, scores = _owners_and_scores(both.patches)
    away = [index < len(part.slides) for index in owner]
    return both.estimates({"shift_auroc": of.patch_separation(owner, scores, away, len(both.slides))}, resampling)


@dataclass(frozen=True, slots=True)
class _PatchValues:
    """Patches that have a value: index of the slide, score, value."""

    owner: Sequence[int]
    scores: Sequence[float]
    values: Sequence[float]

    def correlation(self, slides: int, sign: int = 1) -> Statistic:
        """Of the scores with the values, or with what they fall short of."""
        return of.patch_spearman(self.owner, self.scores, [sign * value for value in self.values], slides)


def _with_value(
    patches: Sequence[tuple[int, PatchEvaluation]], value_of: Callable[[PatchEvaluation], float | None]
) -> _PatchValues:
    found = [
        (index, patch.candidate.score_mean, value) for index, patch in patches if (value := value_of(patch)) is not None
    ]
    return _PatchValues([index for index, _, _ in found], [score for _, score, _ in found], [v for _, _, v in found])


def _owners_and_scores(patches: Sequence[tuple[int, PatchEvaluation]]) -> tuple[list[int], list[float]]:
    return [index for index, _ in patches], [patch.candidate.score_mean for _, patch in patches]


def _bins(slides: Sequence[Bins]) -> tuple[BinRecord, ...]:
    together = certainty.Bins(*(np.sum(sums, axis=0) for sums in zip(*slides, strict=True)))
    means = (_means(sums, together.pixels) for sums in (together.uncertainty, together.expected, together.wrong))
    return tuple(
        BinRecord(pixels=int(pixels), uncertainty=uncertainty, expected_error=expected, error_rate=rate)
        for pixels, uncertainty, expected, rate in zip(together.pixels, *means, strict=True)
    )


def _means(sums: Floats, pixels: Floats) -> list[float | None]:
    return [
        None if count == 0 or np.isnan(total) else total / count
        for total, count in zip(sums.tolist(), pixels.tolist(), strict=True)
    ]


def _fields(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Figures by name, and the intervals of those that exist."""
    intervals = {name: one.interval for name, one in estimates.items() if one.value is not None}
    return {name: one.value for name, one in estimates.items()} | {"intervals": intervals}
