"""The serving and the trial process with the runtime of 32-bit Raspberry Pis: tflite-runtime 2.14 and numpy 1.

Its wheels end with Python 3.11, so it runs on that one; it answers as LiteRT does on this machine.
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models import artifact_folder, linear_model, running_sum_model
from tests.serving.test_clients import environment

from edgeferry.agent.serving.command import child_environment
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from edgeferry.inference.selftest import SelfTest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "click", "msgspec", "paho-mqtt>=2.2", "psutil", "PyYAML", "tuf>=7.0.1")
FEATURES = 16
X = (np.random.default_rng(5).integers(0, 64, (6, FEATURES)) / 64).astype(np.float32)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter that has this project and the old runtime, and nothing of LiteRT."""
    folder = tmp_path_factory.mktemp("old") / "env"
    made = environment(folder, *PACKAGES, base=_python_3_11())
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "edgeferry.pth").write_text(f"{ROOT / 'src'}\n")
    return made


def _python_3_11() -> str:
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    assert found, "tflite-runtime has no wheel for this Python; install python3.11 beside it"
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    artifact_folder(folder, name="floats", features=FEATURES, classes=3, quantized=False)
    artifact_folder(folder, name="digits", features=FEATURES, classes=3)
    for name in ("free", "sums"):
        (folder / name / "1").mkdir(parents=True)
    linear_model(folder / "free" / "1" / "model.tflite", features=FEATURES, classes=3, free_batch=True)
    running_sum_model(folder / "sums" / "1" / "model.tflite")
    return folder


@pytest.fixture(scope="module")
def address(python: Path, models: Path) -> Iterator[str]:
    command = [str(python), "-P", "-m", "edgeferry.agent", "serve", "--models", str(models), "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment()) as process:
        assert process.stderr
        yield next(line for line in process.stderr if "serving on" in line).partition("http://")[2].split()[0]
        process.terminate()
        assert "Traceback" not in process.stderr.read()


def on_host(models: Path, name: str) -> Model:
    return Model.load(next((models / name / "1").rglob("model.tflite")))


def ask(address: str, model: str, array: np.ndarray, **parameters: Any) -> np.ndarray:
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    with urllib.request.urlopen(f"http://{address}/v2/models/{model}/infer", body, timeout=20) as answer:
        (output,) = json.load(answer)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_the_doctor_knows_which_runtime_it_is(python: Path) -> None:
    command = [str(python), "-P", "-m", "edgeferry.agent.serving.probe"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=child_environment())

    assert done.stdout == "tflite-runtime 2.14.0\n"


def test_an_int8_model_answers_as_litert_does(address: str, models: Path) -> None:
    model = on_host(models, "digits")
    for row in X:
        wanted = model.run({"x": quantize(row[np.newaxis], model.inputs[0])})["scores"]

        np.testing.assert_array_equal(ask(address, "digits", row[np.newaxis]), dequantize(wanted, model.outputs[0]))


def test_a_float_model_answers_as_litert_does(address: str, models: Path) -> None:
    wanted = np.concatenate([on_host(models, "floats").run({"x": row[np.newaxis]})["scores"] for row in X])

    found = np.concatenate([ask(address, "floats", row[np.newaxis]) for row in X])

    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_free_dimension_takes_any_size(address: str, models: Path) -> None:
    for rows in (1, 6, 2):
        wanted = on_host(models, "free").run({"x": X[:rows]})["scores"]

        np.testing.assert_allclose(ask(address, "free", X[:rows]), wanted, rtol=1e-5, atol=1e-6)


def test_a_stateful_model_has_a_state_for_each_sequence(address: str) -> None:
    one = np.ones((1, 1), np.float32)
    totals = [
        float(ask(address, "sums", one, sequence_id=sequence, sequence_start=start).ravel()[0])
        for sequence, start in ((7, True), (8, True), (7, False), (7, False), (8, False))
    ]

    assert totals == [1, 1, 2, 3, 2]


@pytest.mark.parametrize("name", ["floats", "digits"])
def test_a_candidate_passes_its_self_test(python: Path, models: Path, name: str) -> None:
    folder = models / name / "1" / "generic-x86-64"
    command = [str(python), "-P", "-m", "edgeferry.agent.serving.trial", "--model", str(folder / "model.tflite")]
    command += [
        "--manifest",
        str(folder / "artifact.json"),
        "--selftest",
        str(folder / "selftest.npz"),
        "--threads",
        "1",
    ]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=child_environment())

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["samples"] == SelfTest.load(folder / "selftest.npz").samples
