"""The built images under the platform's flags; run by .ci/containers, skipped where no image is named.

``UGA_TEST_IMAGE`` and ``UGA_TEST_FINETUNE_IMAGE`` name the images, ``DOCKER`` the engine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tifffile
from model_helpers import make_trained_folder
from panimg import convert
from panimg.image_builders.metaio_mhd_mha import image_builder_mhd
from panimg.image_builders.tiff import image_builder_tiff
from panimg.models import ColorSpace
from slide_files import real_data, write_tiff
from test_process import last_line, tissue_like
from test_sockets import job, socket

from uga.monai import manifests

IMAGE = os.environ.get("UGA_TEST_IMAGE", "")
FINETUNE_IMAGE = os.environ.get("UGA_TEST_FINETUNE_IMAGE", "")
ENGINE = os.environ.get("DOCKER", "docker")
FLAGS = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--shm-size", "128m", "--pids-limit", "256",  # noqa: S108
         "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
         *(("--env", "OMP_NUM_THREADS") if "OMP_NUM_THREADS" in os.environ else ()))  # fmt: skip
LIMITS = ("--user", "1000:1000", "--memory", "8g")

pytestmark = pytest.mark.skipif(
    not IMAGE, reason="no image named by UGA_TEST_IMAGE; .ci/containers builds and tests them"
)


def engine(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ENGINE, *map(str, arguments)], capture_output=True, text=True, check=check)


class Container:
    """A container of the inference image with folders of its own for input and output."""

    def __init__(self, folder: Path, *flags: object, limits: tuple[str, ...] = LIMITS) -> None:
        self.name = f"uga-test-{uuid.uuid4().hex[:12]}"
        self.input, self.output = folder / "in", folder / "out"
        self.input.mkdir(exist_ok=True)
        self.output.mkdir(exist_ok=True)
        self.output.chmod(0o777)
        self._flags = (*FLAGS, *limits, *flags, "-v", f"{self.input}:/input:ro", "-v", f"{self.output}:/output")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return engine("run", "--rm", "--name", self.name, *self._flags, IMAGE, *arguments, check=False)

    @contextmanager
    def running(self, *arguments: object) -> Iterator[None]:
        engine("run", "--detach", "--name", self.name, *self._flags, IMAGE, *arguments)
        try:
            yield
        finally:
            engine("rm", "--force", self.name)

    def stop(self, grace_s: int = 5) -> tuple[int, str]:
        """Stops it as the platform does; returns exit code and stderr."""
        engine("stop", "--time", grace_s, self.name)
        code = int(engine("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)
        return code, engine("logs", self.name).stderr

    def ask(self, method: str, path: str) -> int:
        code = (
            "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 4743); "
            "c.request(*sys.argv[1:]); print(c.getresponse().status)"
        )
        answer = engine("exec", self.name, "python", "-c", code, method, path, check=False)
        return int(answer.stdout) if answer.returncode == 0 else 0

    def memory_bytes(self) -> int:
        status = engine("exec", self.name, "cat", "/proc/1/status").stdout
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def put_slide(self, name: str, *, size: int = 500, seed: int = 0) -> Path:
        """Empties the input and puts a job with one slide there."""
        for entry in self.input.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        job(self.input, socket("wsi", "images/wsi"))
        path = self.input / "images" / "wsi" / f"{name}.tif"
        path.parent.mkdir(parents=True)
        return write_tiff(path, tissue_like(size, size, seed=seed))

    def check_nothing_looks_finished(self) -> None:
        assert not (self.output / "manifest.json").exists()
        assert not list(self.output.rglob("*.tif"))


def check_import(folder: Path, scratch: Path, segments: set[int] | None) -> None:
    """What the platform's own importer makes of an output socket."""
    (image,) = convert(
        input_directory=folder, output_directory=scratch, builders=[image_builder_mhd, image_builder_tiff]
    ).new_images
    assert image.color_space == ColorSpace.GRAY
    assert (image.voxel_width_mm, image.voxel_height_mm) == pytest.approx((0.001, 0.001))
    with tifffile.TiffFile(next(folder.glob("*.tif"))) as tiff:
        assert image.resolution_levels == len(tiff.pages)
        assert (image.height, image.width) == tiff.pages[0].shape
    assert image.segments == segments


