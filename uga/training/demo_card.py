"""The model card of the demo ensemble, from virtual slides that it has not seen.

``python -m uga.training.demo_card weights/demo --work DIR`` writes ``docs/model-card-demo.md`` and its picture: the
same tissues at every virtual centre, segmented as `uga infer` does and compared as `uga evaluate` does.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np
import torch

from uga.cli.console import configure_logging
from uga.cohort import run_cohort
from uga.errors import ExitCode, UserError
from uga.evaluation.groups import summarise
from uga.evaluation.slides import evaluate_slides
from uga.evaluation.tables import markdown_table, write_evaluation
from uga.inputs import find_slides
from uga.model.arithmetic import find_devices
from uga.model.card import RESEARCH_USE
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.options import RunOptions
from uga.output.colours import heat, label_colours
from uga.output.finished import finished_slides
from uga.output.pictures import backdrop, outlined, read_overview
from uga.pipeline import Pipeline
from uga.slide import open_slide
from uga.training.cases import read_cohort
from uga.training.demo import TRAINING_CENTRE, holdout_specs
from uga.training.labels import DEMO_MAPPING, TUMOUR
from uga.virtual.centres import CENTRES
from uga.virtual.slide import MANIFEST_NAME, make_cohort
from uga.virtual.spec import LesionClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from uga.evaluation.records import Evaluation
    from uga.model.card import ModelCard
    from uga.model.folder import Model

log = logging.getLogger(__name__)

CARD_NAME = "model-card-demo.md"
_PICTURE = Path("images") / "demo-centres.jpg"
_PICTURE_PX, _PICTURE_QUALITY, _GAP_PX = 300, 82, 6
_PICTURE_LESION = LesionClass.MICRO
_HEAT_MAX = 96


def write_demo_card(model: Model, *, work: Path, docs: Path, seed: int = 0) -> Evaluation:
    """Make the held-out slides, run the ensemble over them and write the card.

    Args:
        model: The demo ensemble.
        work: Slides and results, about 0.5 GB; what is there is kept.
        docs: Where ``model-card-demo.md`` and ``images/demo-centres.jpg`` are written.
        seed: The seed the ensemble was made with.
    """
    slides, results = work / "holdout", work / "holdout-output"
    make_cohort(slides, holdout_specs(seed))
    pipeline = Pipeline(Ensemble(model, device=torch.device(find_devices("auto")[0])), RunOptions(top=1))
    if run_cohort(find_slides(slides), results, pipeline) is not ExitCode.OK:
        raise UserError(f"Not all slides in {slides} could be segmented; {results / 'failures.json'} says why.")
    evaluations = evaluate_slides([results], read_cohort(slides / MANIFEST_NAME), DEMO_MAPPING)
    evaluation = summarise(evaluations)
    write_evaluation(results, evaluation, evaluations)
    (docs / _PICTURE).parent.mkdir(parents=True, exist_ok=True)
    picture = imagecodecs.jpeg8_encode(_picture(slides, results, model), _PICTURE_QUALITY)
    (docs / _PICTURE).write_bytes(picture)
    (docs / CARD_NAME).write_text(_card(model.card, evaluation, len(evaluations)), "utf-8")
    return evaluation


def _picture(slides: Path, results: Path, model: Model) -> NDArray[np.uint8]:
    """One tissue at every centre, a column each: slide, reference, prediction, uncertainty."""
    folder_of = {one.record.file: one for one in finished_slides([results])}
    cohort = [case for case in read_cohort(slides / MANIFEST_NAME) if case.lesion == _PICTURE_LESION.value]
    colours = label_colours(model.labels, model.tumour_label)
    columns = []
    for case in sorted(cohort, key=lambda case: case.centre):
        one = folder_of[case.slide.name]
        assert case.annotation is not None  # noqa: S101 - a virtual slide has its mask
        reference = DEMO_MAPPING.apply(read_overview(case.annotation, _PICTURE_PX, nearest=True), str(case.annotation))
        predicted = read_overview(one.segmentation, _PICTURE_PX, nearest=True)
        uncertainty = read_overview(one.uncertainty, _PICTURE_PX, nearest=False)
        with open_slide(case.slide) as slide:
            tissue = backdrop(slide.thumbnail(_PICTURE_PX), predicted.shape)
        tiles = (
            tissue,
            outlined(tissue, _fitted(reference, predicted.shape), model.labels, colours),
            outlined(tissue, predicted, model.labels, colours),
            heat(uncertainty, _HEAT_MAX),
        )
        columns.append(np.concatenate([_framed(tile) for tile in tiles], axis=0))
    return np.ascontiguousarray(np.concatenate(columns, axis=1))


def _fitted(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    fitted: NDArray[np.uint8] = cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return fitted


def _framed(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = tile.shape[:2]
    below, right = _PICTURE_PX + _GAP_PX - height, _PICTURE_PX + _GAP_PX - width
    return np.pad(tile, ((0, below), (0, right), (0, 0)), constant_values=255)


def _card(card: ModelCard, evaluation: Evaluation, slides: int) -> str:
    home = evaluation.group(TUMOUR, str(TRAINING_CENTRE))
    away = [
        group
        for centre in CENTRES
        if centre != TRAINING_CENTRE and (group := evaluation.group(TUMOUR, str(centre))) is not None
    ]
    assert home is not None  # noqa: S101 - the training centre has held-out slides
    shifted = sum(group.dice or 0.0 for group in away) / len(away)
    training = card.training
    facts = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in training.details.items())
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    centres = "\n".join(f"| {number} | {centre.name} | {centre.spacing_um} |" for number, centre in CENTRES.items())
    return f"""# Model card: {card.name}

