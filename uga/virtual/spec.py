"""What a virtual slide shows and where it was stained and scanned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from uga.errors import UserError
from uga.geometry import Grid, SpacingUm
from uga.virtual.centres import CENTRES, Centre

REFERENCE_SPACING_UM = 1.0


class LesionClass(Enum):
    """Metastasis classes of a lymph node, as in CAMELYON17 (after the AJCC: limits 0.2 mm and 2 mm)."""

    NEGATIVE = "negative"
    ITC = "itc"
    MICRO = "micro"
    MACRO = "macro"


@dataclass(frozen=True, slots=True)
class SlideSpec:
    """A virtual slide; equal specs give equal pixels.

    The tissue follows from ``seed`` and the sizes alone: specs that differ in ``centre_id`` show the same
    tissue, stained and scanned elsewhere.

    Attributes:
        seed: of the tissue.
        centre_id: key of `CENTRES`.
        lesion: the largest metastasis on the slide.
        width_um: width of the scanned area.
        height_um: height of the scanned area.
        node_count: lymph node sections.
        node_um: mean diameter of a section.
        pen_marks: strokes of a felt pen.
        folds: tissue folds per section.
        blurred_areas: areas out of focus per section.
        bubbles: air bubbles under the cover slip.
        dust: dust specks.
        patient: sections of one patient have the same; the seed, if empty.

    """

    seed: int
    centre_id: int = 1
    lesion: LesionClass = LesionClass.NEGATIVE
    width_um: float = 3500.0
    height_um: float = 3500.0
    node_count: int = 1
    node_um: float = 2550.0
    pen_marks: int = 0
    folds: int = 0
    blurred_areas: int = 0
    bubbles: int = 0
    dust: int = 4
    patient: str = ""

    def __post_init__(self) -> None:
        if self.centre_id not in CENTRES:
            raise UserError(f"Virtual centre {self.centre_id} does not exist; choose one of {sorted(CENTRES)}.")
        if min(self.width_um, self.height_um, self.node_um) <= 0 or self.node_count < 0:
            raise UserError("The sizes of a virtual slide must be positive; correct the slide's specification.")

    @property
    def centre(self) -> Centre:
        """Stain and scanner."""
        return CENTRES[self.centre_id]

    @property
    def width_px(self) -> int:
        """Level-0 width."""
        return round(self.width_um / self.centre.spacing_um)

    @property
    def height_px(self) -> int:
        """Level-0 height."""
        return round(self.height_um / self.centre.spacing_um)

    @property
    def reference_grid(self) -> Grid:
        """The 1 um grid of the reference mask."""
        spacing = SpacingUm(self.centre.spacing_um, self.centre.spacing_um)
        return Grid.over(self.width_px, self.height_px, spacing, REFERENCE_SPACING_UM)

    @property
    def name(self) -> str:
        """File stem: centre, patient and class."""
        return f"centre{self.centre_id}_{self.patient_id}_{self.lesion.value}_{self.seed:05d}"

    @property
    def patient_id(self) -> str:
        """Patient, derived from the seed if none is given."""
        return self.patient or f"patient{self.seed:05d}"