def test_the_images_are_what_the_platform_takes() -> None:
    for image, program, title in (
        (IMAGE, "process.py", "UGA inference"),
        (FINETUNE_IMAGE, "finetune.py", "UGA fine-tuning"),
    ):
        (facts,) = json.loads(engine("image", "inspect", image).stdout)
        user = facts["Config"]["User"].split(":")[0]
        assert user.isdecimal()
        assert int(user) > 0
        assert (facts["Os"], facts["Architecture"]) == ("linux", "amd64")
        labels = facts["Config"]["Labels"]
        assert labels["org.opencontainers.image.title"] == title
        assert labels.get("org.grand-challenge.api-method") == ("exec" if image == IMAGE else None)
        assert facts["Config"]["Entrypoint"] == ["python", f"/opt/app/{program}"]
        for name, content in manifests(program).items():
            shown = engine("run", "--rm", "--entrypoint", "cat", image, f"/etc/holoscan/{name}").stdout
            assert json.loads(shown) == content
        bill = json.loads(engine("run", "--rm", "--entrypoint", "cat", image, "/opt/app/sbom.cdx.json").stdout)
        assert bill["bomFormat"] == "CycloneDX"
        names = {component["name"] for component in bill["components"]}
        assert {"torch", "nnunetv2", "openslide-python"} <= names
        assert "cyclonedx-bom" not in names
        installed = engine("run", "--rm", "--entrypoint", "python", image, "-m", "pip", "list").stdout
        assert "cyclonedx" not in installed
        assert engine("run", "--rm", "--network", "none", "--read-only", image, "--help").returncode == 0


@pytest.mark.real
def test_the_real_slide_under_the_platforms_flags(tmp_path: Path) -> None:
    container = Container(tmp_path)
    shutil.copy(real_data() / "cmu-1-small-region" / "CMU-1-Small-Region.svs", container.input)
    done = container.run("--output", "/output")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    manifest = json.loads((container.output / "manifest.json").read_text())
    assert manifest["peak_memory_bytes"] < 4 << 30
    check_import(container.output / "images" / "segmentation", tmp_path / "s", {0, 1})
    check_import(container.output / "images" / "uncertainty", tmp_path / "u", None)


def test_three_cases_in_one_life(tmp_path: Path) -> None:
    """Inputs are swapped underneath; a failing case between them; memory stays; SIGTERM ends the idle server well."""
    container = Container(tmp_path)
    memory = []
    with container.running("--serve"):
        deadline = time.monotonic() + 120
        while container.ask("GET", "/health") != 200:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        for number, name in enumerate(("first", "second", "torn", "third")):
            slide = container.put_slide(name, size=500 + 40 * number, seed=number)
            if name == "torn":
                slide.write_bytes(slide.read_bytes()[:2000])
                assert container.ask("POST", "/invoke") == 422
                assert "torn.tif" in last_line(engine("logs", container.name).stderr)
                container.check_nothing_looks_finished()
                continue
            assert container.ask("POST", "/invoke") == 201
            manifest = json.loads((container.output / "manifest.json").read_text())
            assert manifest["input"]["id"] == name
            assert manifest["input"]["width"] == 500 + 40 * number
            check_import(container.output / "images" / "segmentation", tmp_path / name, {0, 1})
            memory.append(container.memory_bytes())
        code, _ = container.stop()
    assert code == 0
    assert memory[2] < 1.15 * memory[1]


