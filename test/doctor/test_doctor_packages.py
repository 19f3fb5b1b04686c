import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from uga import __version__
from uga.doctor import Request, Verdict, examine, packages
from uga.doctor.packages import check_packages


def verdicts(findings):
    return [finding.verdict for finding in findings]


def test_what_is_installed_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "_PINS", tmp_path / "none")
    *others, last = check_packages()
    assert Verdict.FAILED not in verdicts(others)
    assert last.verdict is Verdict.FINE
    assert f"UGA {__version__}" in last.sentence
    assert f"torch {version('torch')}" in last.sentence


def test_another_version_than_the_pinned_is_noted(monkeypatch, tmp_path):
    pins = tmp_path / "requirements.txt"
    same = version("torch").partition("+")[0]  # a pin does not say which build
    odd = 'numpy>=2\nscipy==\nopenslide-python @ file:///x\npillow == 1; python_version == "3.12"\n'
    pins.write_text(f"# torch==0 is no pin\ntorch=={same}\ntifffile==1.2.3  # why\n{odd}")
    monkeypatch.setattr(packages, "_PINS", pins)
    notes = [each.sentence for each in check_packages() if each.verdict is Verdict.NOTE]
    assert [note for note in notes if "openvino" not in note] == [
        f"tifffile is {version('tifffile')}; UGA is tested with 1.2.3."
    ]


def test_the_pins_that_lie_in_the_repository_are_read():
    assert packages._pins()["nnunetv2"] == version("nnunetv2")


def test_after_a_broken_package_nothing_else_is_tried(monkeypatch):
    def broken(module):
        if module == "openslide":
            raise OSError("libopenslide.so.1: cannot open shared object file")  # as openslide-python does
        return import_module(module)

    monkeypatch.setattr(packages, "import_module", broken)
    findings = list(examine(Request(Path("no-model"))))
    (failure,) = [each for each in findings if each.verdict is Verdict.FAILED]
    assert "openslide-python" in failure.sentence
    assert "libopenslide.so.1" in failure.sentence
    assert findings[-1].sentence.startswith("UGA ")


@pytest.mark.parametrize(("missing", "verdict"), [("openvino", Verdict.NOTE), ("tifffile", Verdict.FAILED)])
def test_openvino_may_be_missing_the_others_not(monkeypatch, missing, verdict):
    def found(package):
        if package == missing:
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(packages, "version", found)
    assert [each.verdict for each in check_packages() if f"{missing} is not installed" in each.sentence] == [verdict]


def test_a_folder_that_an_uninstall_left_is_no_package(monkeypatch):
    monkeypatch.setattr(packages, "version", lambda package: None if package == "scipy" else version(package))
    (failure,) = [each for each in check_packages() if each.verdict is Verdict.FAILED]
    assert failure.sentence == "scipy is not installed; install requirements.txt."


@pytest.mark.parametrize("module", ["torch", "dynamic_network_architectures", "safetensors"])
def test_the_command_tells_what_is_broken_instead_of_breaking(module):
    code = f"""
import sys
sys.modules[{module!r}] = None  # as if it were not there
from uga.cli.console import execute
from uga.cli.main import app
sys.exit(execute(app, ["doctor", "--device", "cpu"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search("^FAILED  .*cannot be imported", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("the lines marked FAILED say what to do.")
