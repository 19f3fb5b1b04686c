"""Layout of virtual slides: the same in every centre, lesions of the size of their class."""

from dataclasses import replace

import pytest
from virtual_helpers import SMALL, diameters_um, whole_reference

from uga.errors import UserError
from uga.virtual.centres import CENTRES
from uga.virtual.plan import ITC_LIMIT_UM, MICRO_LIMIT_UM, plan_slide
from uga.virtual.spec import LesionClass, SlideSpec


class TestLayout:
    def test_the_layout_is_the_same_in_every_centre(self):
        plans = [plan_slide(replace(SMALL, centre_id=k)) for k in CENTRES]
        assert all(plan == plans[0] for plan in plans)
        assert {CENTRES[k].spacing_um for k in CENTRES} == {0.25, 0.499, 0.5}

    def test_nodes_that_do_not_fit_are_refused(self):
        with pytest.raises(UserError, match="do not fit"):
            plan_slide(replace(SMALL, node_count=5))


class TestLesions:
    @pytest.mark.parametrize("seed", range(4))
    def test_lesions_have_the_size_of_their_class(self, seed):
        spec = SlideSpec(seed=seed)
        assert 2 not in whole_reference(spec)
        itc = diameters_um(whole_reference(replace(spec, lesion=LesionClass.ITC)))
        assert itc
        assert max(itc) <= ITC_LIMIT_UM
        micro = max(diameters_um(whole_reference(replace(spec, lesion=LesionClass.MICRO))))
        assert ITC_LIMIT_UM < micro <= MICRO_LIMIT_UM
        macro = max(diameters_um(whole_reference(replace(spec, lesion=LesionClass.MACRO))))
        assert macro > 1.6 * micro
        assert macro > 0.7 * spec.node_um

    def test_large_nodes_carry_macrometastases_above_two_millimetres(self):
        spec = SlideSpec(seed=3, lesion=LesionClass.MACRO, width_um=5200, height_um=5200, node_um=3800)
        assert max(diameters_um(whole_reference(spec))) > MICRO_LIMIT_UM
