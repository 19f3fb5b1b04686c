"""Annotation packages: one folder per ranked patch with all a clinician's tool needs and all a later check needs."""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from pydantic import ValidationError

from uga.errors import UserError
from uga.output.colours import label_colours
from uga.output.files import commit, partial_path, sha256_file, sync, write_json
from uga.output.outline import outlines
from uga.output.schema import PackageFile, PackageFiles, PatchRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from uga.geometry import Grid, GridRegion
    from uga.output.schema import ModelRecord, RankedPatch, SlideRecord, UncertaintyRecord

    UInt8 = NDArray[np.uint8]

PACKAGES_FOLDER = "patches"
RECORD_FILE = "patch.json"
IMAGE_FILE = "image.png"
PREDICTION_FILE = "prediction.png"
UNCERTAINTY_FILE = "uncertainty.png"
ANNOTATION_FILE = "annotation.geojson"
EXPORTED_FILES = frozenset({RECORD_FILE, IMAGE_FILE, PREDICTION_FILE, UNCERTAINTY_FILE, ANNOTATION_FILE})
"""All that a package has when it is written."""

_LEVEL0_DECIMALS = 4
# Tissue is nearly noise to zlib: level 6 takes up to twice the time, for files within 5 % of this size either way.
_PNG_LEVEL = 2
_MAX_SLIDE_CHARACTERS = 60


def image_sha256(rgb: UInt8) -> str:
    """Hex SHA-256 of the raw pixels, uint8 (h, w, 3), row by row: the same whatever the PNG encoder does."""
    return hashlib.sha256(np.ascontiguousarray(rgb).data).hexdigest()


def package_name(patch: RankedPatch, slide_id: str) -> str:
    """Folder name ``<rank>_<slide>_<x>_<y>``; what a file system may refuse in the slide's id becomes ``-``."""
    slide = re.sub(r"[^\w.-]+", "-", slide_id).strip(".-") or "slide"
    return f"{patch.rank:03d}_{slide[:_MAX_SLIDE_CHARACTERS]}_{patch.x}_{patch.y}"


def holds_correction(package: Path) -> bool:
    """Whether somebody has worked in a package: reviewed it, added a file, or changed what can be edited."""
    if any(path.name not in EXPORTED_FILES and not path.name.startswith(".") for path in package.iterdir()):
        return True
    try:
        record = PatchRecord.model_validate_json((package / RECORD_FILE).read_bytes())
    except (ValidationError, OSError):
        return True
    if record.review is not None:
        return True
    files = record.files
    # Label map and picture too: whoever paints over them instead of saving a correction beside must not lose the work.
    editable = [
        (package / exported.name, exported.sha256) for exported in (files.annotation, files.prediction, files.image)
    ]
    return any(path.is_file() and sha256_file(path) != sha256 for path, sha256 in editable)


def work_beside(package: Path) -> list[Path]:
    """Files beside a package with its name, as `uga export-patches` writes them to be painted or drawn over."""
    return sorted(path for path in package.parent.glob(f"{glob.escape(package.name)}.*") if path.is_file())


def written_files(packages: Path) -> list[Path]:
    """The files that we wrote below a folder of packages; what people put there is not among them."""
    return sorted(path for path in packages.glob("*/*") if path.name in EXPORTED_FILES and path.is_file())


