"""``python -m benchmarks NAME...``: measure, keep the figures as JSON, put them into docs/performance.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import comparisons, growth, quality
from benchmarks.measure import ROOT, kind, machine
from benchmarks.tables import fill

_RESULTS = ROOT / "benchmarks" / "results"
_PAGE = ROOT / "docs" / "performance.md"
_BENCHMARKS = {
    "efficiency": comparisons.efficiency,
    "nnunet": comparisons.nnunet,
    "agreement": comparisons.agreement,
    "tiatoolbox": comparisons.tiatoolbox,
    "scaling": growth.scaling,
    "files": growth.files,
    "finetuning": growth.finetuning,
    "profiles": quality.profiles,
    "cascade": quality.cascade,
}
_IN_ONE_TURN = {"agreement", "profiles", "cascade"}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(_BENCHMARKS)}; none: only fill the page")
    parser.add_argument("--work", type=Path, default=ROOT / "output" / "benchmarks", help="slides and models, kept")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each contestant, where time is all (default 3)")
    parser.add_argument("--tiatoolbox-python", type=Path, help="a Python that has TIAToolbox, see benchmarks/README.md")
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, help="where the JSON files go, in a folder for each kind of machine"
    )
    options = parser.parse_args()
    unknown = set(options.names) - _BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; choose among {', '.join(_BENCHMARKS)}")
    work = options.work.resolve()
    for name in options.names:
        repeat = 1 if name in _IN_ONE_TURN else options.repeat
        arguments = [work, repeat]
        if name == "tiatoolbox":
            if options.tiatoolbox_python is None:
                parser.error("tiatoolbox needs --tiatoolbox-python")
            arguments.append(options.tiatoolbox_python)
        content = {
            "machine": machine(),
            "command": f"python -m benchmarks {name} --repeat {repeat}",
            "repeat": repeat,
            "result": _BENCHMARKS[name](*arguments),
        }
        folder = options.results / kind()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    if options.results == _RESULTS:
        fill(_PAGE, _RESULTS)


if __name__ == "__main__":
    main()
