import cv2
import numpy as np
from review_helpers import SIZE, predicted

from uga.review.spots import label_outlines, uncertain_spots


def drawn(contours, size):
    """The area within contours, by the even-odd rule; a pixel is drawn if its centre is inside or on the line."""
    canvas = np.zeros((size, size), np.uint8)
    lines = [np.array(line).reshape(-1, 2) for line in contours]
    cv2.drawContours(canvas, [np.round(line - 0.5).astype(np.int32)[:, None] for line in lines], -1, 1, cv2.FILLED)
    return canvas.astype(bool)


def bumps(*places, size=400):
    yy, xx = np.mgrid[:size, :size]
    values = np.full((size, size), 10.0)
    for x, y, height, width in places:
        values += height * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * width**2))
    return values.clip(0, 255).astype(np.uint8)


def test_spots_lie_where_uncertainty_is_the_most_uncertain_first():
    uncertainty = bumps((100, 100, 200, 30), (300, 90, 120, 20), (200, 320, 90, 16))
    first, second, *_ = spots = uncertain_spots(uncertainty)
    for spot, (x, y) in zip(spots, ((100, 100), (300, 90), (200, 320)), strict=False):
        assert spot["x"] < x < spot["x"] + spot["width"]
        assert spot["y"] < y < spot["y"] + spot["height"]
        inside = drawn(spot["contours"], 400)
        assert inside[y, x]
        assert uncertainty[inside].min() > uncertainty[~inside].mean()
    assert drawn(first["contours"], 400).sum() > drawn(second["contours"], 400).sum()


def test_no_spots_where_nothing_is_uncertain():
    assert uncertain_spots(np.zeros((SIZE, SIZE), np.uint8)) == []
    assert uncertain_spots(np.full((SIZE, SIZE), 5, np.uint8)) == []
    speck = np.zeros((200, 200), np.uint8)
    speck[100, 100] = 255
    assert uncertain_spots(speck) == []


def test_there_are_never_too_many():
    rng = np.random.default_rng(2)
    places = [(*rng.integers(30, 970, 2), 200, 14) for _ in range(40)]
    assert len(uncertain_spots(bumps(*places, size=1000))) == 12


def test_a_spot_at_the_edge_is_closed():
    (spot, *_) = uncertain_spots(bumps((0, 200, 200, 40)))
    assert spot["x"] == 0
    assert min(spot["contours"][0][::2]) == 0.5


def test_outlines_lie_on_the_labels_edges():
    labels = np.zeros((60, 60), np.uint8)
    labels[10:40, 20:50] = 2
    labels[20:30, 30:40] = 0
    outlines = label_outlines(labels, (1, 2))
    assert outlines[0] == {"value": 1, "contours": []}
    inside = drawn(outlines[1]["contours"], 60)
    assert (inside != (labels == 2)).sum() <= 4 * 10, "but for the hole's own edge"
    assert {outline["value"] for outline in label_outlines(predicted(), (1, 2))} == {1, 2}
