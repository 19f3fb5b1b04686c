"""``uga finetune``, and the whole of finetune.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from uga.finetuning.options import TrainingOptions
from uga.model.choices import TrainingPrecisionChoice
from uga.model.lookup import find_model

_DEFAULTS = TrainingOptions()


def finetune(  # noqa: PLR0913 - each parameter is an option of the command
    *,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            envvar=["UGA_INPUT", "HOLOSCAN_INPUT_PATH", "MERCURE_IN_DIR"],
            help="Folder with corrected packages at any depth, and perhaps old patches in replay/.",
        ),
    ] = Path("/input"),
    output: Annotated[
        Path,
        typer.Option(
            envvar=["UGA_OUTPUT", "HOLOSCAN_OUTPUT_PATH", "MERCURE_OUT_DIR"],
            help="Gets model/, model.tar.gz, report.html and report.json.",
        ),
    ] = Path("/output"),
    model: Annotated[
        Path | None,
        typer.Option(
            envvar=["UGA_MODEL", "HOLOSCAN_MODEL_PATH"],
            help="Model folder whose predictions were corrected; never written to.",
            show_default="/opt/ml/model if it holds a model, else the shipped one",
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_REPLAY",
            help="Pack of old training patches, mixed in against forgetting.",
            show_default="replay/ in the input, else the model's own",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(envvar="UGA_DEVICE", help="Where to train; folds are dealt to all visible GPUs."),
    ] = "auto",
    epochs: Annotated[
        int, typer.Option(envvar="UGA_EPOCHS", help="Epochs; a killed run loses at most one per fold.", min=1)
    ] = _DEFAULTS.epochs,
    iterations: Annotated[
        int, typer.Option(envvar="UGA_ITERATIONS", help="Batches in an epoch.", min=1)
    ] = _DEFAULTS.iterations,
    lr: Annotated[
        float, typer.Option(envvar="UGA_LR", help="Learning rate after the warm-up, above 0, below 1.")
    ] = _DEFAULTS.lr,
    mix: Annotated[
        float, typer.Option(envvar="UGA_MIX", help="Share of a batch that is corrections, above 0, at most 1.")
    ] = _DEFAULTS.mix,
    recolour: Annotated[
        float,
        typer.Option(
            envvar="UGA_RECOLOUR",
            help="Share of the old patches that are shown in the colours of a corrected centre; on trial.",
            min=0,
            max=1,
        ),
    ] = _DEFAULTS.recolour,
    variants: Annotated[
        int, typer.Option(envvar="UGA_VARIANTS", help="Flipped and stain-shifted variants of a correction.", min=1)
    ] = _DEFAULTS.variants,
    tolerance: Annotated[
        float, typer.Option(envvar="UGA_TOLERANCE", help="Dice a label may lose on old patches.", min=0, max=1)
    ] = 0.02,
    guard_patches: Annotated[
        int, typer.Option(envvar="UGA_GUARD_PATCHES", help="Old patches to compare on, at most; 0 for all.", min=0)
    ] = 64,
    force: Annotated[
        bool, typer.Option("--force", envvar="UGA_FORCE", help="Release the model whatever it lost on old patches.")
    ] = False,
    seed: Annotated[
        int, typer.Option(envvar="UGA_SEED", help="Same seed, input and device: same weights.", min=0)
    ] = _DEFAULTS.seed,
    precision: Annotated[
        TrainingPrecisionChoice,
        typer.Option(
            envvar="UGA_PRECISION", help="Arithmetic of training on a CPU; auto: bf16 if the processor has it."
        ),
    ] = "auto",
    parallel: Annotated[
        int, typer.Option(envvar="UGA_PARALLEL", help="Folds trained at the same time on each device.", min=1)
    ] = 1,
) -> None:
    """Learn from corrected patches: all folds of the model, fine-tuned on corrections and old patches.

    A correction is what a pathologist saved in a package of `uga infer` (docs/correcting.md). The new ensemble is
    compared with the old one on held-out corrections and on old patches; one that lost too much there is not released.
    A run that was killed goes on where it stopped, if its output folder is still there. Research use only.

    Exit codes: 0 released, 1 not released (report.html says why), 2 bad request, nothing to learn from, too little
    memory or a GPU that failed, 70 a defect of UGA.
    """
    # Imported late: these pull in torch, which --help should not wait for.
    from pydantic import ValidationError  # noqa: PLC0415

    from uga.errors import UserError  # noqa: PLC0415
    from uga.finetuning.run import FinetuningRequest  # noqa: PLC0415
    from uga.finetuning.run import finetune as run  # noqa: PLC0415
    from uga.model.arithmetic import find_devices, resolve_training_precision  # noqa: PLC0415
    from uga.model.card import first_problem  # noqa: PLC0415

    devices = find_devices(device)
    try:
        training = TrainingOptions(
            epochs=epochs,
            iterations=iterations,
            lr=lr,
            mix=mix,
            recolour=recolour,
            variants=variants,
            seed=seed,
            precision=resolve_training_precision(precision, devices),
        )
    except ValidationError as error:
        msg = f"Option --{first_problem(error)}; see --help."
        raise UserError(msg) from error
    run(
        FinetuningRequest(
            input=input_,
            output=output,
            model=find_model(model),
            replay=replay,
            training=training,
            tolerance=tolerance,
            force=force,
            guard_patches=guard_patches,
            devices=devices,
            parallel=parallel,
        )
    )
