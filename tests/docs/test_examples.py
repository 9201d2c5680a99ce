"""The examples do what they say, run as they stand there."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeferry.agent.serving_client import Serve, ServingClient
from edgeferry.fleet.artifacts import read_artifacts
from tests.brokers import free_port
from tests.docs.documents import ROOT
from tests.models import artifact_folder
from tests.real_data import SCIKIT_IMAGE, wheel
from tests.system.harness import System, wait_until

EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(*command: str, timeout_s: float = 60, **environment: str) -> str:
    """Run an example to its end and return what it printed; nothing that it started outlives it."""
    with subprocess.Popen(
        command,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stdout + stderr
    return stdout


def listens(path: Path) -> bool:
    """Tell whether a Unix socket takes connections; its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the model in ``folder`` alone, without an agent; give its address."""
    path, address = folder / "socket", f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "edgeferry.agent.serving", "--socket", str(path), "--http", address]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(path), "the serving process to listen")
        client = ServingClient(path, 10)
        files = {"path": folder / "model.tflite", "manifest": folder / "artifact.json"}
        client.load(Serve("digits", 1, label="stable", **files))
        client.close()
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.tensorflow
def test_a_model_is_trained_and_converted_for_two_profiles(tmp_path: Path) -> None:
    printed = run(sys.executable, str(EXAMPLES / "train_and_convert.py"), str(tmp_path), timeout_s=110)

    artifacts = read_artifacts(tmp_path / "artifacts" / "digits" / "1")
    assert {artifact.manifest.profile for artifact in artifacts} == {"generic-x86-64", "raspberry-pi-4"}
    assert {artifact.manifest.scheme for artifact in artifacts} == {"int8"}
    assert printed.count("chosen") == 2
    assert np.load(tmp_path / "digits.npy").shape == (400, 8, 8, 1)


@pytest.mark.acceptance
def test_folders_of_pictures_are_samples_and_edgeferry_sees_what_keras_sees(tmp_path: Path) -> None:
    shutil.copy(wheel(SCIKIT_IMAGE), tmp_path)  # so that the example need not fetch it

    printed = run(sys.executable, str(EXAMPLES / "convert_from_pictures.py"), str(tmp_path), timeout_s=110)

    (accuracy,) = re.findall(r"accuracy as Keras has it: ([0-9.]+)", printed)
    manifest = json.loads((tmp_path / "artifacts/faces/1/raspberry-pi-4/artifact.json").read_text())
    assert manifest["evaluation"]["float"] == pytest.approx(float(accuracy), abs=1e-4)
    assert (manifest["labels"], manifest["preprocessing"]["color"]) == (["face", "other"], "gray")
    assert "of 80 are the class that y says" in printed


@pytest.mark.broker
def test_a_model_is_pushed_and_answers_over_mqtt(tmp_path: Path) -> None:
    version = artifact_folder(tmp_path, version=1).parent
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((20, 64), dtype=np.float32))
    with tempfile.TemporaryDirectory() as temporary:  # its path is short: the agent puts a socket below it
        places = {"PORT": str(free_port()), "TMPDIR": temporary}

        printed = run("sh", str(EXAMPLES / "push_and_infer.sh"), str(version), str(tmp_path / "x.npy"), **places)

        assert list(Path(temporary).iterdir()) == [], "it left something behind"
    assert "active on 1 of 1 devices" in printed
    assert "digits 1: 20 answers" in printed


@pytest.mark.parametrize("quantized", [True, False], ids=["int8", "float32"])
def test_rest_is_asked_in_json_and_in_binary(tmp_path: Path, quantized: bool) -> None:
    folder = artifact_folder(tmp_path, version=1, quantized=quantized)

    with serving(folder) as address:
        printed = run(sys.executable, str(EXAMPLES / "ask_over_rest.py"), address, "digits")

    assert printed.splitlines()[-1] == "JSON and binary gave the same"
    assert printed.startswith("scores: ")
    assert len(printed.splitlines()[0].split(", ")) == 10


def test_the_client_asks_with_arrays(tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path, version=1)

    with serving(folder) as address:
        printed = run(sys.executable, str(EXAMPLES / "ask_with_the_client.py"), f"http://{address}", "digits")

    assert printed.startswith("50 answers, ")


@pytest.mark.broker
def test_a_fleet_is_read_with_mqtt_alone(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.config.write_text(agent.config.read_text() + "telemetry_interval_s: 1\n")
    passwords = fleet.folder / "passwords.json"
    passwords.write_text(json.dumps(fleet.broker.passwords))
    seen = fleet.folder / "seen.txt"
    command = [sys.executable, str(EXAMPLES / "watch_fleet.py"), fleet.broker.url, "--user", "operator"]
    with seen.open("wb") as output:
        watching = subprocess.Popen([*command, "--password-file", str(passwords)], stdout=output, stderr=output)
    fleet.stack.callback(watching.wait, 10)
    fleet.stack.callback(watching.kill)
    wait_until(lambda: "connected: Success" in seen.read_text(), "the example to connect")

    agent.start()
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=1).parent), "--watch")

    for wanted in ("pi state: digits wanted 1 runs 1", "pi telemetry: ", "pi event: #", "deployment digits 1 active"):
        wait_until(lambda wanted=wanted: wanted in seen.read_text(), f"{wanted!r} in {seen.read_text()!r}")
    assert "Traceback" not in seen.read_text()


def test_every_example_is_told_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    examples = [path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".sh"}]

    assert examples
    assert [name for name in examples if f"[{name}]({name})" not in index] == []
