from pathlib import Path

import pytest

from uga.errors import SpacingError
from uga.geometry import SpacingUm
from uga.slide.spacing import level_scale, resolve_spacing

PATH, SIZE = Path("a.svs"), (40_000, 30_000)


@pytest.mark.parametrize(
    "stated",
    [
        None,
        SpacingUm(0, 0.5),
        SpacingUm(-1, 1),
        SpacingUm(float("nan"), 0.5),
        SpacingUm(0.00499, 0.00499),
        SpacingUm(352.8, 352.8),
        SpacingUm(0.2, 0.5),
        SpacingUm(10, 10),
    ],
)
def test_missing_or_impossible_spacing_names_the_option_and_the_file(stated):
    with pytest.raises(SpacingError, match=r"a\.svs.*--mpp"):
        resolve_spacing(PATH, stated, None, SIZE)


def test_an_extent_of_a_few_micrometres_is_impossible():
    with pytest.raises(SpacingError, match=r"mm long.*--mpp"):
        resolve_spacing(PATH, SpacingUm(0.06, 0.06), None, (180, 100))


def test_the_files_spacing_is_kept_per_axis():
    assert resolve_spacing(PATH, SpacingUm(0.2501, 0.2499), None, SIZE) == SpacingUm(0.2501, 0.2499)


def test_the_users_spacing_always_wins():
    for stated in (None, SpacingUm(0.00499, 0.00499), SpacingUm(0.25, 0.25)):
        assert resolve_spacing(PATH, stated, 0.499, SIZE) == SpacingUm(0.499, 0.499)


@pytest.mark.parametrize("given", [0.0, -0.5, 1000.0, float("nan"), float("inf")])
def test_an_impossible_given_spacing_is_refused(given):
    with pytest.raises(SpacingError, match="--mpp"):
        resolve_spacing(PATH, SpacingUm(0.25, 0.25), given, SIZE)


def test_level_scale_is_the_writers_factor_where_sizes_were_rounded():
    assert level_scale((46000, 32914), (11500, 8228)) == (4.0, 4.0)  # Aperio rounds down
    assert level_scale((2221, 2967), (1111, 1484)) == (2.0, 2.0)  # libvips rounds up
    assert level_scale((900, 600), (300, 200)) == (3.0, 3.0)
    assert level_scale((1000, 800), (400, 320)) == (2.5, 2.5)
