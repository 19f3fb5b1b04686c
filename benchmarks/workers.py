"""What the benchmarks run in processes of their own: ``python -m benchmarks.workers NAME ARGUMENT...``.

Each prints one JSON object as its last line. ``seconds`` in it leaves out the start of Python and the loading of
models; the whole process is timed from outside.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
import torch

from uga.geometry import Grid, SpacingUm
from uga.inference import InferenceSettings, SlideInference
from uga.measures import Measure
from uga.memory import configure_heap, peak_memory_bytes
from uga.model.arithmetic import Arithmetic, find_devices, resolve_arithmetic
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model
from uga.model.network import load_network
from uga.output.tiff import PyramidWriter
from uga.slide import open_slide
from uga.strips import StripReader
from uga.tissue import detect_tissue
from uga.tissue_file import read_tissue_mask
from uga.windows import WindowPlan


def passes(model_folder: str, engine: str, precision: str, windows: str) -> dict[str, Any]:
    """Nothing but forward passes: so many windows through all folds, as the pipeline would batch them on a CPU."""
    configure_heap()  # as the commands do
    ensemble = _ensemble(model_folder, engine, precision)
    batch = torch.rand(1, 3, *ensemble.model.window_px)
    with torch.inference_mode(), ensemble.beside():
        ensemble.logits(batch)
        start = time.perf_counter()
        for _ in range(int(windows)):
            ensemble.logits(batch)
        return {"seconds": time.perf_counter() - start}


def bands(model_folder: str, engine: str, precision: str, slide_file: str, mirroring: str) -> dict[str, Any]:
    """Our maps of a slide of pure tissue: reading, windows, blending, labels, uncertainty; saves the labels."""
    configure_heap()  # as the commands do
    ensemble = _ensemble(model_folder, engine, precision, mirroring=mirroring == "yes")
    path = Path(slide_file)
    with open_slide(path) as slide:
        grid = slide.grid(1.0)
        tissue = read_tissue_mask(path.with_name(f"{path.stem}_tissue.png"), slide, grid)
        settings = InferenceSettings(measure=Measure.SOFT_CROSS_ENTROPY)
        inference = SlideInference(slide, grid, tissue, ensemble, None, settings)
        start = time.perf_counter()
        labels = np.concatenate([rows.labels for band in inference.bands() for rows in band.parts()])
        seconds = time.perf_counter() - start
    np.save(path.with_name(f"labels-{engine}-{precision}-{mirroring}-{Path(model_folder).name}.npy"), labels)
    return {"seconds": seconds, "windows": inference.window_count}


def nnunet(model_folder: str, slide_file: str, mirroring: str) -> dict[str, Any]:
    """nnU-Net's own predictor on the same pixels: preprocessing, windows, mean of the folds' logits, labels."""
    predictor, image = _predictor(model_folder, slide_file, mirroring)
    start = time.perf_counter()
    labels = predictor.predict_single_npy_array(image, _PROPERTIES)
    seconds = time.perf_counter() - start
    np.save(Path(slide_file).with_name(f"labels-nnunet-{mirroring}-{Path(model_folder).name}.npy"), labels[0])
    return {"seconds": seconds}


def nnunet_folds(model_folder: str, slide_file: str, mirroring: str) -> dict[str, Any]:
    """nnU-Net's own predictor fold by fold, and the mean of the probabilities, as ``nnUNetv2_ensemble`` takes it."""
    predictor, image = _predictor(model_folder, slide_file, mirroring)
    total = 0
    for weights in list(predictor.list_of_parameters):
        predictor.list_of_parameters = [weights]
        _, probabilities = predictor.predict_single_npy_array(image, _PROPERTIES, None, None, True)
        total = total + probabilities
    labels = np.argmax(total, axis=0)[0].astype(np.uint8)
    np.save(Path(slide_file).with_name(f"labels-nnunet-folds-{mirroring}-{Path(model_folder).name}.npy"), labels)
    return {}


_CERTAIN = 0.9
_PROPERTIES = {"spacing": (999.0, 1.0, 1.0)}


