"""The slides of an experiment, whatever they come from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.output.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from uga.training.cases import Case, Unannotated
    from uga.training.labels import LabelMapping

_REQUEST_FILE = "request.json"


@dataclass(frozen=True)
class Cohorts:
    """Slides to train on, to query and to test on.

    Attributes:
        training: For a baseline that is trained first; may be empty.
        query: Query pools of all centres.
        test: Untouched test slides of all centres.
        mapping: What values and classes of the references mean.
        unannotated: What area outside all shapes is, where a case does not say.
        shifted: Ids of the query slides that are unlike what the baseline has learnt from.
        notice: What must be said wherever figures from these slides are shown.
    """

    training: tuple[Case, ...]
    query: tuple[Case, ...]
    test: tuple[Case, ...]
    mapping: LabelMapping
    unannotated: Unannotated
    shifted: frozenset[str]
    notice: str

    def resolved(self, case: Case) -> Case:
        """The case with what area outside all shapes is."""
        return replace(case, unannotated=case.unannotated or self.unannotated)

    def check(self) -> None:
        """Refuse pools that are empty or share a patient with another part.

        Raises:
            UserError: what is wrong with the slides.
        """
        parts = {"trained on": self.training, "queried": self.query, "tested on": self.test}
        for what in ("queried", "tested on"):
            if not parts[what]:
                raise UserError(f"No slide is {what}; give some in the configuration's table data.")
        seen: dict[str, str] = {}
        for what, cases in parts.items():
            for patient in {case.patient for case in cases}:
                if seen.setdefault(patient, what) != what:
                    raise UserError(
                        f"The patient {patient} is both {seen[patient]} and {what}; keep each patient in one part."
                    )
        counts = Counter(case.slide.name for case in (*self.query, *self.test))
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise UserError(f"Two slides are called {name}; give them different names.")


def made_folder(folder: Path, request: BaseModel, *, stamp: Sequence[str] = ()) -> Path:
    """A folder for slides that are made to a request; what was made to another one goes.

    Args:
        folder: The folder.
        request: The part of the configuration that decides the slides.
        stamp: What else decides them, such as the files they are made of.
    """
    content = json.dumps({"request": request.model_dump(mode="json"), "stamp": list(stamp)}, sort_keys=True)
    file = folder / _REQUEST_FILE
    if not (file.is_file() and file.read_text("utf-8") == content):
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(file, content.encode())
    return folder
