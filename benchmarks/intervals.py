"""How often the confidence intervals of `uga evaluate` hold the truth: ``python -m benchmarks.intervals``.

Cohorts are drawn from a known population: patients with one to three slides, lesions whose size is log-normal (so a few
slides hold most tumour), Dice that a patient's slides have in common, and a second method that is better by what each
patient has of its own. For each cohort the interval of the pooled Dice, the mean Dice and the paired difference of the
pooled Dice is made by plain percentiles, by BCa (scipy's, patients drawn) and by what UGA uses. About ten minutes.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from uga.evaluation.agreement import Agreement
from uga.evaluation.bootstrap import Resampling, Statistic, bootstrap_interval
from uga.evaluation.statistics import mean_of, pooled_dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METHODS = ("percentile", "BCa", "UGA")
_FIGURES = ("pooled Dice", "mean Dice", "paired difference")


def draw(rng: np.random.Generator, patients: int) -> tuple[list[str], list[Agreement], list[Agreement]]:
    """Whose slide it is, and its counts by two methods."""
    slides = rng.integers(1, 4, patients)
    names = [f"p{k}" for k in np.repeat(np.arange(patients), slides)]
    of_patient = np.repeat(rng.beta(6, 2, patients), slides)
    first = np.clip(of_patient + rng.normal(0, 0.05, len(names)), 0.01, 0.9)
    gain = np.repeat(rng.normal(0.04, 0.03, patients), slides)
    size = np.exp(rng.normal(11, 1.2, len(names)))
    return names, _counts(first, size), _counts(np.clip(first + gain, 0.01, 1), size)


def _counts(dice: NDArray[np.float64], size: NDArray[np.float64]) -> list[Agreement]:
    """Counts of areas of equal size that overlap as the Dice says."""
    both = dice * size
    return [Agreement(round(b), round(s - b), round(s - b)) for b, s in zip(both, size, strict=True)]


def figures(first: list[Agreement], second: list[Agreement]) -> dict[str, Statistic]:
    """The figures of a cohort."""
    dices = mean_of([one.dice for one in first])
    return dict(zip(_FIGURES, (pooled_dice(first), dices, pooled_dice(second) - pooled_dice(first)), strict=True))


def by_scipy(statistic: Statistic, names: list[str], resamples: int, seed: int, method: str) -> tuple[float, float]:
    """The interval of scipy.stats.bootstrap, patients drawn."""
    known, patient = np.unique(names, return_inverse=True)

    def of_drawn(drawn: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        flat = np.moveaxis(drawn, axis, -1).reshape(-1, drawn.shape[axis])
        times = np.apply_along_axis(np.bincount, 1, flat, minlength=len(known))
        return statistic(times[:, patient].astype(float)).reshape(np.moveaxis(drawn, axis, -1).shape[:-1])

    found = stats.bootstrap(
        (np.arange(len(known)),), of_drawn, n_resamples=resamples, method=method, rng=seed, vectorized=True
    ).confidence_interval
    return float(found.low), float(found.high)


def coverage(patients: int, cohorts: int, resamples: int) -> dict[tuple[str, str], float]:
    """Share of cohorts whose interval holds the truth, by figure and method."""
    names, first, second = draw(np.random.default_rng(99), 200_000)
    truth = {name: one.value for name, one in figures(first, second).items()}
    hits = dict.fromkeys(((figure, method) for figure in _FIGURES for method in _METHODS), 0)
    for seed in range(cohorts):
        names, first, second = draw(np.random.default_rng(seed), patients)
        for name, statistic in figures(first, second).items():
            interval = bootstrap_interval(statistic, names, Resampling(resamples=resamples, seed=seed)).interval
            ends = {"UGA": (interval.low, interval.high)}
            for method in ("percentile", "BCa"):
                ends[method] = by_scipy(statistic, names, resamples, seed, method)
            for method, (low, high) in ends.items():
                hits[name, method] += low <= truth[name] <= high
    return {key: count / cohorts for key, count in hits.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__)
    parser.add_argument("--patients", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    print("| patients | " + " | ".join(f"{figure}: {method}" for figure in _FIGURES for method in _METHODS) + " |")
    print("|" + "---|" * (1 + len(_FIGURES) * len(_METHODS)))
    for patients in options.patients:
        found = coverage(patients, options.cohorts, options.resamples)
        cells = [f"{100 * found[figure, method]:.1f}" for figure in _FIGURES for method in _METHODS]
        print(f"| {patients} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
