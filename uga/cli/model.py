"""``uga model info|verify|import``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, help="Look into, verify or make model folders.")

_ModelPath = Annotated[Path, typer.Argument(help="Model folder.")]


@app.command()
def info(path: _ModelPath) -> None:
    """Print what a model is, as JSON: name, labels, spacing, network, folds, hashes, provenance."""
    from uga.model.folder import model_info  # noqa: PLC0415

    typer.echo(json.dumps(model_info(path), indent=2, ensure_ascii=False))


@app.command()
def verify(path: _ModelPath) -> None:
    """Check every hash and load every fold's weights; exit code 2 if the model is not sound."""
    from uga.model.folder import verify_model  # noqa: PLC0415

    model = verify_model(path)
    log.info("%s is sound: %s, %d folds, sha256 %s", path, model.name, len(model.folds), model.sha256)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder that nnUNetv2_train left (plans.json, dataset.json, fold_*).")],
    target: Annotated[Path, typer.Argument(help="Model folder to make; must not exist.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the model.")],
    tumour_label: Annotated[str, typer.Option(help="Label in dataset.json that means tumour.")],
    spacing: Annotated[float, typer.Option(help="Spacing of the training images in um/px.")] = 1.0,
    checkpoint: Annotated[str, typer.Option(help="File name of the checkpoints.")] = "checkpoint_final.pth",
) -> None:
    """Make a model folder of an nnU-Net v2 result; checkpoints are opened with weights_only and an allowlist."""
    from uga.model.importer import import_model  # noqa: PLC0415

    model = import_model(
        source, target, name=name, tumour_label=tumour_label, spacing_um=spacing, checkpoint=checkpoint
    )
    log.info("%s holds %s, %d folds, sha256 %s", target, model.name, len(model.folds), model.sha256)
