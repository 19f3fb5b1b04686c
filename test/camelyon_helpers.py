"""Virtual slides in the layout and file formats of Camelyon16 and Camelyon17."""

from pathlib import Path

import cv2
import numpy as np
import tifffile

from uga.virtual.slide import write_virtual_slide
from uga.virtual.spec import LesionClass, SlideSpec


def write_asap(mask: np.ndarray, scale: float, path: Path, *, tumour: str, hole: str) -> None:
    """Outlines of a label map as Camelyon ships them: holes are shapes of a group of their own."""
    contours, hierarchy = cv2.findContours((mask == 2).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    shapes = []
    for number, (contour, links) in enumerate(zip(contours, hierarchy[0], strict=True)):
        if len(contour) < 3:
            continue
        points = "".join(
            f'<Coordinate Order="{i}" X="{(x + 0.5) * scale:.4f}" Y="{(y + 0.5) * scale:.4f}" />'
            for i, (x, y) in enumerate(contour[:, 0])
        )
        group = tumour if links[3] < 0 else hole
        shapes.append(
            f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{points}</Coordinates></Annotation>"
        )
    groups = "".join(
        f'<Group Name="{name}" PartOfGroup="None" Color="#00ff00"><Attributes /></Group>' for name in (tumour, hole)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{"".join(shapes)}</Annotations>'
        f"<AnnotationGroups>{groups}</AnnotationGroups></ASAP_Annotations>"
    )


def virtual_slide(root: Path, stem: str, seed: int, centre: int, lesion: LesionClass) -> None:
    """A virtual slide in the layout of the public bucket, with mask and, if there is tumour, outlines."""
    spec = SlideSpec(seed=seed, centre_id=centre, lesion=lesion, width_um=900, height_um=900, node_um=750)
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    mask = root / "masks" / f"{stem}_mask.tif"
    write_virtual_slide(spec, root / "images" / f"{stem}.tif", mask_path=mask)
    if lesion is not LesionClass.NEGATIVE:
        groups = {"tumour": "metastases", "hole": "normal"} if "patient" in stem else {"tumour": "_0", "hole": "_2"}
        scale = 1 / spec.centre.spacing_um
        write_asap(tifffile.imread(mask), scale, root / "annotations" / f"{stem}.xml", **groups)
