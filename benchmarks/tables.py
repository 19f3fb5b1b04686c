"""Results as Markdown tables, put into docs/performance.md between markers that name the benchmark."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_ARITHMETIC = {
    "torch": "torch fp32",
    "fp32": "OpenVINO fp32",
    "bf16": "OpenVINO bf16",
    "fp32-mirrored": "OpenVINO fp32, mirrored",
    "bf16-mirrored": "OpenVINO bf16, mirrored",
}
_THEIRS = {"nnunet": "nnU-Net, mirroring off", "nnunet_mirrored": "nnU-Net's defaults (mirroring)"}


def fill(page: Path, results: Path) -> None:
    """Replace every table of the page whose benchmark has a result; one of each kind of machine."""
    text = page.read_text("utf-8")
    for name, draw in _TABLES.items():
        contents = [
            json.loads(file.read_text("utf-8")) for file in sorted(results.glob(f"*/{name}.json"), reverse=True)
        ]
        if not contents:
            continue
        tables = "\n\n".join(f"{_machine(content)}\n\n{draw(content['result'])}" for content in contents)
        marked = f"<!-- {name} -->\n{tables}\n<!-- end -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, t=marked: t, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{page} has {count} places for {name}, not one.")
    page.write_text(text, "utf-8")


def _machine(content: dict[str, Any]) -> str:
    machine = content["machine"]
    versions = machine["versions"]
    return (
        f"*{machine['gpu'] or machine['processor']}, {machine['cores']} cores, {'' if machine['bf16'] else 'no '}bf16; "
        f"torch {versions['torch']}, OpenVINO {versions['openvino']}; {content['repeat']} turn(s); "
        f"`{content['command']}`*"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _efficiency(result: dict[str, Any]) -> str:
    head = (
        "network",
        "computed in",
        "windows",
        "passes, s",
        "whole run, s",
        "efficiency",
        "first window, s",
        "peak, MiB",
    )
    return _table(
        head,
        [
            (
                row["network"],
                row["arithmetic"],
                str(row["windows"]),
                f"{row['passes_s']:.1f}",
                f"{row['whole_s']:.1f}",
                f"**{row['efficiency']:.2f}**",
                f"{row['first_window_s']:.1f}",
                f"{row['peak_mib']:.0f}",
            )
            for row in result["rows"]
        ],
    )


def _nnunet(result: dict[str, Any]) -> str:
    head = (
        "network",
        "windows",
        "ours",
        "ours, s",
        "theirs",
        "theirs, s",
        "times as fast",
        "peak, MiB, ours / theirs",
    )
    return _table(
        head,
        [
            (
                row["network"],
                str(row["windows"]),
                _ARITHMETIC[row["ours"]],
                f"{row['ours_s']:.1f}",
                _THEIRS[row["theirs"]],
                f"{row['theirs_s']:.1f}",
                f"**{row['times']:.2f}**",
                f"{row['ours_mib']:.0f} / {row['theirs_mib']:.0f}",
            )
            for row in result["rows"]
        ],
    )


def _agreement(result: dict[str, Any]) -> str:
    return _table(
        ("ours", "mirroring", "mean of the folds' probabilities", "mean of the folds' logits"),
        [
            (
                row["ours"],
                "on" if row["mirroring"] else "off",
                f"**{_share(row['folds_equal'], digits=3)}**",
                _share(row["logits_equal"], digits=3),
            )
            for row in result["rows"]
        ],
    )


def _tiatoolbox(result: dict[str, Any]) -> str:
    head = (
        "network",
        "ours",
        "ours, s",
        "TIAToolbox, s",
        "times as fast",
        "windows, ours / theirs",
        "peak, MiB, ours / theirs",
    )
    return _table(
        head,
        [
            (
                row["network"],
                _ARITHMETIC[row["ours"]],
                f"{row['ours_s']:.1f}",
                f"{row['theirs_s']:.1f}",
                f"**{row['times']:.2f}**",
                f"{row['ours_windows']} / {row['theirs_windows']}",
                f"{row['ours_mib']:.0f} / {row['theirs_mib']:.0f}",
            )
            for row in result["rows"]
        ],
    )


def _scaling(result: dict[str, Any]) -> str:
    head = ("slide", "tissue, mm²", "windows", "whole run, s", "inference, s", "peak, MiB", "windows per step",
            "level px decoded per tissue px")  # fmt: skip
    return _table(
        head,
        [
            (
                row["name"],
                f"{row['tissue_mm2']:.2f}",
                str(row["windows"]),
                f"{row['whole_s']:.1f}",
                f"{row['inference_s']:.1f}",
                f"{row['peak_mib']:.0f}",
                f"{row['windows_per_step']:.2f}",
                f"{row['decoded_per_tissue_px']:.2f}",
            )
            for row in (*result["sizes"], *result["tissues"])
        ],
    )


def _files(result: dict[str, Any]) -> str:
    return _table(
        ("what", "ours, MiB/s", "against", "theirs, MiB/s", "times as fast"),
        [
            (
                row["name"],
                f"{row['ours_mib_s']:.0f}",
                row["theirs"],
                f"{row['theirs_mib_s']:.0f}",
                f"**{row['times']:.2f}**",
            )
            for row in result["rows"]
        ],
    )


def _finetuning(result: dict[str, Any]) -> str:
    return _table(
        ("trainer", "iterations/s", "share of it loading", "ours, times as fast"),
        [
            (row["trainer"], f"{row['iterations_per_s']:.2f}", _share(row["loading_share"]), f"**{row['times']:.2f}**")
            for row in result["rows"]
        ],
    )


def _quality(result: dict[str, Any]) -> str:
    centres = sorted({centre for row in result["rows"] for centre in row["dice"] if centre != "all"})
    has_passes = any("passes_share" in row for row in result["rows"])
    head = ["", "times as fast", "labels equal, tissue", "top 20 equal", "Dice, all", *(f"centre {c}" for c in centres)]
    return _table(
        [*head, *(["passes"] if has_passes else [])],
        [
            [
                row["name"],
                f"{row['times']:.2f}",
                _share(row["labels_equal"]),
                _share(row["top_equal"], digits=0),
                *(f"{row['dice'][c]:.4f}" for c in ("all", *centres)),
                *([_share(row.get("passes_share", 1.0), digits=0)] if has_passes else []),
            ]
            for row in result["rows"]
        ],
    )


def _share(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "efficiency": _efficiency,
    "nnunet": _nnunet,
    "agreement": _agreement,
    "tiatoolbox": _tiatoolbox,
    "scaling": _scaling,
    "files": _files,
    "finetuning": _finetuning,
    "profiles": _quality,
    "cascade": _quality,
}