def test_time_out(tmp_path: Path) -> None:
    container = Container(tmp_path)
    container.put_slide("slow", size=3000)
    with container.running("--output", "/output"):
        deadline = time.monotonic() + 120
        while not list(container.output.rglob("*.tif.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code, errors = container.stop()
    assert code == 143
    assert "Stopped by SIGTERM" in last_line(errors)
    assert not [path for path in container.output.rglob("*") if path.is_file()]


def test_killed_for_memory(tmp_path: Path) -> None:
    container = Container(tmp_path, limits=("--user", "1000:1000", "--memory", "300m", "--memory-swap", "300m"))
    container.put_slide("large", size=3000)
    assert container.run("--output", "/output").returncode == 137
    container.check_nothing_looks_finished()


def test_memory_limit_of_the_process(tmp_path: Path) -> None:
    """The platform also limits the data segment, which shows as a failing allocation."""
    container = Container(tmp_path, "--ulimit", f"data={500 << 20}", "--env", "OMP_NUM_THREADS=1")
    container.put_slide("large", size=3000)
    done = container.run("--output", "/output")
    assert done.returncode == 1, done.stderr
    assert "emory ran out" in last_line(done.stderr)
    container.check_nothing_looks_finished()


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        ("no input", 2, "No slide was found"),
        ("missing socket", 2, "must hold exactly one"),
        ("unknown socket", 2, "2 images as slide"),
        ("no permission", 1, "permission"),
        ("no slide", 1, "bad.tif"),
        ("wrong model", 2, "holds no model.json"),
        ("altered model", 2, "was altered or damaged"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_sentence(tmp_path: Path, fault: str, code: int, sentence: str) -> None:
    model = tmp_path / "model"
    if "model" in fault:
        shutil.copytree(Path(__file__).parents[2] / "weights" / "demo", model)
        (model / "fold_2" / "model.safetensors").write_bytes(b"altered")
        if fault == "wrong model":
            shutil.rmtree(model)
            model.mkdir()
            (model / "notes.txt").write_text("not a model")
    container = Container(tmp_path, *(("-v", f"{model}:/opt/ml/model:ro") if model.exists() else ()))
    slide = container.put_slide("bad")
    if fault == "no input":
        shutil.rmtree(container.input / "images")
        (container.input / "inputs.json").unlink()
    elif fault == "missing socket":
        slide.unlink()
    elif fault == "unknown socket":
        job(container.input, socket("wsi", "images/wsi"), socket("other", "images/other"))
    elif fault == "no permission":
        slide.chmod(0)
    elif fault == "no slide":
        slide.write_bytes(b"nothing of the kind")
    done = container.run("--output", "/output")
    assert done.returncode == code, done.stderr
    assert sentence in last_line(done.stderr).replace("Permission", "permission")
    assert "Traceback" not in done.stderr
    container.check_nothing_looks_finished()


def test_a_model_tarball_takes_the_place_of_the_demo_model(tmp_path: Path) -> None:
    model = make_trained_folder(tmp_path / "made", folds=2, window=(64, 64)).model
    container = Container(tmp_path, "-v", f"{model}:/opt/ml/model:ro")
    container.put_slide("a", size=300)
    assert container.run("--output", "/output").returncode == 0
    assert json.loads((container.output / "manifest.json").read_text())["model"]["name"] == "tiny"


def test_a_monai_runner(tmp_path: Path) -> None:
    """The folders that app.json names, its environment, its working directory, any user."""
    container = Container(tmp_path)
    container.put_slide("a", size=300)
    application = manifests("process.py")["app.json"]
    variables = [part for item in application["environment"].items() for part in ("--env", "=".join(item))]
    program, *arguments = json.loads(application["command"])
    done = engine(
        "run", "--rm", *FLAGS, "--user", "54321:54321", *variables, "--workdir", application["workingDirectory"],
        "--volume", f"{container.input}:{application['input']['path']}:ro",
        "--volume", f"{container.output}:{application['output']['path']}",
        "--entrypoint", program, IMAGE, *arguments, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (container.output / "manifest.json").is_file()


ASK_THE_PAGE = """
import http.client, json, sys
def ask(path, cookie=""):
    connection = http.client.HTTPConnection("127.0.0.1", 8080)
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Set-Cookie", ""), answer.read()
_, cookie, _ = ask("/?token=" + sys.argv[1])
status, _, body = ask("/api/patches", cookie)
patch = json.loads(body)["patches"][0]["id"]
viewer = ask("/static/vendor/openseadragon/openseadragon.min.js")[0]
tiles = json.loads(ask(f"/api/patches/{patch}", cookie)[2])["tiles"]
thumbnail = ask(f"/api/patches/{patch}/thumbnail.jpg", cookie)[0]
print(status, len(json.loads(body)["patches"]), ask("/api/patches")[0], viewer, thumbnail, tiles is None)
"""


def test_the_reviewers_page(tmp_path: Path) -> None:
    """As docs/deploy.md starts it; asked from inside, as there is no network."""
    container = Container(tmp_path)
    container.put_slide("a")
    assert container.run("--output", "/output", "--patch", 256).returncode == 0
    page = Container(tmp_path, "--entrypoint", "python")
    with page.running("-m", "uga", "review", "/output", "--slides", "/input", "--host", "0.0.0.0"):  # noqa: S104
        for _ in range(120):
            log = engine("logs", page.name).stdout
            if "token=" in log:
                break
            time.sleep(0.5)
        token = log.rpartition("token=")[2].split()[0]
        assert f"Open http://127.0.0.1:8080/?token={token}" in log
        answer = engine("exec", page.name, "python", "-c", ASK_THE_PAGE, token)
        status, patches, stranger, viewer, thumbnail, without_slide = answer.stdout.split()
        assert (status, stranger, viewer, thumbnail, without_slide) == ("200", "401", "200", "200", "False")
        assert int(patches) >= 1
        assert page.stop()[0] == 0
