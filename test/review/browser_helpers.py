"""A real Chromium at a real page, and what its tools should paint, worked out again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from uga.output.schema import PatchRecord

UInt8 = NDArray[np.uint8]

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAME = "Dr Ä. Müller"
PATCHES = 4
SIZE = 1024
"""Side of a patch of the fixture ``made`` in pixels."""
BRUSH = 32
STEPS = 4
"""Points of a path lie on quarters of a pixel."""


def find_chromium() -> str | None:
    """The browser to drive: UGA_CHROMIUM, or one that is installed."""
    names = (os.environ.get("UGA_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def screenshot_folder(fallback: Path) -> Path:
    """UGA_SCREENSHOTS, such as docs/images, or a folder that is thrown away."""
    folder = Path(os.environ.get("UGA_SCREENSHOTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- the raster, by numpy in whole numbers ---


def stroke(labels: UInt8, path: list[tuple[int, int]], diameter: int, value: int | UInt8) -> UInt8:
    """What a brush paints along a path of points in quarter pixels; ``value`` may be a map to take values from."""
    size = len(labels)
    centre = np.arange(size, dtype=np.int64) * STEPS + STEPS // 2
    x, y = centre[None, :], centre[:, None]
    reach2 = (diameter * STEPS // 2) ** 2
    painted = np.zeros(labels.shape, bool)
    for (ax, ay), (bx, by) in zip(path, path[1:] or path, strict=False):
        vx, vy = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        along, length2 = wx * vx + wy * vy, vx * vx + vy * vy
        to_start, to_end = wx**2 + wy**2, (wx - vx) ** 2 + (wy - vy) ** 2
        beside = (vx * wy - vy * wx) ** 2 <= reach2 * length2
        painted |= np.where(along <= 0, to_start <= reach2, np.where(along >= length2, to_end <= reach2, beside))
    for px, py in path:
        if 0 <= px < size * STEPS and 0 <= py < size * STEPS:
            painted[py // STEPS, px // STEPS] = True
    result = labels.copy()
    result[painted] = value[painted] if isinstance(value, np.ndarray) else value
    return result


def polygon(labels: UInt8, corners: list[tuple[int, int]], value: int) -> UInt8:
    """What a polygon of corners in quarter pixels fills: by counting, for each pixel, the edges to its right."""
    size = len(labels)
    centre = np.arange(size, dtype=np.int64) * STEPS + STEPS // 2
    x, y = np.meshgrid(centre, centre)
    inside = np.zeros(labels.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        spans = (ay <= y) != (by <= y)
        # The edge crosses the pixel's row to the right of its centre: x < ax + (y - ay) (bx - ax) / (by - ay).
        left = (x - ax) * (by - ay)
        right = (y - ay) * (bx - ax)
        inside ^= spans & (left < right if by > ay else left > right)
    result = labels.copy()
    result[inside] = value
    return result


def flood(labels: UInt8, x: int, y: int, value: int) -> UInt8:
    """What a fill at a pixel changes: the area of its value that hangs together over sides."""
    from scipy.ndimage import label  # noqa: PLC0415

    areas, _ = label(labels == labels[y, x])
    result = labels.copy()
    result[areas == areas[y, x]] = value
    return result


# --- the page ---


@dataclass(frozen=True)
class Place:
    """Where a patch lies in the window while the whole of it is shown: corner and CSS pixels per pixel."""

    x: float
    y: float
    scale: float

    @classmethod
    def of(cls, page: Any, size: int) -> Place:
        """From the size of the viewer alone: the patch with 6 % of margin, in the middle."""
        box = page.locator(".stage").bounding_box()
        scale = min(box["width"], box["height"]) / (size * 1.12)
        return cls(box["x"] + (box["width"] - size * scale) / 2, box["y"] + (box["height"] - size * scale) / 2, scale)

    def on_lattice(self, x: float, y: float) -> tuple[int, int]:
        """A point of the window in quarter pixels of the patch; it must not be near the middle of two."""
        exact = [(x - self.x) / self.scale * STEPS, (y - self.y) / self.scale * STEPS]
        assert all(abs(value % 1 - 0.5) > 1e-3 for value in exact), "choose another point"
        return int(np.floor(exact[0] + 0.5)), int(np.floor(exact[1] + 0.5))

    def window(self, x: float, y: float) -> tuple[int, int]:
        """The whole point of the window nearest to a pixel of the patch."""
        return round(self.x + x * self.scale), round(self.y + y * self.scale)


def enter(page: Any, address: str, name: str = NAME) -> None:
    """Open an announced address and give a name."""
    page.goto(address)
    page.locator("#reviewer").fill(name)
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for(state="detached")


def wait_for_patch(page: Any, place: int) -> None:
    """Until the editor shows a patch and can be painted on."""
    page.locator("h1", has_text=re.compile(f"^Patch {place} of ")).wait_for()
    page.locator(".stage[data-shows]").wait_for()
    page.wait_for_timeout(700)  # nothing can be decided before a patch was looked at for this long


def wait_until_saved(page: Any) -> None:
    page.locator(".status-saved").wait_for()


def wait_until_undone(page: Any, *, redone: bool = False) -> None:
    """Until the last step, or the last but one, is shown and on disk."""
    page.locator(f".rail button[title^=Redo]{'[disabled]' if redone else ':not([disabled])'}").wait_for()
    wait_until_saved(page)


def drag(page: Any, points: list[tuple[int, int]], *, button: str = "left") -> None:
    """Press at the first point, move over the others, let go."""
    page.mouse.move(*points[0])
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up(button=button)


def touching(page: Any) -> Callable[..., None]:
    """Sends what fingers do: a kind of event, and where they are then."""
    session = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    return fingers


# --- on disk ---


def read_png(file: Path):
    return np.ascontiguousarray(imagecodecs.png_decode(file.read_bytes()))


def review_of(package: Path):
    return PatchRecord.model_validate_json((package / "patch.json").read_bytes()).review


def predicted(package: Path):
    return read_png(package / "prediction.png")


def check_labels(package: Path, expected):
    """correction.png, pixel for pixel."""
    found = read_png(package / "correction.png")
    assert found.dtype == np.uint8
    different = int((found != expected).sum())
    assert different == 0, f"{different} pixels differ"


def wait_for_labels(page, package: Path, expected):
    """`check_labels`, once the page has sent what was just done."""
    wait_until_saved(page)
    check_labels(package, expected)


def paint(page, place, points, *, diameter=BRUSH, value, labels):
    """Drag the tool over points given in pixels of the patch; gives what the labels should be then."""
    window = [place.window(*point) for point in points]
    drag(page, window)
    return stroke(labels, [place.on_lattice(*point) for point in window], diameter, value)
