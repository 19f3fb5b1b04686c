import numpy as np
import pytest

from uga.finetuning.colours import densities, gains
from uga.finetuning.patches import LearningPatch
from uga.output.schema import NOT_JUDGED

TUMOUR = 2


def patch(centre: str, image: np.ndarray, labels: np.ndarray) -> LearningPatch:
    return LearningPatch("p", "s", "p", centre, labels.size, None, lambda: image, lambda: labels)


def filled(colour: tuple[int, int, int], side: int = 100) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def test_the_density_is_that_of_judged_tissue_without_tumour() -> None:
    image, labels = filled((127, 63, 191)), np.ones((100, 100), np.uint8)
    image[:20], labels[:20] = (10, 10, 10), TUMOUR
    image[20:40], labels[20:40] = (200, 0, 0), NOT_JUDGED
    image[40:45] = 240  # glass
    found = densities([patch("n", image, labels)], TUMOUR)
    assert found["n"] == pytest.approx((np.log(2), np.log(4), np.log(256 / 192)), abs=1e-4)


def test_patches_of_a_centre_count_together_and_centres_without_tissue_are_left_out() -> None:
    labels = np.zeros((100, 100), np.uint8)
    found = densities(
        [
            patch("n", filled((127, 127, 127)), labels),
            patch("n", filled((63, 63, 63)), labels),
            patch("glass", filled((245, 245, 245)), labels),
            patch("tumour", filled((90, 90, 90)), labels + TUMOUR),
            patch("little", filled((90, 90, 90), 70), labels[:70, :70]),
        ],
        TUMOUR,
    )
    assert found == {"n": pytest.approx((1.5 * np.log(2),) * 3, abs=1e-4)}


def test_gains_are_ratios_within_limits() -> None:
    assert gains((0.4, 0.4, 0.4), [(0.2, 0.4, 0.6), (0.1, 0.4, 4.0)]) == (
        (0.5, 1.0, pytest.approx(1.5)),
        (0.5, 1.0, 2.0),
    )


def test_an_image_in_another_centres_colours_has_its_density() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (120, 120, 3), dtype=np.uint8)
    labels = np.zeros((120, 120), np.uint8)
    own = densities([patch("n", image, labels)], TUMOUR)["n"]
    aim = (own[0] * 1.3, own[1] * 0.8, own[2] * 1.1)
    (gain,) = gains(own, [aim])
    changed = (255 * (image / 255) ** gain).round().astype(np.uint8)
    assert densities([patch("n", changed, labels)], TUMOUR)["n"] == pytest.approx(aim, abs=0.02)
