"""Loss and pseudo Dice of folds as pictures."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Curves = dict[str, list[float | None]]

PICTURE_FILE = "progress.png"
OVERVIEW_FILE = "overview.png"
CURVES_FILE = "curves.json"
CURVES = ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "lrs")
"""What of nnU-Net's log a fold keeps in `CURVES_FILE`, one value an epoch."""


def draw_overview(results: Path, folds: int, target: Path) -> None:
    """Write ``overview.png`` of all folds, and the picture of each as ``fold_<k>.png``.

    Args:
        results: nnU-Net's results folder, all folds trained.
        folds: Number of folds.
        target: Folder for the pictures; made if it is missing.
    """
    target.mkdir(parents=True, exist_ok=True)
    curves = {}
    for fold in range(folds):
        folder = results / f"fold_{fold}"
        shutil.copyfile(folder / PICTURE_FILE, target / f"fold_{fold}.png")
        curves[fold] = json.loads((folder / CURVES_FILE).read_text("utf-8"))
    draw(curves, target / OVERVIEW_FILE)


def draw(curves: Mapping[int, Curves], path: Path) -> None:
    """Write a PNG with the curves of some folds, one colour each."""
    with mpl.rc_context():
        mpl.rcdefaults()  # other users of the library leave their letter sizes behind
        _figure(curves).savefig(path, dpi=120, metadata={"Software": None})


def _figure(curves: Mapping[int, Curves]) -> Figure:
    figure = Figure(figsize=(9, 8), layout="constrained")
    losses, dices = figure.subplots(2, 1, sharex=True)
    for fold, curve in curves.items():
        epochs = range(1, len(curve["train_losses"]) + 1)
        colour = f"C{fold % 10}"
        losses.plot(epochs, _gaps(curve["train_losses"]), color=colour, label=f"fold {fold}, training")
        losses.plot(epochs, _gaps(curve["val_losses"]), color=colour, linestyle="--", label=f"fold {fold}, validation")
        dices.plot(epochs, _gaps(curve["mean_fg_dice"]), color=colour, alpha=0.3)
        dices.plot(epochs, _gaps(curve["ema_fg_dice"]), color=colour, label=f"fold {fold}, smoothed")
    losses.set_ylabel("loss (Dice + cross-entropy)")
    dices.set_ylabel("pseudo Dice")
    dices.set_xlabel("epoch")
    for axes in (losses, dices):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", ncols=2)
    return figure


def _gaps(values: list[float | None]) -> list[float]:
    """Missing values as NaN, which are not drawn."""
    return [float("nan") if value is None else value for value in values]
