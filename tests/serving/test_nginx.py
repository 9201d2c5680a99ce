"""The example with nginx in front of two serving processes, as it stands: one of them is killed under load."""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.brokers import free_port
from tests.models import artifact_folder
from tests.serving.conftest import wait_until

from edgeferry.agent.serving.command import ServingOptions, child_environment
from edgeferry.client import Client, InferenceError
from edgeferry.inference.model import Model

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "nginx" / "edgeferry.conf"
PORTS = ("8500", "8501", "8510", "8511", "8520", "8521")
X = np.arange(64, dtype=np.int8)[np.newaxis]
CLIENTS = 8
ENOUGH = 400


def nginx() -> str:
    """Return the path of nginx, installed from the system's packages where it is missing."""
    place = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if not place:
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=120)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light"]
        subprocess.run(install, check=True, timeout=180, capture_output=True)
        place = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert place
    return place


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_one_of_two_is_killed_under_load_and_no_request_fails(tmp_path: Path, protocol: str) -> None:
    ports = {port: str(free_port()) for port in PORTS}
    config = EXAMPLE.read_text()
    for port, free in ports.items():
        config = config.replace(f":{port}", f":{free}")
    (tmp_path / "edgeferry.conf").write_text(config)
    folder = artifact_folder(tmp_path / "models", version=1)
    wanted = Model.load(folder / "model.tflite").run({"x": X})["scores"]
    options = [
        ServingOptions(http=f"127.0.0.1:{ports[http]}", grpc=f"127.0.0.1:{ports[grpc]}", models=tmp_path / "models")
        for http, grpc in (("8511", "8510"), ("8521", "8520"))
    ]
    front = f"{protocol}://127.0.0.1:{ports['8501' if protocol == 'http' else '8500']}"
    command = [nginx(), "-e", "stderr", "-p", str(tmp_path), "-c", "edgeferry.conf"]

    with running(options[0].command()) as first, running(options[1].command()) as second, running(command):
        for each in (ports["8511"], ports["8521"], ports["8501"]):
            wait_until(lambda each=each: answers(f"http://127.0.0.1:{each}"), 30)
        done, failures = load_while(front, wanted, first.kill)
        assert second.poll() is None

    assert failures == []
    assert done >= 2 * ENOUGH


def answers(url: str) -> bool:
    with Client(url) as client:
        try:
            client.predict("digits", X, timeout_s=5)
        except InferenceError:
            return False
    return True


def predict_again(client: Client) -> np.ndarray:
    """Ask, and once more when nginx could not pass on again what it had sent to the process that ended."""
    try:
        return client.predict("digits", X)
    except InferenceError as err:
        if not err.is_retryable:
            raise
        return client.predict("digits", X)


def load_while(url: str, wanted: np.ndarray, strike: Callable[[], None]) -> tuple[int, list[str]]:
    """Ask with all clients, ``strike`` when enough was answered, and go on as long again; return answers, failures."""
    done: list[bool] = []
    failures: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        with Client(url) as client:
            while not is_over.is_set():
                try:
                    answer = predict_again(client) if url.startswith("grpc") else client.predict("digits", X)
                    done.append(np.array_equal(answer, wanted))
                except InferenceError as err:
                    failures.append(str(err))

    askers = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for asker in askers:
        asker.start()
    wait_until(lambda: len(done) >= ENOUGH or failures, 60)
    strike()
    wait_until(lambda: len(done) >= 2 * ENOUGH or failures, 60)
    is_over.set()
    for asker in askers:
        asker.join(30)
    assert all(done)
    return len(done), failures
