"""Manifests of the MONAI Application Package (specification 1.0): what the images say about themselves.

``app.json`` tells a runner how to start the program and where its data lie, ``pkg.json`` what it needs. The images
carry both in ``/etc/holoscan``. ``python -m uga.monai process.py FOLDER`` writes them into a folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from uga import __version__

_API_VERSION = "1.0.0"
_APPLICATION = "/opt/app"
_MODELS = "/opt/holoscan/models"
_WORK = "/var/holoscan"
_ENVIRONMENT = {
    "HOLOSCAN_INPUT_PATH": f"{_WORK}/input",
    "HOLOSCAN_OUTPUT_PATH": f"{_WORK}/output",
    "HOLOSCAN_WORKDIR": _WORK,
    "HOLOSCAN_MODEL_PATH": _MODELS,
    "HOLOSCAN_CONFIG_PATH": f"{_WORK}/app.yaml",
    "HOLOSCAN_APP_MANIFEST_PATH": "/etc/holoscan/app.json",
    "HOLOSCAN_PKG_MANIFEST_PATH": "/etc/holoscan/pkg.json",
    "HOLOSCAN_DOCS": "/opt/holoscan/docs",
    "HOLOSCAN_LOGS": f"{_WORK}/logs",
}


def manifests(program: str) -> dict[str, dict[str, Any]]:
    """``app.json`` and ``pkg.json`` of the image that runs ``program``, a file in the application's folder."""
    return {"app.json": _application(program), "pkg.json": _package()}


def write_manifests(program: str, folder: Path) -> None:
    """Write both files into ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in manifests(program).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _application(program: str) -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSION,
        "type": "application",
        "command": json.dumps(["python", f"{_APPLICATION}/{program}"]),
        "environment": _ENVIRONMENT,
        "input": {"path": _ENVIRONMENT["HOLOSCAN_INPUT_PATH"], "formats": ["file"]},
        "output": {"path": _ENVIRONMENT["HOLOSCAN_OUTPUT_PATH"], "format": "file"},
        "timeout": 0,
        "version": __version__,
        "workingDirectory": _WORK,
    }


def _package() -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSION,
        "applicationRoot": _APPLICATION,
        "modelRoot": _MODELS,
        "models": [{"name": "demo", "path": "demo"}],
        # A GPU is used where there is one; asking for it would keep runners from hosts that have none.
        "resources": {"cpu": 2, "gpu": 0, "memory": "8Gi", "sharedMemory": "64Mi"},
        "version": __version__,
    }


if __name__ == "__main__":
    write_manifests(sys.argv[1], Path(sys.argv[2]))
