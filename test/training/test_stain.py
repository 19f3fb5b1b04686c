import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed

from uga.errors import UserError
from uga.training.stain import HedJitter, insert_hed_jitter


def _image(low: float = 0.2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(low, 1, (3, 9, 11)).astype(np.float32))


def _apply(image: torch.Tensor, factor: list[float], offset: list[float]) -> torch.Tensor:
    return HedJitter(0.1)._apply_to_image(image, factor=torch.tensor(factor), offset=torch.tensor(offset))


def test_no_change_is_no_change():
    torch.testing.assert_close(_apply(_image(), [1, 1, 1], [0, 0, 0]), _image(), atol=2e-5, rtol=0)


def test_stains_are_those_of_scikit_image():
    # Colours made of positive stains, which scikit-image does not clip.
    stains = np.random.default_rng(1).uniform(0.01, 0.06, (9, 11, 3))
    rgb = hed2rgb(stains)
    changed = _apply(torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32)), [1.2, 0.9, 1.0], [0.0, 0.01, 0.0])
    expected = stains * [1.2, 0.9, 1.0] + [0.0, 0.01, 0.0]
    np.testing.assert_allclose(rgb2hed(changed.numpy().transpose(1, 2, 0)), expected, atol=2e-4)


def test_jitter_is_drawn_within_its_width():
    torch.manual_seed(0)
    draws = [HedJitter(0.05).get_parameters() for _ in range(200)]
    factors = torch.stack([draw["factor"] for draw in draws])
    assert 0.95 <= factors.min() < 0.96
    assert 1.04 < factors.max() <= 1.05


def test_other_normalisations_are_refused():
    with pytest.raises(UserError, match="RGBTo01Normalization"):
        insert_hed_jitter(None, 0.05, ["ZScoreNormalization"] * 3)
