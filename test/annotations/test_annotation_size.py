"""Annotation files of hundreds of megabytes: time and memory follow the points."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from annotation_helpers import collection, feature

READ = """
import sys, time
from pathlib import Path
from uga.annotations.readers import read_annotation
from uga.annotations.reference import AnnotationReference
from uga.geometry import Grid, GridRegion, SpacingUm
def peak_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
before = peak_kib()
start = time.process_time()
shapes = read_annotation(Path(sys.argv[1]))
grid = Grid.over(100_000, 100_000, SpacingUm(0.25, 0.25), 1.0)
with AnnotationReference(shapes, grid, {"tumor": 1}, unannotated=0, source="a") as reference:
    labels = reference.read(GridRegion(0, 12_000, grid.width, 64))
seconds = time.process_time() - start
more_mib = (peak_kib() - before) / 1024
print(len(shapes), seconds, more_mib, int(labels.any()))
"""


def write_many_features(path, size_bytes):
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 20
    rng = np.random.default_rng(0)
    count = 0
    with path.open("w") as file:
        head, tail = collection(feature()).split(json.dumps(feature()))
        file.write(head)
        while file.tell() < size_bytes:
            ring = np.round(circle + rng.uniform(50, 99_900, 2), 2).tolist()
            file.write(("," if count else "") + json.dumps(feature(ring)))
            count += 1
        file.write(tail)
    return count


def write_one_feature(path, size_bytes):
    points = size_bytes // 21
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 40_000 + 10 * np.sin(angles * 1000)
    xy = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + 50_000
    with path.open("w") as file:
        head, tail = collection(feature()).split("[[[")[0], collection(feature()).split("]]]")[1]
        file.write(head + "[[")
        for start in range(0, points, 100_000):
            file.write(("," if start else "") + json.dumps(np.round(xy[start : start + 100_000], 2).tolist())[1:-1])
        file.write("]]" + tail)
    return 1


def read_apart(path):
    """Number of shapes, seconds of CPU, MiB more than before, whether a band has labels."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, env=environment, check=False
    )
    return done.stdout.split() or done.stderr


@pytest.mark.parametrize("write", [write_many_features, write_one_feature])
@pytest.mark.parametrize("size_mb", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_large_geojson(tmp_path, write, size_mb):
    path = tmp_path / "large.geojson"
    count = write(path, size_mb * 1_000_000)
    assert path.stat().st_size >= size_mb * 1_000_000
    shapes, seconds, more_mib, found = read_apart(path)
    assert int(shapes) == count
    assert found == "1"
    assert float(seconds) < 0.5 * size_mb
    assert float(more_mib) < 100 + 8 * size_mb
