"""How time, memory and what is read grow with a slide; and how fast slides are read and maps written."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.comparisons import BEST, infer
from benchmarks.material import DEMO, sections, virtual_slide
from benchmarks.measure import in_turns, ratio, worker

if TYPE_CHECKING:
    from pathlib import Path

_SPACING_UM = 0.25


def scaling(work: Path, repeat: int) -> dict[str, Any]:
    """Larger slides and a taller one with the same tissue, then more tissue on slides of the same size."""
    sides = {
        "5,000 px": (5_000, 5_000),
        "5,000 x 100,000 px": (5_000, 100_000),
        "20,000 px": (20_000, 20_000),
        "100,000 px": (100_000, 100_000),
    }
    sizes = [_case(work, name, repeat, _of_size(work, *side)) for name, side in sides.items()]
    tissues = [_case(work, f"{count} sections", repeat, sections(work, count)) for count in (1, 3, 10)]
    return {"sizes": sizes, "tissues": tissues}


def _of_size(work: Path, width: int, height: int) -> Path:
    spec = {"width_um": width * _SPACING_UM, "height_um": height * _SPACING_UM, "node_um": 1000.0}
    return virtual_slide(work, "-".join(f"{value:g}" for value in spec.values()), centre_id=2, **spec)


def _case(work: Path, name: str, repeat: int, slide: Path) -> dict[str, Any]:
    print(f"scaling: {name}", flush=True)
    # The arithmetic is named, since `auto` may take another one on one slide than on the next.
    runs = in_turns(repeat, infer=lambda: infer(work, slide, DEMO, *BEST))["infer"]
    said = runs[0].said
    tissue = worker("tissue_px", slide).said["tissue_px"]
    return {
        "name": name,
        "tissue_mm2": tissue / 1e6,
        "windows": said["windows"] - 1,
        "whole_s": median(each.wall_s for each in runs),
        "inference_s": median(each.said["timings_s"]["inference"] for each in runs),
        "peak_mib": max(each.peak_mib for each in runs),
        # Steps of 128 px: so many windows as the tissue is large, and what hangs over its edge.
        "windows_per_step": (said["windows"] - 1) * 128**2 / tissue,
        "decoded_per_tissue_px": said["decoded_px"] / tissue,
    }


def files(work: Path, repeat: int) -> dict[str, Any]:
    """Our reader against plain OpenSlide, our writer against tifffile."""
    rows = []
    for centre in (1, 2):
        slide = virtual_slide(
            work, f"reading-{centre}", centre_id=centre, width_um=5000.0, height_um=5000.0, node_um=4000.0
        )
        rows.append(_files(repeat, f"read, centre {centre}", "read_slide", slide, ("strips", "plain")))
    rows.append(_files(repeat, "write, labels", "write_map", work / "map.tif", ("ours", "tifffile")))
    return {"rows": rows}


def _files(repeat: int, name: str, what: str, path: Path, who: tuple[str, str]) -> dict[str, Any]:
    print(f"files: {name}", flush=True)
    runs = in_turns(repeat, **{each: lambda each=each: worker(what, path, each) for each in who})
    speeds = {each: [run.said["mib"] / run.said["seconds"] for run in runs[each]] for each in who}
    return {
        "name": name,
        "ours_mib_s": median(speeds[who[0]]),
        "theirs": who[1],
        "theirs_mib_s": median(speeds[who[1]]),
        "times": ratio(speeds[who[0]], speeds[who[1]]),
    }


def finetuning(work: Path, repeat: int) -> dict[str, Any]:
    """Iterations of a fold, demo ensemble: our trainer against nnU-Net's."""
    print("finetuning", flush=True)
    folder = work / "finetuning"
    worker("train", DEMO, folder, "uga", 1)  # prepares the patches
    who = ("uga", "nnunet", "nnunet-workers")
    runs = in_turns(repeat, **{each: lambda each=each: worker("train", DEMO, folder, each, 40) for each in who})
    rates = {each: [run.said["iterations"] / run.said["seconds"] for run in runs[each]] for each in who}
    return {
        "rows": [
            {
                "trainer": each,
                "iterations_per_s": median(rates[each]),
                "loading_share": median(run.said["loading_s"] / run.said["seconds"] for run in runs[each]),
                "times": ratio(rates["uga"], rates[each]),
            }
            for each in who
        ]
    }
