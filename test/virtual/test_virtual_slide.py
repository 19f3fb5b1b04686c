"""Virtual slides as files that other software opens; cohorts; memory."""

import csv
import tracemalloc
from dataclasses import replace

import numpy as np
import openslide
import pytest
import tifffile
from virtual_helpers import SMALL, whole_reference

from uga.geometry import Level0Region
from uga.virtual.render import render
from uga.virtual.slide import make_cohort, read_manifest, write_virtual_slide
from uga.virtual.spec import SlideSpec


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    specs = [replace(SMALL, centre_id=k, width_um=720, height_um=700, node_um=500) for k in (1, 3)]
    return folder, specs, make_cohort(folder, specs)


class TestFiles:
    def test_openslide_reads_slide_and_mask(self, cohort):
        folder, specs, lines = cohort
        for spec, line in zip(specs, lines, strict=True):
            with openslide.OpenSlide(folder / line.slide) as slide:
                assert slide.dimensions == (spec.width_px, spec.height_px)
                assert slide.level_count >= 3
                assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(spec.centre.spacing_um, rel=1e-4)
                x = spec.width_px // 2
                stored = np.asarray(slide.read_region((x, x), 0, (256, 256)).convert("RGB")).astype(float)
            drawn = render(spec, Level0Region(x, x, 256, 256)).astype(float)
            assert np.abs(stored - drawn).mean() < 12
            with openslide.OpenSlide(folder / line.mask) as mask:
                assert float(mask.properties["openslide.mpp-x"]) == pytest.approx(1.0, rel=1e-6)
            stored_mask = tifffile.imread(folder / line.mask)
            assert np.array_equal(stored_mask, whole_reference(spec))
            assert set(np.unique(stored_mask)) == {0, 1, 2}

    def test_the_manifest_names_what_is_there(self, cohort):
        folder, specs, lines = cohort
        assert read_manifest(folder) == lines
        with (folder / "cohort.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["slide", "mask", "centre", "patient", "class"]
        assert [row["centre"] for row in rows] == ["1", "3"]
        assert all((folder / row["slide"]).exists() and (folder / row["mask"]).exists() for row in rows)
        assert {row["patient"] for row in rows} == {specs[0].patient_id}

    def test_a_second_run_keeps_finished_slides(self, cohort):
        folder, specs, lines = cohort
        before = [(folder / line.slide).stat().st_mtime_ns for line in lines]
        (folder / lines[1].mask).unlink()
        make_cohort(folder, specs)
        after = [(folder / line.slide).stat().st_mtime_ns for line in lines]
        assert after[0] == before[0]
        assert after[1] > before[1]

    def test_a_slide_of_another_specification_is_drawn_anew(self, tmp_path):
        spec = SlideSpec(seed=5, centre_id=1, width_um=300, height_um=300, node_um=150)
        (line,) = make_cohort(tmp_path, [spec])
        first = (tmp_path / line.slide).read_bytes()
        (tmp_path / ".specifications.json").unlink()  # of an older version: what is there is kept
        make_cohort(tmp_path, [spec])
        assert (tmp_path / line.slide).read_bytes() == first
        make_cohort(tmp_path, [replace(spec, width_um=400)])
        with tifffile.TiffFile(tmp_path / line.slide) as tiff:
            assert tiff.pages[0].imagewidth == replace(spec, width_um=400).width_px
        assert tifffile.imread(tmp_path / line.mask, key=0).shape[1] == 400

    def test_a_wide_slide_needs_little_memory(self, tmp_path):
        spec = SlideSpec(seed=1, centre_id=1, width_um=20000, height_um=20000, node_um=300, node_count=1)
        shares = []
        tracemalloc.start()
        write_virtual_slide(spec, tmp_path / "wide.tif", mask_path=tmp_path / "mask.tif", progress=shares.append)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert spec.width_px == 40000
        assert peak < 900e6  # the picture alone has 4.8 GB
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        with openslide.OpenSlide(tmp_path / "wide.tif") as slide:
            assert slide.dimensions == (40000, 40000)
            corner = np.asarray(slide.read_region((10, 10), 0, (5, 5)))[0, 0, :3].astype(int)
            assert corner == pytest.approx(np.array(spec.centre.white), abs=2)
