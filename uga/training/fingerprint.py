"""The fingerprint of a dataset: sizes and intensities, as nnU-Net measures them.

Import this module only after `NnunetFolders.activate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_INTENSITY_SAMPLES_PER_PATCH = 5000
_MOST_PATCHES = 1000


def fingerprint(raw: Path, names: Sequence[str]) -> dict[str, Any]:
    """nnU-Net's ``dataset_fingerprint.json``, from its own analysis of each case.

    Args:
        raw: Folder with ``imagesTr`` and ``labelsTr``.
        names: The cases; of more than a thousand, as many spread evenly are measured.
    """
    shapes, spacings, intensities, relative_sizes = [], [], [], []
    for name in names[:: -(-len(names) // _MOST_PATCHES)]:
        shape, spacing, values, _, relative = DatasetFingerprintExtractor.analyze_case(
            [str(raw / "imagesTr" / f"{name}_0000.png")],
            str(raw / "labelsTr" / f"{name}.png"),
            NaturalImage2DIO,
            _INTENSITY_SAMPLES_PER_PATCH,
        )
        shapes.append([int(size) for size in shape])
        spacings.append([float(size) for size in spacing])
        intensities.append(values)
        relative_sizes.append(float(relative))
    per_channel = {}
    for channel in range(3):
        values = np.concatenate([np.asarray(case[channel], np.float32) for case in intensities])
        low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
        per_channel[str(channel)] = {
            "mean": float(values.mean()),
            "median": float(median),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile_99_5": float(high),
            "percentile_00_5": float(low),
        }
    return {
        "spacings": spacings,
        "shapes_after_crop": shapes,
        "foreground_intensity_properties_per_channel": per_channel,
        "median_relative_size_after_cropping": float(np.median(relative_sizes)),
    }
