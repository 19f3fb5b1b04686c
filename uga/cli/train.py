"""``uga train``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

log = logging.getLogger(__name__)

_DATA, _PRESET, _COMPUTE, _MODEL = "Data", "Training", "Where it runs", "Model card and packs"


def _show_preset(name: str | None) -> None:
    if name is not None:
        from uga.training.presets import preset_text  # noqa: PLC0415 - --help should not wait for numpy

        typer.echo(preset_text(name).rstrip())
        raise typer.Exit


def train(  # noqa: PLR0913 - each parameter is an option of the command
    cohort: Annotated[
        Path, typer.Argument(envvar="UGA_COHORT", help="CSV with one row per slide, or a folder of slides.")
    ],
    *,
    output: Annotated[Path, typer.Option(envvar="UGA_OUTPUT", help="Gets model/ and curves/.")] = Path("/output"),
    work: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_WORK",
            help="Patches and checkpoints; a killed run goes on from there. (default: OUTPUT/work)",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            envvar="UGA_LABELS",
            rich_help_panel=_DATA,
            help="Values of label maps and classes of shapes for each label, in the order of the model's labels, such "
            'as "background=0,normal tumour=1,metastases ignore=2" (default: classes as Camelyon names them; values '
            "of label maps must be given).",
        ),
    ] = None,
    unannotated: Annotated[
        Literal["ignore", "background"],
        typer.Option(
            envvar="UGA_UNANNOTATED",
            rich_help_panel=_DATA,
            help="What area outside all shapes is: not judged, or benign where a slide is annotated exhaustively.",
        ),
    ] = "ignore",
    splits: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_SPLITS",
            rich_help_panel=_DATA,
            help='Own splits of slides, [{"train": [...], "val": [...]}, ...]; a patient on both sides is an error.',
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(envvar="UGA_FOLDS", rich_help_panel=_DATA, help="Folds (default: 5).", min=2)
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            envvar="UGA_PRESET", rich_help_panel=_PRESET, help="paper, pathology, demo, or a JSON file of your own."
        ),
    ] = "pathology",
    show_preset: Annotated[  # noqa: ARG001 - its callback does the work
        str | None,
        typer.Option(
            rich_help_panel=_PRESET,
            help="Print a preset's file to copy and change.",
            callback=_show_preset,
            is_eager=True,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(envvar="UGA_EPOCHS", rich_help_panel=_PRESET, help="Epochs of each fold.", min=1)
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(envvar="UGA_ITERATIONS", rich_help_panel=_PRESET, help="Batches an epoch.", min=1)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_PATIENCE",
            rich_help_panel=_PRESET,
            help="End a fold after so many epochs without a better smoothed pseudo Dice, with its best weights.",
            min=1,
        ),
    ] = None,
    benign_per_tumour: Annotated[
        float | None,
        typer.Option(
            envvar="UGA_BENIGN_PER_TUMOUR",
            rich_help_panel=_PRESET,
            help="Benign patches for each tumour patch; 4 is the paper's 1:4.",
        ),
    ] = None,
    max_tumour_per_slide: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_MAX_TUMOUR_PER_SLIDE", rich_help_panel=_PRESET, help="Most tumour patches of a slide.", min=1
        ),
    ] = None,
    max_benign_per_slide: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_MAX_BENIGN_PER_SLIDE", rich_help_panel=_PRESET, help="Most benign patches of a slide.", min=1
        ),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(envvar="UGA_SPACING", rich_help_panel=_PRESET, help="Spacing in um/px.", min=0.05, max=20),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(envvar="UGA_SEED", rich_help_panel=_PRESET, help="Of patches, splits and training.", min=0),
    ] = None,
    devices: Annotated[
        str,
        typer.Option(
            envvar="UGA_DEVICES",
            rich_help_panel=_COMPUTE,
            help="auto (the first GPU, else the CPU), cpu, cuda, or GPUs that share the folds: cuda:0,cuda:1.",
        ),
    ] = "auto",
    parallel: Annotated[
        int,
        typer.Option(
            envvar="UGA_PARALLEL", rich_help_panel=_COMPUTE, help="Folds at the same time on each device.", min=1
        ),
    ] = 1,
    ddp: Annotated[
        int,
        typer.Option(
            envvar="UGA_DDP",
            rich_help_panel=_COMPUTE,
            help="GPUs that train one fold together, as nnU-Net does.",
            min=1,
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_THREADS",
            rich_help_panel=_COMPUTE,
            help="Threads of a network on a CPU (default: all cores).",
            min=1,
        ),
    ] = None,
    augmentation_processes: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_AUGMENTATION_PROCESSES",
            rich_help_panel=_COMPUTE,
            help="Processes that augment for each fold in training; with 0 the weights are reproducible (default: 0 "
            "on a CPU, up to 12 on a GPU).",
            min=0,
        ),
    ] = None,
    replay_patches: Annotated[
        int,
        typer.Option(
            envvar="UGA_REPLAY_PATCHES",
            rich_help_panel=_MODEL,
            help="Training patches to pack into the model, for later fine-tuning; a few hundred do.",
            min=0,
        ),
    ] = 0,
    holdout_patches: Annotated[
        int,
        typer.Option(
            envvar="UGA_HOLDOUT_PATCHES",
            rich_help_panel=_MODEL,
            help="Patches of held-out slides to pack into the model, to measure what fine-tuning costs.",
            min=0,
        ),
    ] = 0,
    weights: Annotated[
        Literal["float32", "float16"],
        typer.Option(
            envvar="UGA_WEIGHTS",
            rich_help_panel=_MODEL,
            help="How the model stores its kernels; float16 rounds them and halves the model.",
        ),
    ] = "float32",
    name: Annotated[
        str, typer.Option(envvar="UGA_NAME", rich_help_panel=_MODEL, help="Name of the model.")
    ] = "uga-model",
    description: Annotated[
        str, typer.Option(envvar="UGA_DESCRIPTION", rich_help_panel=_MODEL, help="What the model is.")
    ] = "",
    intended_use: Annotated[
        str | None,
        typer.Option(envvar="UGA_INTENDED_USE", rich_help_panel=_MODEL, help="What it is for (default: research use)."),
    ] = None,
) -> None:
    """Train an ensemble on slides with annotations: OUTPUT/model is a model folder for every other command.

    COHORT as a CSV, paths relative to it: slide, annotation; and, where known, centre, patient, class (negative, itc,
    micro, macro), split (train or holdout), unannotated (ignore or background), tissue (a mask). An annotation is a
    label map (TIFF), ASAP XML or GeoJSON over the whole slide. A slide of class negative needs none.

    COHORT as a folder: the annotation of a slide has its name and ends in .xml, .geojson, .json or _mask.tif, beside it
    or in a folder annotations or masks beside it. A folder around a slide that is named after a class gives its class,
    the innermost other one its centre: COHORT/hospital-a/negative/slide-1.svs. Each slide counts as a patient; where
    patients have several, use a CSV.

    A run that was killed goes on from its last checkpoint when it is started again. Research use only.
    """
    # Imported late: these pull in torch, which --help should not wait for.
    from uga.training.labels import DEFAULT_MAPPING, LabelMapping  # noqa: PLC0415
    from uga.training.presets import load_preset  # noqa: PLC0415
    from uga.training.run import ComputeOptions, TrainingRequest  # noqa: PLC0415
    from uga.training.run import train as run_training  # noqa: PLC0415
    from uga.training.workers import resolve_devices  # noqa: PLC0415

    chosen = load_preset(preset)
    chosen = chosen.with_notes(
        spacing_um=spacing if spacing is not None else chosen.notes.spacing_um,
        sampling=chosen.notes.sampling.model_copy(
            update=_given(
                benign_per_tumour=benign_per_tumour,
                max_tumour_per_slide=max_tumour_per_slide,
                max_benign_per_slide=max_benign_per_slide,
                seed=seed,
            )
        ),
        training=chosen.notes.training.model_copy(
            update=_given(epochs=epochs, iterations_per_epoch=iterations, patience=patience, seed=seed)
        ),
    )
    compute = ComputeOptions(
        devices=resolve_devices(devices),
        parallel=parallel,
        devices_per_fold=ddp,
        threads=threads,
        augmentation_processes=augmentation_processes,
    )
    request = TrainingRequest(
        cohort=cohort,
        output=output,
        work=work or output / "work",
        preset=chosen,
        mapping=LabelMapping.parse(labels) if labels is not None else DEFAULT_MAPPING,
        unannotated=unannotated,
        folds=folds,
        splits=splits,
        replay_patches=replay_patches,
        holdout_patches=holdout_patches,
        weights=weights,
        name=name,
        description=description,
        intended_use=intended_use,
    )
    model = run_training(request, compute)
    log.info("%s holds %s, %d folds, sha256 %s", model.path, model.name, len(model.folds), model.sha256)
    log.info("Curves are in %s; the work folder %s may go.", output / "curves", request.work)


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in options.items() if value is not None}