def _predictor(model_folder: str, slide_file: str, mirroring: str) -> tuple[Any, Any]:
    """nnU-Net's predictor with all folds, and the pixels of a slide as it wants them."""
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    # It would find the trainer by importing all of them, whatever packages they need.
    predict_from_raw_data.recursive_find_trainer_class_by_name = lambda _: nnUNetTrainer
    on_gpu = torch.cuda.is_available()
    predictor = predict_from_raw_data.nnUNetPredictor(
        use_mirroring=mirroring == "yes",
        device=torch.device("cuda" if on_gpu else "cpu"),
        perform_everything_on_device=on_gpu,
        allow_tqdm=False,
    )
    model = load_model(Path(model_folder))
    predictor.initialize_from_trained_model_folder(str(model.path), model.folds)
    with open_slide(Path(slide_file)) as slide:
        pixels = slide.read(grid := slide.grid(1.0), grid.region)
    return predictor, pixels.transpose(2, 0, 1)[:, None].astype(np.float32)


def infer(slides: str, output: str, model_folder: str, *options: str) -> dict[str, Any]:
    """``uga infer``, counting what it reads of the slide and how often the networks run."""
    from uga.cli.console import execute
    from uga.cli.main import app
    from uga.slide.openslide_reader import OpenSlideReader

    configure_heap()
    counts: Counter[str] = Counter()
    read, logits = OpenSlideReader._read_at, Ensemble.logits
    started = time.perf_counter()

    def counted_read(self: Any, level: int, x: int, y: int, width: int, height: int, *rest: Any) -> Any:
        counts["decoded_px"] += width * height
        return read(self, level, x, y, width, height, *rest)

    def counted_logits(self: Ensemble, batch: torch.Tensor) -> torch.Tensor:
        if not counts["windows"]:
            counts["first_window_ms"] = round(1000 * (time.perf_counter() - started))
        counts["windows"] += len(batch)
        return logits(self, batch)

    OpenSlideReader._read_at = counted_read  # type: ignore[method-assign]
    Ensemble.logits = counted_logits  # type: ignore[method-assign]
    code = execute(app, ["infer", "--input", slides, "--output", output, "--model", model_folder, *options])
    if code:
        raise SystemExit(code)
    manifest = json.loads((Path(output) / "manifest.json").read_text())
    return {**counts, "timings_s": manifest["timings_s"], "computation": manifest["computation"]}


def infer_all(slides: str, output: str, model_folder: str, *options: str) -> dict[str, Any]:
    """``uga infer`` over several slides."""
    from uga.cli.console import execute
    from uga.cli.main import app

    configure_heap()
    if code := execute(app, ["infer", "--input", slides, "--output", output, "--model", model_folder, *options]):
        raise SystemExit(code)
    return {}


def cascade(slides: str, output: str, model_folder: str, share: str, *options: str) -> dict[str, Any]:
    """``uga infer`` with two folds, and all five in windows of which they are certain on too small a share."""
    from uga.cli.console import execute
    from uga.cli.main import app
    from uga.model.openvino_engine import OpenVinoEngine

    configure_heap()
    counts: Counter[str] = Counter()

    def logits(self: OpenVinoEngine, batch: torch.Tensor) -> torch.Tensor:
        requests = self._requests
        self._requests = requests[:2]
        first = whole(self, batch)
        counts["passes"] += 2
        counts["windows"] += 1
        if float((first.softmax(2).mean(0).amax(1) >= _CERTAIN).float().mean()) >= float(share):
            self._requests = requests
            return torch.cat([first, first.mean(0, keepdim=True).expand(len(requests) - 2, -1, -1, -1, -1)])
        self._requests = requests[2:]
        rest = whole(self, batch)
        self._requests = requests
        counts["passes"] += len(requests) - 2
        return torch.cat([first, rest])

    whole, OpenVinoEngine.logits = OpenVinoEngine.logits, logits  # type: ignore[method-assign]
    arguments = ["infer", "--input", slides, "--output", output, "--model", model_folder, *options]
    if code := execute(app, [*arguments, "--engine", "openvino"]):
        raise SystemExit(code)
    return {**counts}


def tissue_px(slide_file: str) -> dict[str, Any]:
    """Tissue of a slide, in pixels of 1 um, and the windows over it."""
    with open_slide(Path(slide_file)) as slide:
        grid = slide.grid(1.0)
        return {"tissue_px": int(detect_tissue(slide, grid).expand(grid.region).sum())}


