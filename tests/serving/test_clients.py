"""Unmodified clients, each in an environment of its own that is made here, against a serving process run alone.

What they get is what LiteRT gives, bit by bit.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.models import artifact_folder, linear_model, running_sum_model, two_way_model

from edgeferry.agent.serving.command import child_environment
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

CLIENTS = Path(__file__).parent / "clients"
FEATURES = 16
X = (np.random.default_rng(3).integers(0, 64, (1, FEATURES)) / 64).astype(np.float32)  # float16 holds these exactly


@dataclass
class Served:
    """A serving process, and what LiteRT gives for what it will be asked.

    Attributes:
        wanted: By the end of an answer's name.
    """

    http: str
    grpc: str
    wanted: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        artifact_folder(folder, name="floats", version=version, features=FEATURES, classes=3, quantized=False)
    artifact_folder(folder, name="digits", features=FEATURES, classes=3)
    for name in ("one", "pair", "sums"):
        (folder / name / "1").mkdir(parents=True)
    linear_model(folder / "one" / "1" / "model.tflite", features=FEATURES, classes=1)
    two_way_model(folder / "pair" / "1" / "model.tflite")
    running_sum_model(folder / "sums" / "1" / "model.tflite")
    command = [sys.executable, "-P", "-m", "edgeferry.agent", "serve", "--models", str(folder), "--all-versions"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment()) as process:
        assert process.stderr
        places = next(line for line in process.stderr if "serving on" in line)
        http, grpc = (places.partition(f"{scheme}://")[2].split()[0] for scheme in ("http", "grpc"))
        yield Served(http, grpc, wanted_from(folder))
        process.terminate()
        assert "Traceback" not in process.stderr.read()


def wanted_from(folder: Path) -> dict[str, np.ndarray]:
    """Return what LiteRT itself gives."""
    digits = Model.load(folder / "digits" / "1" / "generic-x86-64" / "model.tflite")
    raw = digits.run({"x": quantize(X, digits.inputs[0])})["scores"]
    floats, older = (
        Model.load(folder / "floats" / version / "generic-x86-64" / "model.tflite").run({"x": X})["scores"]
        for version in ("2", "1")
    )
    real = dequantize(raw, digits.outputs[0])
    one = Model.load(folder / "one" / "1" / "model.tflite").run({"x": X})["scores"].ravel()
    return {
        "floats": floats,
        "halves": floats,
        "floats-1": older,
        "real": real,
        "classes": real,
        "raw": raw,
        "one": one,
    }


def environment(folder: Path, *packages: str, options: tuple[str, ...] = (), base: str = sys.executable) -> Path:
    """Make a virtual environment of ``base`` with ``packages`` in ``folder``; return its interpreter."""
    subprocess.run([base, "-m", "venv", str(folder)], check=True, timeout=60)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *packages]
    subprocess.run(install, check=True, timeout=150)
    return python


def answers_of(python: Path, client: str, *addresses: str, folder: Path) -> dict[str, np.ndarray]:
    """Run a client and return what it got."""
    digits = np.load(folder / "raw.npy")
    assert digits.dtype == np.int8
    command = [str(python), str(CLIENTS / client), *addresses, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=child_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(folder / "answers.npz") as found:
        return dict(found)


@pytest.fixture
def folder(tmp_path: Path, served: Served) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "raw.npy", raw_input())
    return tmp_path


def raw_input() -> np.ndarray:
    # The scale and zero point of the models' inputs in [0, 1].
    return np.clip(np.rint(X * 255) - 128, -128, 127).astype(np.int8)


def check(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], count: int) -> None:
    assert len(found) == count
    for name, array in found.items():
        expected = max((key for key in wanted if name.endswith(key)), key=len)
        given = array.astype(wanted[expected].dtype)  # JSON has float64; float32 goes through it unchanged
        assert np.array_equal(given, wanted[expected]), name


def test_tensorflow_servings_client(served: Served, folder: Path) -> None:
    # Without its dependencies, which are gigabytes: TensorFlow is taken from where this runs.
    python = environment(folder / "env", "tensorflow-serving-api", options=("--no-deps",))
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    (site / "tensorflow.pth").write_text(sysconfig.get_path("purelib") + "\n")

    found = answers_of(python, "tfs.py", served.grpc, folder=folder)

    check(found, served.wanted, 6)


def test_tritons_client(served: Served, folder: Path) -> None:
    python = environment(folder / "env", "tritonclient[http,grpc]")

    found = answers_of(python, "triton.py", served.http, served.grpc, folder=folder)

    check(found, served.wanted, 29)


def test_openvinos_client(served: Served, folder: Path) -> None:
    python = environment(folder / "env", "ovmsclient")

    found = answers_of(python, "ovms.py", served.http, served.grpc, folder=folder)

    check(found, served.wanted, 6)


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl on this machine")
def test_curl(served: Served, folder: Path) -> None:
    raw_input().tofile(folder / "x.bin")

    def curl(path: str, *options: str) -> dict[str, object]:
        command = ["curl", "-sS", "--max-time", "10", f"http://{served.http}{path}", *options]
        done = subprocess.run(command, capture_output=True, check=True, cwd=folder, timeout=20)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    rows = curl("/v1/models/floats:predict", "-d", json.dumps({"instances": X.tolist()}))
    assert np.array_equal(np.array(rows["predictions"], np.float32), served.wanted["floats"])
    raw = curl("/v2/models/digits/infer", "-H", "Inference-Header-Content-Length: 0", "--data-binary", "@x.bin")
    assert raw["outputs"][0]["data"] == served.wanted["raw"].ravel().tolist()  # type: ignore[index]
    assert curl("/v1/models/cats") == {"error": "Could not find any versions of model cats"}
