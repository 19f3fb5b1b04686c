"""A whole experiment in miniature: discs are purple at home and green abroad, and the baseline knows purple ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from finetuning_helpers import PATCH_PX, draw_foreign, trained_parent
from training_helpers import draw_patch

from uga.simulation.config import LoadedConfig, load_config
from uga.simulation.run import SimulationRequest
from uga.simulation.workers import Compute

GLASS, BENIGN, TUMOUR = 0, 1, 2
ROWS = COLUMNS = 3

CONFIG = """
name = "tiny"
title = "Discs"

[data]
source = "cohort"
query = "query.csv"
test = "test.csv"
labels = "background=0,1 tumour=2"
home = ["home"]

[baseline]
model = "{model}"

[query]
patch_px = 64
{query}

[grid]
strategies = {strategies}
budgets = {budgets}
seeds = {seeds}

[finetuning]
epochs = 3
iterations = 8
lr = 5e-3
variants = 10
guard_patches = 2
precision = "fp32"

[inference]
engine = "torch"
precision = "fp32"

[evaluation]
resamples = 200
compare_with = "{compare}"
"""


def write_slides(folder: Path) -> None:
    """Query and test slides of both centres, with cohort files; slides that hold no disc are negative."""
    for part, first_seed in (("query", 100), ("test", 200)):
        lines = ["slide,annotation,centre,patient,class"]
        for number, (centre, discs) in enumerate(
            (centre, discs) for centre in ("home", "abroad") for discs in (True, False)
        ):
            name = f"{part}-{centre}-{number}"
            write_slide(folder / f"{name}.tif", folder / "masks" / f"{name}.tif", centre, first_seed + number, discs)
            lesion = "micro" if discs else "negative"
            lines.append(f"{name}.tif,masks/{name}.tif,{centre},{name},{lesion}")
        (folder / f"{part}.csv").write_text("\n".join(lines))


def write_slide(path: Path, mask: Path, centre: str, seed: int, discs: bool) -> None:
    """Patches of 64 px side by side right of a strip of glass; every other one holds a disc, if any does."""
    rng = np.random.default_rng(seed)
    rows, references = [], []
    for y in range(ROWS):
        pictures, labels = [np.full((PATCH_PX, PATCH_PX, 3), 245, np.uint8)], [np.zeros((PATCH_PX, PATCH_PX), np.uint8)]
        for x in range(COLUMNS):
            has_disc = discs and (x + y) % 2 == 0
            if has_disc and centre == "abroad":
                picture, label = draw_foreign(rng)
            else:
                picture, label = draw_patch(rng, PATCH_PX, tumour=has_disc)
            pictures.append(picture)
            labels.append(label + BENIGN)
        rows.append(np.concatenate(pictures, axis=1))
        references.append(np.concatenate(labels, axis=1))
    _write(path, np.concatenate(rows))
    _write(mask, np.concatenate(references))


def write_config(folder: Path, **changes: object) -> Path:
    """A configuration beside the slides, compared with the last strategy; what is not said is the least there is."""
    values: dict[str, object] = {"strategies": ["mean"], "budgets": [2], "seeds": [0], "query": ""} | changes
    path = folder / "config.toml"
    text = CONFIG.format(model=trained_parent().path, compare=values["strategies"][-1], **values)  # type: ignore[index]
    path.write_text(text.replace("'", '"'))
    return path


def write_experiment(folder: Path, **changes: object) -> Path:
    """Slides and configuration."""
    write_slides(folder)
    return write_config(folder, **changes)


def request(config: Path | LoadedConfig, output: Path, **changes: object) -> SimulationRequest:
    """What `uga simulate` would be asked for."""
    loaded = load_config(str(config)) if isinstance(config, Path) else config
    compute = changes.pop("compute", Compute(threads=1))
    return SimulationRequest(loaded=loaded, output=output, compute=compute, **changes)  # type: ignore[arg-type]


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        pixels,
        tile=(64, 64),
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        resolution=(1e4, 1e4),
        resolutionunit="CENTIMETER",
    )