def export_torchscript(model_folder: str, target: str) -> dict[str, Any]:
    """The mean probability of the folds as one traced module, for software that knows no UGA."""
    model = load_model(Path(model_folder))
    networks = torch.nn.ModuleList(load_network(model.plan, model.weights_file(fold)) for fold in model.folds)

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.networks = networks

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.stack([network(batch).softmax(1) for network in self.networks]).mean(0)

    with torch.no_grad():
        traced = torch.jit.trace(Mean().eval(), torch.zeros(1, 3, *model.window_px), check_trace=False)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    traced.save(target)
    return {"window_px": model.window_px[0]}


def read_slide(slide_file: str, how: str) -> dict[str, Any]:
    """Every row of a slide at 1 um/px: by our strips, or by OpenSlide alone in one thread, in tiles of 512 px."""
    path = Path(slide_file)
    with open_slide(path) as slide:
        grid = slide.grid(1.0)
        start = time.perf_counter()
        if how == "strips":
            plan = WindowPlan.over(grid, (512, 512), 0.5)
            strips = StripReader(slide, grid, plan, [grid.region])
            read = sum(pixels.nbytes for strip in strips for _, pixels in strip.pieces)
        else:
            read = _read_plainly(path, grid)
        return {"seconds": time.perf_counter() - start, "mib": read / 2**20}


def _read_plainly(path: Path, grid: Grid) -> int:
    read = 0
    with openslide.OpenSlide(str(path)) as image:
        level = image.get_best_level_for_downsample(grid.scale_x + 1e-3)
        factor = image.level_downsamples[level]
        width, height = image.level_dimensions[level]
        for y in range(0, height, 512):
            for x in range(0, width, 512):
                size = (min(512, width - x), min(512, height - y))
                pixels = np.asarray(image.read_region((round(x * factor), round(y * factor)), level, size))[..., :3]
                read += np.ascontiguousarray(pixels).nbytes
    return read


def write_map(target: str, how: str) -> dict[str, Any]:
    """A label map of 20,480 x 16,384 px with its pyramid: by our writer, or by tifffile, level after level."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 3, (128, 160), np.uint8).repeat(128, 0).repeat(128, 1)
    cells[rng.random(cells.shape) < 0.01] = 1
    path = Path(target)
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    if how == "ours":
        spacing = SpacingUm(1.0, 1.0)
        height, width = cells.shape
        with PyramidWriter(path, width=width, height=height, spacing_um=spacing, kind="labels") as writer:
            for y in range(0, height, 256):
                writer.append(cells[y : y + 256])
    else:
        with tifffile.TiffWriter(path) as tiff:
            level, first = cells, True
            while True:
                tiff.write(level, tile=(512, 512), compression="deflate", subfiletype=0 if first else 1)
                if max(level.shape) <= 512:
                    break
                level, first = np.ascontiguousarray(level[::2, ::2]), False
    return {"seconds": time.perf_counter() - start, "mib": cells.nbytes / 2**20}


def train(model_folder: str, work: str, who: str, iterations: str) -> dict[str, Any]:
    """Iterations of one fold: our fine-tuning, or nnU-Net's own trainer on the same data set, network and batch."""
    from benchmarks.training import iterate

    return iterate(Path(model_folder), Path(work), who, int(iterations))


def _ensemble(folder: str, engine: str, precision: str, *, mirroring: bool = False) -> Ensemble:
    model, device = load_model(Path(folder)), torch.device(find_devices("auto")[0])
    choices: tuple[Arithmetic, ...] = resolve_arithmetic(engine, precision, device)[:1]  # type: ignore[arg-type]
    return Ensemble(model, device=device, choices=choices, mirroring=mirroring)


def main() -> None:
    """Run the worker that the command line names."""
    name, *arguments = sys.argv[1:]
    workers = {
        each.__name__: each
        for each in (
            passes,
            bands,
            nnunet,
            nnunet_folds,
            infer,
            infer_all,
            cascade,
            tissue_px,
            export_torchscript,
            read_slide,
            write_map,
            train,
        )
    }
    said = workers[name](*arguments)
    print(json.dumps({**said, "peak_mib": peak_memory_bytes() / 2**20}))


if __name__ == "__main__":
    main()