{card.description} {RESEARCH_USE}

**Intended use.** {card.intended_use}

Model hash `{evaluation.model.sha256}`. {len(card.folds)} folds, labels {", ".join(card.labels)},
{card.spacing_um} um/px, windows of {card.window_px[0]} px.

## Agreement on slides it has not seen

{slides} virtual slides: the same tissues, stained and scanned at every virtual centre. The ensemble was trained on
centre {TRAINING_CENTRE} alone. Dice of tumour, pooled over pixels; on slides without tumour the pixels wrongly called
tumour. Patch score: mean {evaluation.uncertainty.measure} (nats) of the 1024 px patches that are ranked.

{markdown_table(evaluation, TUMOUR)}

Centre {TRAINING_CENTRE}: {home.dice or 0:.3f}. Mean of the other centres: {shifted:.3f}.

![The same tissue at centres 1 to 5: slide, reference, prediction, uncertainty]({_PICTURE.as_posix()})

From left to right centres 1 to 5 ({_PICTURE_LESION.value}); from top to bottom slide, reference, prediction,
uncertainty (black 0, bright {_HEAT_MAX * 4 / 255:.1f} nats and more).

| centre | stain and scanner | um/px |
|---|---|---|
{centres}

## Training

{training.data} Trainer: {training.trainer}, seed {training.seed}.

| | |
|---|---|
{facts}

Versions: {versions}.

## What it is not

- It has never seen tissue of a patient, and must not be used on any.
- Virtual tissue is simpler than real tissue: Dice here says nothing about Dice on patients' slides.
- Its uncertainty is the disagreement of folds that saw the same centre; it can be low where all folds are wrong alike.

Made by `python -m uga.training.demo weights/demo --work DIR` and
`python -m uga.training.demo_card weights/demo --work DIR`.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m uga.training.demo_card", description=__doc__)
    parser.add_argument("model", type=Path, help="the demo ensemble's folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and results (0.5 GB)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where to write the card (default docs)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the ensemble (default 0)")
    options = parser.parse_args(arguments)
    configure_logging()
    write_demo_card(load_model(options.model), work=options.work, docs=options.docs, seed=options.seed)


if __name__ == "__main__":
    main()
