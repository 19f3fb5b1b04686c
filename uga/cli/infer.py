"""``uga infer``, and the whole of process.py."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uga.errors import ExitCode, UserError
from uga.measures import Measure
from uga.memory import lasting
from uga.model.choices import DeviceChoice, EngineChoice, PrecisionChoice
from uga.model.lookup import find_model
from uga.options import PROFILE_HELP, Profile, RunOptions
from uga.ranking import Exclusion, Scope, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from uga.inputs import SlideInput
    from uga.pipeline import Pipeline

log = logging.getLogger(__name__)


def _describe(wanted: bool) -> None:
    if wanted:
        from uga.monai import manifests  # noqa: PLC0415

        typer.echo(json.dumps(manifests("process.py"), indent=2))
        raise typer.Exit


def infer(  # noqa: PLR0913 - each parameter is an option of the command
    *,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            envvar=["UGA_INPUT", "HOLOSCAN_INPUT_PATH", "MERCURE_IN_DIR"],
            help="Folder with slides, a DICOM series or inputs.json.",
        ),
    ] = Path("/input"),
    output: Annotated[
        Path,
        typer.Option(
            envvar=["UGA_OUTPUT", "HOLOSCAN_OUTPUT_PATH", "MERCURE_OUT_DIR"],
            help="Results; finished slides in it are skipped.",
        ),
    ] = Path("/output"),
    model: Annotated[
        Path | None,
        typer.Option(
            envvar=["UGA_MODEL", "HOLOSCAN_MODEL_PATH"],
            help="Model folder.",
            show_default="/opt/ml/model if it holds a model, else the shipped one",
        ),
    ] = None,
    device: Annotated[
        DeviceChoice,
        typer.Option(envvar="UGA_DEVICE", help="Where the networks run; slides are spread over all visible GPUs."),
    ] = "auto",
    engine: Annotated[
        EngineChoice,
        typer.Option(envvar="UGA_ENGINE", help="What runs the networks; auto: OpenVINO on a CPU, if it is installed."),
    ] = "auto",
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            envvar="UGA_PRECISION",
            help="Arithmetic of the networks; auto: the lowest that is faster and gives the labels of fp32.",
        ),
    ] = "auto",
    profile: Annotated[
        Profile,
        typer.Option(envvar="UGA_PROFILE", help=PROFILE_HELP),
    ] = Profile.REFERENCE,
    parallel: Annotated[
        int,
        typer.Option(
            envvar="UGA_PARALLEL", help="Slides at the same time on each GPU, or on the CPU, which they share.", min=1
        ),
    ] = 1,
    spacing: Annotated[
        float | None,
        typer.Option(
            envvar="UGA_SPACING", help="Working spacing in um/px.", min=0.05, max=20, show_default="the model's"
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(envvar="UGA_MPP", help="Pixel size of the slides in um/px, where files lack it or are wrong."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            envvar="UGA_OVERLAP",
            help="Overlap of neighbouring windows, 0 to 0.9.",
            min=0,
            max=0.9,
            show_default="the profile's",
        ),
    ] = None,
    uncertainty: Annotated[
        Measure, typer.Option(envvar="UGA_UNCERTAINTY", help="Measure of the folds' disagreement (docs/method.md).")
    ] = Measure.SOFT_CROSS_ENTROPY,
    top: Annotated[
        int, typer.Option(envvar="UGA_TOP", help="Patches to rank per slide, and in the list over all.", min=0)
    ] = 20,
    patch: Annotated[
        int, typer.Option(envvar="UGA_PATCH", help="Side of a patch in px at the spacing.", min=64)
    ] = 1024,
    stride: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_STRIDE",
            help="Step of patch corners in px; must divide the patch.",
            min=1,
            show_default="the patch",
        ),
    ] = None,
    strategy: Annotated[
        Strategy, typer.Option(envvar="UGA_STRATEGY", help="Order of patches (docs/method.md).")
    ] = Strategy.MEAN,
    exclusion: Annotated[
        Exclusion, typer.Option(envvar="UGA_EXCLUSION", help="Rule that drops black and white patches.")
    ] = Exclusion.PAPER,
    scope: Annotated[
        Scope, typer.Option(envvar="UGA_SCOPE", help="Over what the list of several slides takes its top.")
    ] = Scope.COHORT,
    seed: Annotated[int, typer.Option(envvar="UGA_SEED", help="Seed of the seeded strategies.")] = 0,
    per_slide_cap: Annotated[
        int | None,
        typer.Option(
            envvar="UGA_PER_SLIDE_CAP",
            help="Patches of one slide at most in the list of several slides.",
            min=1,
            show_default="no cap",
        ),
    ] = None,
    extra_scores: Annotated[
        bool,
        typer.Option(
            "--extra-scores",
            envvar="UGA_EXTRA_SCORES",
            help="Keep what every --strategy orders by, so that `uga rank` can compare them.",
        ),
    ] = False,
    sockets: Annotated[
        Path | None,
        typer.Option(
            envvar="UGA_SOCKETS",
            help="sockets.json of a grand-challenge algorithm.",
            show_default="the model folder's, if it has one",
        ),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            envvar="UGA_SERVE",
            help="Keep the model loaded, on the first GPU or the CPU, and run a case per POST to /invoke.",
        ),
    ] = False,
    port: Annotated[int, typer.Option(envvar="UGA_PORT", help="Port of --serve.", min=0, max=65535)] = 4743,
    describe: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--describe",
            help="Print app.json and pkg.json of the MONAI Application Package.",
            callback=_describe,
            is_eager=True,
        ),
    ] = False,
) -> ExitCode:
    """Segment slides, map the ensemble's uncertainty and rank the patches worth correcting.

    Every slide gets a label map and an uncertainty map (pyramidal TIFF), a ranked patch list, a folder per ranked
    patch for annotation, and report.html. Research use only.

    Exit codes: 0 all slides done, 1 some slide failed (failures.json says why), 2 bad request, 70 a defect of UGA.
    """
    # Imported late: these pull in torch, which --help should not wait for.
    with lasting():
        import torch  # noqa: PLC0415

        from uga.cohort import clear_run, run_cohort  # noqa: PLC0415
        from uga.inputs import find_slides  # noqa: PLC0415
        from uga.model.arithmetic import find_devices  # noqa: PLC0415
        from uga.model.ensemble import Ensemble  # noqa: PLC0415
        from uga.model.folder import load_model  # noqa: PLC0415
        from uga.output.files import check_writable  # noqa: PLC0415
        from uga.pipeline import Pipeline  # noqa: PLC0415
        from uga.ranking import check_stride  # noqa: PLC0415
        from uga.recipe import Recipe  # noqa: PLC0415
        from uga.serve.server import serve as serve_cases  # noqa: PLC0415
        from uga.sockets import load_sockets  # noqa: PLC0415
        from uga.spreading import choices_on, run_spread, workers_on  # noqa: PLC0415

    options = RunOptions(
        spacing_um=spacing,
        mpp=mpp,
        engine=engine,
        precision=precision,
        overlap=profile.overlap if overlap is None else overlap,
        mirroring=profile.mirroring,
        uncertainty=uncertainty,
        top=top,
        patch_px=patch,
        stride_px=stride,
        strategy=strategy,
        exclusion=exclusion,
        scope=scope,
        seed=seed,
        per_slide_cap=per_slide_cap,
        extra_scores=extra_scores,
    )
    check_stride(options.patch_px, options.stride)
    if serve and parallel > 1:
        raise UserError("--serve runs one case at a time, on one device; leave out --parallel.")
    if strategy.needs_features:
        raise UserError(f"--strategy {strategy} looks at the patches again; run without it, then use `uga rank`.")

    devices = find_devices(device)
    choices = choices_on(devices[0], options)
    verified = load_model(find_model(model))
    known_sockets = load_sockets(sockets, verified.path)

    def find() -> list[SlideInput]:
        if output.resolve() == input_.resolve():
            raise UserError(f"{output} is both input and output folder; name another one with --output.")
        slides = find_slides(input_, known_sockets, without=[output])
        check_writable(output, "name another with --output")
        log.info("%d slide(s), model %s (%s)", len(slides), verified.name, verified.sha256[:12])
        return slides

    def load() -> Pipeline:
        first = torch.device(devices[0])
        return Pipeline(Ensemble(verified, device=first, choices=choices, mirroring=options.mirroring), options)

    def prepare() -> Callable[[], ExitCode]:
        pipeline = load()
        slides: list[SlideInput] = []

        def case() -> ExitCode:
            clear_run(slides, output)  # whatever becomes of this case, nobody shall find the last one's results
            slides[:] = find()
            return _with_device(_told(run_cohort(slides, output, pipeline), output, slides), pipeline)

        return case

    if serve:
        return serve_cases(port, prepare)
    slides = find()
    if len(slides) > 1 and len(devices) * parallel > 1:
        workers = workers_on(devices, options, parallel=parallel)
        return _told(run_spread(slides, output, Recipe(verified, verified.folds, options), workers), output, slides)
    return _told(run_cohort(slides, output, load()), output, slides)


def _told(code: ExitCode, output: Path, slides: list[SlideInput]) -> ExitCode:
    report = output / "report.html"
    if report.is_file():
        log.info("Open %s", report)
    if code is not ExitCode.OK and len(slides) > 1:
        sys.stderr.write(f"Some slides failed; {output / 'failures.json'} says why, the others are complete.\n")
    return code


def _with_device(code: ExitCode, pipeline: Pipeline) -> ExitCode:
    """The code of a case; after a failed one there must still be a device for the next (else `DeviceError`)."""
    if code is not ExitCode.OK:
        pipeline.ensemble.check_device()
    return code
