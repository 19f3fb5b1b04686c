"""Pixels and references of virtual slides: determinism, spacings, agreement of the two, centres, artefacts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from virtual_helpers import SMALL, density, whole_reference, whole_slide

from uga.errors import UserError
from uga.geometry import GridRegion, Level0Region
from uga.virtual.centres import CENTRES
from uga.virtual.plan import plan_slide
from uga.virtual.render import BLOCK_PX, Renderer, reference, render
from uga.virtual.spec import SlideSpec

RENDERER = Renderer(SMALL)  # one for all examples, so that they find its cache in any state


class TestDeterminism:
    @settings(max_examples=15)
    @given(data=st.data())
    def test_a_region_is_the_same_cut_from_the_whole(self, data):
        small = whole_slide(SMALL)
        x, y = data.draw(st.integers(0, SMALL.width_px - 1)), data.draw(st.integers(0, SMALL.height_px - 1))
        width, height = (
            data.draw(st.integers(1, min(300, SMALL.width_px - x))),
            data.draw(st.integers(1, min(300, SMALL.height_px - y))),
        )
        part = RENDERER.region(Level0Region(x, y, width, height))
        assert np.array_equal(part, small[y : y + height, x : x + width])

    def test_a_fresh_renderer_draws_the_same(self):
        small = whole_slide(SMALL)
        x, y = SMALL.width_px - 200, SMALL.height_px // 2
        assert np.array_equal(render(SMALL, Level0Region(x, y, 200, 150)), small[y : y + 150, x : x + 200])

    def test_references_do_not_depend_on_the_tiling(self):
        whole = whole_reference(SMALL)
        for tile in GridRegion(-30, -7, SMALL.reference_grid.width + 60, SMALL.reference_grid.height + 20).tiles(333):
            part = reference(SMALL, tile)
            inside = tile.intersection(SMALL.reference_grid.region)
            expected = np.zeros_like(part)
            expected[inside.y - tile.y : inside.y_end - tile.y, inside.x - tile.x : inside.x_end - tile.x] = whole[
                inside.y : inside.y_end, inside.x : inside.x_end
            ]
            assert np.array_equal(part, expected)

    def test_blocks_join_without_a_seam(self):
        small = whole_slide(SMALL)
        edge = small[:, BLOCK_PX - 4 : BLOCK_PX + 4].astype(float)
        steps = np.abs(np.diff(edge, axis=1)).mean(axis=(0, 2))
        assert steps[3] < 1.25 * np.delete(steps, 3).max()

    def test_outside_the_slide_is_white(self):
        part = render(SMALL, Level0Region(-10, -10, 30, 30))
        assert (part[:10] == 255).all()
        assert (part[10:, 10:] == Renderer(SMALL).glass).all()

    def test_another_seed_is_other_tissue(self):
        other = whole_reference(replace(SMALL, seed=6))
        assert (other != whole_reference(SMALL)).mean() > 0.02


class TestSpacings:
    def test_both_spacings_show_the_same_tissue(self):
        fine_spec, coarse_spec = replace(SMALL, centre_id=2), replace(SMALL, centre_id=1)
        node = plan_slide(SMALL).nodes[0].shape
        x, y = int(node.x_um) - 120, int(node.y_um) - 260
        fine = render(fine_spec, Level0Region(4 * x, 4 * y, 1600, 1200))
        coarse = render(coarse_spec, Level0Region(2 * x, 2 * y, 800, 600))
        fine_od = density(fine, CENTRES[2].white)[..., 0].reshape(300, 4, 400, 4).mean(axis=(1, 3))
        coarse_od = density(coarse, CENTRES[1].white)[..., 0].reshape(300, 2, 400, 2).mean(axis=(1, 3))
        assert np.corrcoef(fine_od.ravel(), coarse_od.ravel())[0, 1] > 0.9


class TestReferenceFitsThePixels:
    def test_tumour_is_where_large_nuclei_are_drawn(self):
        small = whole_slide(SMALL)
        labels = whole_reference(SMALL)
        red = density(small, CENTRES[1].white)[..., 0]
        dark = ndimage.label(ndimage.binary_opening(red > 0.34, np.ones((2, 2))))[0]
        sizes = np.bincount(dark.ravel())
        centres = ndimage.center_of_mass(np.ones_like(dark), dark, np.arange(1, len(sizes)))
        label = np.array([labels[int(y / 2), int(x / 2)] for y, x in centres])
        depth = ndimage.distance_transform_edt(labels == 2)
        assert (label == 2).sum() > 100
        assert (label == 0).sum() < 0.01 * len(label)
        # Vesicular nuclei: inside the deposit the mean density is below the lymphocytes', eosin above.
        benign_deep = ndimage.distance_transform_edt(labels == 1) > 60
        blue_red = density(small, CENTRES[1].white)[::2, ::2]
        ratio = blue_red[..., 1] / (blue_red[..., 0] + 0.05)
        assert ratio[depth[: ratio.shape[0], : ratio.shape[1]] > 15].mean() > ratio[benign_deep].mean() + 0.1

    def test_glass_is_empty_and_tissue_is_not(self):
        small = whole_slide(SMALL)
        labels = whole_reference(SMALL)
        od = density(small, CENTRES[1].white).mean(axis=2)[::2, ::2]
        glass = ndimage.binary_erosion(labels == 0, iterations=4, border_value=1)
        assert glass.mean() > 0.1
        assert od[glass].max() < 0.01
        assert od[labels == 1].mean() > 0.2

    def test_the_edge_of_a_deposit_is_the_edge_in_the_picture(self):
        small = whole_slide(SMALL)
        labels = whole_reference(SMALL)
        od = density(small, CENTRES[1].white)
        eosin = (od[..., 1] - 1.2 * od[..., 0])[::2, ::2]
        inside = ndimage.distance_transform_edt(labels == 2)
        outside = ndimage.distance_transform_edt(labels != 2)
        node = ndimage.distance_transform_edt(labels != 0) > 150
        near_in, near_out = eosin[(inside > 2) & (inside <= 8)], eosin[(outside > 2) & (outside <= 8) & node]
        far_in, far_out = eosin[(inside > 12) & (inside < 30)], eosin[(outside > 12) & (outside < 30) & node]
        step = far_in.mean() - far_out.mean()
        assert step > 0.05
        assert near_in.mean() - near_out.mean() > 0.5 * step


class TestCentres:
    def test_they_stain_differently(self):
        node = plan_slide(SMALL).nodes[0].shape
        means = []
        for k, centre in CENTRES.items():
            s = centre.spacing_um
            spec = replace(SMALL, centre_id=k)
            x, y, side = round(node.x_um / s), round((node.y_um - 250) / s), round(250 / s)
            means.append(render(spec, Level0Region(x, y, side, side)).reshape(-1, 3).mean(axis=0))
        for k, mean in enumerate(means):
            for other in means[:k]:
                assert np.abs(mean - other).max() > 15

    def test_no_stain_is_glass(self):
        nothing = np.zeros((2, 3), dtype=np.float32)
        for centre in CENTRES.values():
            assert centre.develop(nothing, nothing) == pytest.approx(np.broadcast_to(centre.white, (2, 3, 3)), abs=0.01)

    def test_an_unknown_centre_is_refused(self):
        with pytest.raises(UserError, match="centre 9"):
            SlideSpec(seed=1, centre_id=9)


class TestArtefacts:
    def test_they_change_pixels_but_not_the_reference(self):
        small = whole_slide(SMALL)
        marked = replace(SMALL, pen_marks=2, folds=2, blurred_areas=2, bubbles=2, dust=30)
        assert np.array_equal(whole_reference(marked), whole_reference(SMALL))
        for single in ("pen_marks", "folds", "blurred_areas", "bubbles"):
            changed = np.any(whole_slide(replace(SMALL, **{single: 1})) != small, axis=2)
            assert 0.0005 < changed.mean() < 0.7, single
