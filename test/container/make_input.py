"""Makes test/input/interf0 anew: a small virtual slide and its tissue mask, laid out as grand-challenge does.

Run ``python test/container/make_input.py`` from the repository; then the expectations must be made anew, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
from PIL import Image

from uga.slide import open_slide
from uga.virtual.slide import write_virtual_slide
from uga.virtual.spec import LesionClass, SlideSpec

TARGET = Path(__file__).parents[1] / "input" / "interf0"
SPEC = SlideSpec(seed=11, centre_id=3, lesion=LesionClass.MACRO, width_um=800, height_um=800, node_um=740)
MASK_UM = 8.0
# The platform names files by UUIDs that say nothing.
SLIDE = "images/lymph-node-wsi/5b1c8f0e-2d57-4f0b-9d0e-3c1f6a7b2d44.tif"
MASK = "images/lymph-node-tissue-mask/c7a9e3d2-8f64-4f38-b1a5-0e9d2c6b7f10.mha"


def main() -> None:
    """Writes the slide, the mask and inputs.json."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for name in (SLIDE, MASK):
        (TARGET / name).parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "slide.tif"
        write_virtual_slide(SPEC, written)
        shutil.copy(written, TARGET / SLIDE)
    with open_slide(TARGET / SLIDE) as slide:
        grid = slide.grid(MASK_UM)
        saturation = np.asarray(Image.fromarray(slide.read(grid, grid.region)).convert("HSV"))[..., 1]
    mask = SimpleITK.GetImageFromArray((saturation > 30).astype(np.uint8))
    mask.SetSpacing((MASK_UM / 1000, MASK_UM / 1000))
    SimpleITK.WriteImage(mask, str(TARGET / MASK), useCompression=True)
    values = [
        _value(1, "Lymph node WSI", "Image", SLIDE), _value(2, "Lymph node tissue mask", "Segmentation", MASK),
    ]  # fmt: skip
    (TARGET / "inputs.json").write_text(json.dumps(values, indent=2) + "\n")


def _value(number: int, title: str, kind: str, path: str) -> dict[str, object]:
    folder = Path(path).parent
    socket = {
        "title": title,
        "description": "",
        "slug": folder.name,
        "kind": kind,
        "pk": number,
        "default_value": None,
        "super_kind": "Image",
        "relative_path": folder.as_posix(),
        "overlay_segments": [],
        "look_up_table": None,
    }
    image = {"pk": Path(path).stem, "name": f"{folder.name}{Path(path).suffix}"}
    return {"socket": socket, "interface": socket, "value": None, "file": None, "image": image, "pk": 100 + number}


if __name__ == "__main__":
    main()
