"""The benchmarks that compare UGA with bare forward passes, with nnU-Net's predictor and with TIAToolbox."""

from __future__ import annotations

import shutil
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.material import DEMO, LARGE, MEDIUM, model_folder, sections, square, virtual_slide
from benchmarks.measure import ROOT, Run, in_turns, ratio, run, worker
from uga.model.arithmetic import cpu_has_bf16

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# What `auto` comes to on this CPU; named, because random weights would not pass its check of labels.
BEST = ("openvino", "bf16" if cpu_has_bf16() else "fp32")
_PRECISIONS = ("fp32", "bf16") if cpu_has_bf16() else ("fp32",)
_PASSES = 100
_TIATOOLBOX = ROOT / "benchmarks" / "tiatoolbox_worker.py"


def efficiency(work: Path, repeat: int) -> dict[str, Any]:
    """Forward passes alone against all of `uga infer`, start of Python to last byte."""
    small = virtual_slide(work, "efficiency-demo", centre_id=1, width_um=3000.0, height_um=3000.0, node_um=2200.0)
    one = virtual_slide(work, "efficiency", centre_id=1, width_um=5500.0, height_um=5500.0, node_um=4300.0)
    cases = [
        ("demo", DEMO, small),
        ("demo, ten sections", DEMO, sections(work, 10)),
        ("medium", model_folder(work, MEDIUM), one),
    ]
    engine, precision = BEST
    rows = []
    for name, model, slide in cases:
        print(f"efficiency: {name}, {engine} {precision}", flush=True)
        whole: list[Run] = []
        each_s = []  # of one window through all folds
        for _ in range(repeat):
            # Before and after, because the machine's speed drifts by more in a run than what is asked here.
            alone = [worker("passes", model, engine, precision, _PASSES)]
            whole.append(infer(work, slide, model, engine, precision))
            alone.append(worker("passes", model, engine, precision, _PASSES))
            each_s.append(mean(each.said["seconds"] for each in alone) / _PASSES)
        windows = whole[0].said["windows"] - 1  # one more is tried beforehand
        passes = [seconds * windows for seconds in each_s]
        walls = [each.wall_s for each in whole]
        rows.append(
            {
                "network": name,
                "arithmetic": f"{engine} {precision}",
                "windows": windows,
                "passes_s": median(passes),
                "whole_s": median(walls),
                "efficiency": ratio(passes, walls),
                "first_window_s": median(each.said["first_window_ms"] for each in whole) / 1000,
                "peak_mib": max(each.peak_mib for each in whole),
                "stages_s": whole[-1].said["timings_s"],
            }
        )
    return {"rows": rows}


def nnunet(work: Path, repeat: int) -> dict[str, Any]:
    """nnU-Net's predictor on the same pixels, the same five folds, the same windows."""
    rows = []
    for name, model, side in (
        ("demo", DEMO, 1536),
        ("medium", model_folder(work, MEDIUM), 2048),
        ("large", model_folder(work, LARGE), 1536),
    ):
        slide = square(work, side)
        print(f"nnunet: {name}", flush=True)
        contestants = {
            "nnunet": lambda m=model, s=slide: worker("nnunet", m, s, "no"),
            **{
                each: lambda m=model, s=slide, p=each: worker("bands", m, "openvino", p, s, "no")
                for each in _PRECISIONS
            },
            "torch": lambda m=model, s=slide: worker("bands", m, "torch", "fp32", s, "no"),
        }
        if name == "demo":
            contestants["nnunet_mirrored"] = lambda m=model, s=slide: worker("nnunet", m, s, "yes")
            contestants["mirrored"] = lambda m=model, s=slide: worker("bands", m, *BEST, s, "yes")
        runs = in_turns(repeat, **contestants)
        seconds = {key: [each.said["seconds"] for each in found] for key, found in runs.items()}
        for ours, theirs in (("torch", "nnunet"), ("fp32", "nnunet"), ("bf16", "nnunet"), (BEST[1], "nnunet_mirrored"),
                             ("mirrored", "nnunet_mirrored")):  # fmt: skip
            if theirs not in runs or ours not in runs:
                continue
            rows.append(
                {
                    "network": name,
                    "ours": f"{BEST[1]}-mirrored" if ours == "mirrored" else ours,
                    "theirs": theirs,
                    "windows": runs["fp32"][0].said["windows"],
                    "ours_s": median(seconds[ours]),
                    "theirs_s": median(seconds[theirs]),
                    "times": ratio(seconds[theirs], seconds[ours]),
                    "ours_mib": max(each.peak_mib for each in runs[ours]),
                    "theirs_mib": max(each.peak_mib for each in runs[theirs]),
                }
            )
    return {"rows": rows}