@dataclass(frozen=True)
class PackageWriter:
    """Writes the packages of one slide below ``folder``/patches.

    ``labels`` are the model's label names and values, ``grid`` the working grid the maps lie on.
    """

    folder: Path
    slide: SlideRecord
    model: ModelRecord
    uncertainty: UncertaintyRecord
    labels: Mapping[str, int]
    tumour_label: str
    grid: Grid

    def write(
        self, patch: RankedPatch, region: GridRegion, *, image: UInt8, prediction: UInt8, uncertainty: UInt8
    ) -> Path:
        """Write one package; it appears complete or not at all.

        Args:
            patch: The patch's entry in the list.
            region: The same patch on the working grid; square.
            image: uint8 (h, w, 3) RGB.
            prediction: uint8 (h, w) label values.
            uncertainty: uint8 (h, w), the 8-bit map.

        Returns:
            The package folder.

        Raises:
            ValueError: Arrays that do not fit the region, or an image that is not the one the list names.
            UserError: The folder exists and holds a correction.
        """
        shape = (region.height, region.width)
        if image.shape != (*shape, 3) or prediction.shape != shape or uncertainty.shape != shape:
            raise ValueError(f"patch {patch.rank}: the arrays are not {region.width} x {region.height} px.")
        if image_sha256(image) != patch.image_sha256:
            raise ValueError(f"patch {patch.rank}: the image is not the one named in the list.")
        target = self.folder / PACKAGES_FOLDER / package_name(patch, self.slide.id)
        if target.exists() and holds_correction(target):
            raise UserError(f"{target} holds a correction; move it to a safe place before the patch is written again.")
        partial = partial_path(target)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._write_files(partial, patch, region, (image, prediction, uncertainty))
            if target.exists():
                shutil.rmtree(target)
            commit(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def _write_files(
        self, folder: Path, patch: RankedPatch, region: GridRegion, arrays: tuple[UInt8, UInt8, UInt8]
    ) -> None:
        names = (IMAGE_FILE, PREDICTION_FILE, UNCERTAINTY_FILE)
        written = [_write(folder / name, _png(array)) for name, array in zip(names, arrays, strict=True)]
        collection = self._annotation(patch, region, arrays[1])
        annotation = _write(folder / ANNOTATION_FILE, json.dumps(collection, ensure_ascii=False).encode())
        record = PatchRecord(
            slide=self.slide,
            model=self.model,
            uncertainty=self.uncertainty,
            labels=dict(self.labels),
            tumour_label=self.tumour_label,
            spacing_um=self.grid.spacing_um,
            size_px=region.width,
            grid_x=region.x,
            grid_y=region.y,
            scale_x=self.grid.scale_x,
            scale_y=self.grid.scale_y,
            patch=patch,
            files=PackageFiles(image=written[0], prediction=written[1], uncertainty=written[2], annotation=annotation),
        )
        write_json(folder / RECORD_FILE, record)

    def _annotation(self, patch: RankedPatch, region: GridRegion, prediction: UInt8) -> dict[str, Any]:
        """A QuPath feature collection: the locked frame of the patch, then a polygon per labelled component."""
        width, height = region.width, region.height
        frame = [(0, 0), (width, 0), (width, height), (0, height), (0, 0)]
        features = [
            self._feature(
                [frame],
                region,
                "frame",
                {
                    "name": f"patch {patch.rank} of {self.slide.id}",
                    "classification": {"name": "Region*", "color": [0, 0, 0]},
                    "isLocked": True,
                },
            )
        ]
        for name, colour in label_colours(self.labels, self.tumour_label).items():
            for number, outline in enumerate(outlines(prediction == self.labels[name])):
                properties = {"classification": {"name": name, "color": list(colour)}, "isLocked": False}
                identity = f"{name} {number}"
                features.append(self._feature([outline.outer, *outline.holes], region, identity, properties))
        return {"type": "FeatureCollection", "features": features}

    def _feature(
        self, rings: list[list[tuple[int, int]]], region: GridRegion, identity: str, properties: dict[str, Any]
    ) -> dict[str, Any]:
        origin = self.grid.qupath_origin
        coordinates = [
            [
                [
                    round((region.x + x) * self.grid.scale_x - origin.x, _LEVEL0_DECIMALS),
                    round((region.y + y) * self.grid.scale_y - origin.y, _LEVEL0_DECIMALS),
                ]
                for x, y in ring
            ]
            for ring in rings
        ]
        return {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.slide.quickhash} {region} {identity}")),
            "geometry": {"type": "Polygon", "coordinates": coordinates},
            "properties": {"objectType": "annotation", **properties},
        }


def _png(array: UInt8) -> bytes:
    return bytes(imagecodecs.png_encode(array, _PNG_LEVEL))


def _write(path: Path, data: bytes) -> PackageFile:
    path.write_bytes(data)
    sync(path)
    return PackageFile(name=path.name, sha256=hashlib.sha256(data).hexdigest())
