"""Checks an archive that export.sh has written, read from stdin, by the rules of grand-challenge; runs inside an image.

``check_archive.py image --title TITLE [--api-method METHOD]``: a saved container image.
``check_archive.py model``: a model tarball; unpacked as the platform does it, then every hash and weight is verified.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from uga.errors import UgaError
from uga.model.folder import verify_model

_MAX_CONFIG_BYTES = 1 << 20
_BLOBS = "blobs/sha256/"


def main() -> int:
    """Checks stdin; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    image = commands.add_parser("image")
    image.add_argument("--title", required=True)
    image.add_argument("--api-method", default="")
    commands.add_parser("model")
    options = parser.parse_args()
    try:
        if options.command == "model":
            check_model()
        else:
            check_image(options.title, options.api_method)
    except (ValueError, KeyError, tarfile.TarError, EOFError, OSError, UgaError) as error:
        sys.stderr.write(f"The archive is not sound: {error}\n")
        return 2
    return 0


def check_image(title: str, api_method: str) -> None:
    """One image, amd64, numeric user other than root, the right labels."""
    manifest, configs = None, {}
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz") as archive:
        for member in archive:
            small = member.isfile() and member.size <= _MAX_CONFIG_BYTES
            if small and (member.name.endswith(".json") or member.name.startswith(_BLOBS)):
                stream = archive.extractfile(member)
                assert stream is not None  # noqa: S101 - it is a file
                configs[member.name] = stream.read()
        manifest = json.loads(configs["manifest.json"])
    if len(manifest) != 1:
        raise ValueError(f"it holds {len(manifest)} images, not one.")
    config = json.loads(configs[manifest[0]["Config"]])
    settings, labels = config["config"], config["config"].get("Labels") or {}
    user = settings.get("User", "").partition(":")[0]
    if not user.isdecimal() or int(user) == 0:
        raise ValueError(f"its user is {user!r}, not a number other than 0.")
    if (config["os"], config["architecture"]) != ("linux", "amd64"):
        raise ValueError(f"it is for {config['os']}/{config['architecture']}, not linux/amd64.")
    if not settings.get("Entrypoint"):
        raise ValueError("it has no entry point.")
    if labels.get("org.opencontainers.image.title") != title:
        raise ValueError(f"it is {labels.get('org.opencontainers.image.title')!r}, not {title!r}.")
    if api_method and labels.get("org.grand-challenge.api-method") not in {"exec", "invoke"}:
        raise ValueError("its label org.grand-challenge.api-method is neither exec nor invoke.")
    if (labels.get("org.grand-challenge.api-method") == "invoke") != (settings.get("Cmd") == ["--serve"]):
        raise ValueError("its label org.grand-challenge.api-method does not fit its command.")


def check_model() -> None:
    """A model that verifies once it is unpacked; no folder around it, no links."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz") as archive:
            for member in archive:
                if not (member.isfile() or member.isdir()) or not _is_inside(member.name):
                    raise ValueError(f"{member.name} is no plain file inside the folder.")
                archive.extract(member, folder, set_attrs=False)
        if not (Path(folder) / "model.json").is_file():
            raise ValueError("model.json is not at its top.")
        verify_model(Path(folder))


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


if __name__ == "__main__":
    sys.exit(main())