def agreement(work: Path, _: int) -> dict[str, Any]:
    """Labels of the demo ensemble against nnU-Net's, on nothing but tissue."""
    slide = square(work, 1536)
    rows = []
    for mirroring, cases in (
        ("no", (("torch", "fp32"), *(("openvino", each) for each in _PRECISIONS))),
        ("yes", (BEST,)),
    ):
        for name in ("nnunet", "nnunet_folds"):
            print(f"agreement: {name}, mirroring {mirroring}", flush=True)
            worker(name, DEMO, slide, mirroring)
        for engine, precision in cases:
            worker("bands", DEMO, engine, precision, slide, mirroring)
            ours = _labels(slide, f"{engine}-{precision}-{mirroring}")
            rows.append(
                {
                    "ours": f"{engine} {precision}",
                    "mirroring": mirroring == "yes",
                    "folds_equal": float((ours == _labels(slide, f"nnunet-folds-{mirroring}")).mean()),
                    "logits_equal": float((ours == _labels(slide, f"nnunet-{mirroring}")).mean()),
                }
            )
    return {"pixels": int(ours.size), "rows": rows}


def tiatoolbox(work: Path, repeat: int, python: Path) -> dict[str, Any]:
    """TIAToolbox's SemanticSegmentor with the same five networks as one model, on a whole slide."""
    rows = []
    small = virtual_slide(work, "efficiency-demo", centre_id=1, width_um=3000.0, height_um=3000.0, node_um=2200.0)
    for name, model, slide in (("demo", DEMO, small),):
        print(f"tiatoolbox: {name}", flush=True)
        exported = work / "models" / f"{name}.torchscript"
        window = worker("export_torchscript", model, exported).said["window_px"]
        runs = in_turns(
            repeat,
            theirs=lambda e=exported, w=window, s=slide: run(
                [python, _TIATOOLBOX, e, str(w), s, _empty(work / "tiatoolbox")]
            ),
            **{each: lambda m=model, s=slide, p=each: infer(work, s, m, "openvino", p) for each in _PRECISIONS},
        )
        walls = {key: [each.wall_s for each in found] for key, found in runs.items()}
        for ours in _PRECISIONS:
            rows.append(  # noqa: PERF401 - as in the others
                {
                    "network": name,
                    "ours": ours,
                    "ours_s": median(walls[ours]),
                    "theirs_s": median(walls["theirs"]),
                    "times": ratio(walls["theirs"], walls[ours]),
                    "ours_mib": max(each.peak_mib for each in runs[ours]),
                    "theirs_mib": max(each.peak_mib for each in runs["theirs"]),
                    "ours_windows": runs[ours][0].said["windows"] - 1,
                    "theirs_windows": runs["theirs"][0].said["windows"],
                    "version": runs["theirs"][0].said["version"],
                }
            )
    return {"rows": rows}


def infer(work: Path, slide: Path, model: Path, engine: str, precision: str, *options: str) -> Run:
    """``uga infer`` of a slide into an empty folder, in an arithmetic that is named."""
    output = _empty(work / "output")
    return worker("infer", slide.parent, output, model, "--engine", engine, "--precision", precision, *options)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _labels(slide: Path, name: str) -> NDArray[np.uint8]:
    labels: NDArray[np.uint8] = np.load(slide.with_name(f"labels-{name}-{DEMO.name}.npy"))
    return labels
