"""Puts the figures of finished experiments into ``docs/evidence.md``, so that no number there is typed by hand.

``python -m uga.simulation.evidence RESULTS... --docs docs`` takes the output folders of `uga simulate` and replaces
what stands between the markers ``<!-- name -->`` and ``<!-- end -->`` of each experiment. An experiment without a
place gets a section at the end. Pictures go to ``docs/images/evidence``; they are curves, never tissue. What every
cell has found goes to ``docs/evidence``, an archive for each experiment; unpacked in its output folder, it is where a
run goes on from.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uga.cli.console import configure_logging
from uga.errors import UserError
from uga.output.files import write_atomic
from uga.progress import duration
from uga.simulation.cells import CELLS_FOLDER, MANIFEST_FILE, read_cell
from uga.simulation.figures import CAPTIONS, FIGURES_FOLDER
from uga.simulation.findings import findings
from uga.simulation.report import SUMMARY_FILE
from uga.simulation.summary import Summary
from uga.simulation.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

PAGE_FILE = "evidence.md"
PICTURES_FOLDER = Path("images") / "evidence"
ARCHIVES_FOLDER = Path("evidence")


def fill(docs: Path, results: Sequence[Path]) -> None:
    """Write the sections of experiments into the page.

    Args:
        docs: Folder with ``evidence.md``.
        results: Output folders of `uga simulate`.

    Raises:
        UserError: the page is missing, or a folder holds no experiment.
    """
    page = docs / PAGE_FILE
    try:
        text = page.read_text("utf-8")
    except OSError as error:
        raise UserError(
            f"{page} cannot be read ({error.strerror}); name the folder of the docs with --docs."
        ) from error
    for folder in results:
        summary = _read(folder)
        pictures = _copy_pictures(folder / FIGURES_FOLDER, docs / PICTURES_FOLDER, summary.name)
        archive = _keep_cells(folder, docs / ARCHIVES_FOLDER / f"{summary.name}.tar.xz").relative_to(docs)
        text = _put(text, summary, _section(summary, pictures, archive))
        log.info("%s: %d of %d cells.", summary.name, summary.finished, summary.cells)
    write_atomic(page, text.encode())


def _read(folder: Path) -> Summary:
    file = folder / SUMMARY_FILE
    try:
        return Summary.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{file} is no summary of an experiment by this version; name the output folder of `uga simulate`, or "
            "write its reports anew with --report."
        ) from error


def _copy_pictures(source: Path, target: Path, name: str) -> list[tuple[str, str]]:
    """Copies the PNG figures; gives each path, relative to the page, with its caption."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{name}--*.png"):
        old.unlink()
    pictures = []
    for stem, caption in CAPTIONS.items():
        if (source / f"{stem}.png").is_file():
            copy = target / f"{name}--{stem}.png"
            shutil.copyfile(source / f"{stem}.png", copy)
            pictures.append(((PICTURES_FOLDER / copy.name).as_posix(), caption))
    return pictures


def _keep_cells(experiment: Path, target: Path) -> Path:
    """Packs what every finished cell has found, no model, the same bytes for the same cells."""
    target.parent.mkdir(parents=True, exist_ok=True)
    cells = sorted((experiment / CELLS_FOLDER).glob(f"*/{MANIFEST_FILE}"))
    with tarfile.open(target, "w:xz") as archive:
        for folder in (file.parent for file in cells):
            if (manifest := read_cell(folder)) is not None:
                for name in sorted([MANIFEST_FILE, *(each.path for each in manifest.outputs)]):
                    archive.add(folder / name, (folder / name).relative_to(experiment), filter=_nobodys)
    return target


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As if nobody had ever owned it."""
    return member.replace(mtime=0, mode=0o644, uid=0, gid=0, uname="", gname="", deep=False)


def _section(summary: Summary, pictures: Sequence[tuple[str, str]], archive: Path) -> str:
    """All that is said about an experiment, as Markdown."""
    seconds = sum(summary.cell_seconds.values())
    facts = (
        f"{summary.finished} of {summary.cells} cells; {summary.test_slides} test slides of {summary.test_patients} "
        f"patients; {summary.seeds} seed(s); baseline {summary.baseline.name} ({summary.baseline.sha256[:12]}). "
        f"A fine-tuned cell took {duration(seconds)} on average ({'; '.join(summary.computed_on)}; "
        f"UGA {summary.versions.get('uga', '')}, torch {summary.versions.get('torch', '')}). "
        f"[What each cell has found]({archive.as_posix()})."
    )
    parts = [
        f"`{summary.command}`",
        summary.data_notice,
        facts,
        "\n".join(f"- {sentence}" for sentence in findings(summary)).replace("*", r"\*"),
        *(f"![{caption}]({path})\n\n*{caption}*" for path, caption in pictures),
        *(f"**{title}**\n\n{table}" for title, table in markdown(summary).items()),
    ]
    return "\n\n".join(parts)


def _put(text: str, summary: Summary, section: str) -> str:
    """The page with a section in its place."""
    marked = f"<!-- {summary.name} -->\n\n{section}\n\n<!-- end -->"
    place = rf"<!-- {re.escape(summary.name)} -->.*?<!-- end -->"
    filled, count = re.subn(place, lambda _: marked, text, flags=re.DOTALL)
    if count > 1:
        raise UserError(f"{PAGE_FILE} has {count} places for {summary.name}; keep one.")
    return filled if count else f"{text.rstrip()}\n\n## {summary.title}\n\n{marked}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m uga.simulation.evidence", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="output folders of uga simulate")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder with evidence.md (default docs)")
    options = parser.parse_args(arguments)
    configure_logging()
    try:
        fill(options.docs, options.results)
    except UserError as error:
        parser.exit(error.exit_code, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
