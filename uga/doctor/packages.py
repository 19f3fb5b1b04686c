"""Whether the packages can be imported, and are those that UGA was tested with."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

from uga import __version__
from uga.doctor.finding import failed, fine, note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uga.doctor.finding import Finding

_MODULES = {
    "torch": "torch",
    "nnunetv2": "nnunetv2.utilities.get_network_from_plans",  # the package itself is empty
    "dynamic_network_architectures": "dynamic_network_architectures.architectures.unet",  # nnU-Net's networks
    "openslide-python": "openslide",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "numpy": "numpy",
    "scipy": "scipy",
    "SimpleITK": "SimpleITK",
    "pydicom": "pydicom",
    "opencv-python-headless": "cv2",
    "safetensors": "safetensors.torch",
    "pydantic": "pydantic",
    "pillow": "PIL.Image",
}
_OPTIONAL = {"openvino": "openvino"}
_PIN = re.compile(r"^([\w.-]+)==([\w.+-]+)", re.MULTILINE)
_PINS = Path(__file__).parents[2] / "requirements.txt"


def check_packages() -> Iterator[Finding]:
    """Imports what inference needs; a package whose version is not the pinned one is told."""
    pins = _pins()
    versions = {}
    for package, module in {**_MODULES, **_OPTIONAL}.items():
        found = _version(package)
        if found is None and package in _OPTIONAL:
            yield note(f"{package} is not installed; a CPU computes two to four times as fast with it.")
            continue
        if found is None:
            yield failed(f"{package} is not installed; install requirements.txt.")
            continue
        versions[package] = found
        try:
            import_module(module)
        except Exception as error:  # noqa: BLE001 - shared libraries that are missing or of another processor
            yield failed(f"{package} {found} cannot be imported ({error}); install requirements.txt anew.")
            continue
        release, pinned = found.partition("+")[0], pins.get(package)
        if pinned not in {None, release}:
            yield note(f"{package} is {release}; UGA is tested with {pinned}.")
    told = ", ".join(f"{package} {number}" for package, number in versions.items())
    yield fine(f"UGA {__version__}, Python {python_version()}, {told}")


def _version(package: str) -> str | None:
    """None too where an uninstall that broke off left a folder without a version."""
    try:
        found: str | None = version(package)
    except PackageNotFoundError:
        return None
    return found


def _pins() -> dict[str, str]:
    """Versions of requirements.txt; none where it does not lie beside the package, as in the images."""
    text = _PINS.read_text("utf-8") if _PINS.is_file() else ""
    return dict(_PIN.findall(text))
