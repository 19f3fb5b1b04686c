"""The MONAI Application Package's manifests, by the rules of its specification."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

import pytest

from uga.cli.console import execute
from uga.cli.main import app
from uga.monai import manifests, write_manifests

VARIABLES = {"INPUT_PATH", "OUTPUT_PATH", "WORKDIR", "MODEL_PATH", "CONFIG_PATH", "APP_MANIFEST_PATH",
             "PKG_MANIFEST_PATH", "DOCS", "LOGS"}  # fmt: skip
SEMANTIC_VERSION = re.compile(r"\d+\.\d+\.\d+")


@pytest.mark.parametrize("program", ["process.py", "finetune.py"])
def test_manifests_have_what_the_specification_requires(program: str) -> None:
    application, package = manifests(program)["app.json"], manifests(program)["pkg.json"]
    assert application["type"] == "application"
    assert json.loads(application["command"]) == ["python", f"{package['applicationRoot']}/{program}"]
    assert set(application["environment"]) == {f"HOLOSCAN_{name}" for name in VARIABLES}
    assert application["input"]["formats"] == ["file"]
    assert application["output"]["format"] == "file"
    assert application["input"]["path"] == application["environment"]["HOLOSCAN_INPUT_PATH"]
    assert package["modelRoot"] == application["environment"]["HOLOSCAN_MODEL_PATH"]
    for version in (application["version"], application["apiVersion"], package["version"], package["apiVersion"]):
        assert SEMANTIC_VERSION.fullmatch(version)
    for path in (application["workingDirectory"], package["applicationRoot"], package["modelRoot"]):
        assert PurePosixPath(path).is_absolute()
    for size in (package["resources"]["memory"], package["resources"]["sharedMemory"]):
        assert re.fullmatch(r"\d+(Mi|Gi)", size)


def test_the_models_named_are_the_models_shipped() -> None:
    weights = Path(__file__).parents[1] / "weights"
    for model in manifests("process.py")["pkg.json"]["models"]:
        assert (weights / model["path"] / "model.json").is_file()


def test_describe_prints_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(app, ["infer", "--describe", "--input", "/does/not/exist"]) == 0
    shown = json.loads(capsys.readouterr().out)
    write_manifests("process.py", tmp_path / "holoscan")
    assert shown == {path.name: json.loads(path.read_text()) for path in sorted((tmp_path / "holoscan").iterdir())}
