"""A real serving process under what it has to bear: versions that change, clients that mean no good, too many."""

import contextlib
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.models import artifact_folder, countdown_model
from tests.serving.conftest import wait_until

from edgeferry.agent.serving.command import ServingOptions, child_environment
from edgeferry.agent.serving_client import Serve, ServingClient, ServingError
from edgeferry.client import Client, InferenceError
from edgeferry.inference.model import Model
from edgeferry.wire.messages import Code

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

CLIENTS = 8
CHANGES = 100
CONNECTIONS = 256  # the cap
X = np.arange(64, dtype=np.int8)[np.newaxis]


@dataclass
class Process:
    """A serving process and the agent's way to it."""

    folder: Path
    client: ServingClient
    process: subprocess.Popen[bytes]
    address: str

    def load(self, version: int, *, name: str = "digits", label: str = "stable") -> None:
        folder = self.folder / name / str(version) / "generic-x86-64"
        if not folder.exists():
            model = countdown_model if name == "slow" else None
            artifact_folder(self.folder, name=name, version=version, model=model)
        self.client.load(Serve(name, version, folder / "model.tflite", folder / "artifact.json", label))

    def answer_of(self, version: int) -> np.ndarray:
        """Return what LiteRT itself answers."""
        model = Model.load(self.folder / "digits" / str(version) / "generic-x86-64" / "model.tflite")
        return model.run({"x": X})["scores"]

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Process]:
    path = tmp_path / "s.sock"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ServingOptions(path, http=f"127.0.0.1:{port}")
    process = subprocess.Popen(options.command(), env=child_environment(), stderr=subprocess.DEVNULL)
    client = ServingClient(path, 30.0)
    try:
        wait_until(path.exists, 30)
        wait_until(lambda: _answers(client), 30)
        yield Process(tmp_path, client, process, f"127.0.0.1:{port}")
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def _answers(client: ServingClient) -> bool:
    try:
        client.ping()
    except ServingError:
        return False
    return True


def test_no_request_fails_and_none_is_answered_by_half_a_model_while_versions_change(serving: Process) -> None:
    for version in (1, 2):
        serving.load(version)
    wanted = {str(version): serving.answer_of(version).tobytes() for version in (1, 2)}
    answers: list[tuple[str, bytes]] = []
    failures: list[Exception] = []
    is_over = threading.Event()

    def ask() -> None:
        with Client(f"http://{serving.address}") as client:
            while not is_over.is_set():
                try:
                    answer = client.infer("digits", {"x": X})
                except InferenceError as err:
                    failures.append(err)
                else:
                    answers.append((answer.version, answer.outputs["scores"].tobytes()))

    askers = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for asker in askers:
        asker.start()
    for number in range(CHANGES):
        serving.load(1 + number % 2)
    is_over.set()
    for asker in askers:
        asker.join(30)

    assert failures == []
    assert len(answers) > CHANGES
    assert {version for version, _ in answers} == {"1", "2"}
    assert all(scores == wanted[version] for version, scores in answers)


def test_among_slow_clients_idle_ones_and_a_full_queue_a_good_request_is_answered_in_time(serving: Process) -> None:
    serving.load(1)
    serving.load(1, name="slow")
    with Client(f"http://{serving.address}") as client:
        client.infer("digits", {"x": X})
    before_bytes = serving.rss_bytes
    host, _, port = serving.address.partition(":")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    ill = [socket.create_connection((host, int(port)), timeout=10) for _ in range(10 * CONNECTIONS)]
    for number, connection in enumerate(ill):
        if number % 2:  # slow-loris: a head without its end
            _send(connection, b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\n")
    flood = [threading.Thread(target=_occupy, args=(serving.address,)) for _ in range(80)]
    for thread in flood:
        thread.start()
    _send(ill[0], b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")

    took_s = []
    for _ in range(5):
        began_s = time.monotonic()
        with Client(f"http://{serving.address}") as client:
            np.testing.assert_array_equal(client.predict("digits", X, timeout_s=5), serving.answer_of(1))
        took_s.append(time.monotonic() - began_s)

    for connection in ill:
        connection.close()
    for thread in flood:
        thread.join(60)
    assert max(took_s) < 2.0, took_s
    assert serving.rss_bytes - before_bytes < 64 << 20
    assert serving.process.poll() is None


def test_a_full_queue_refuses_at_once_and_says_so(serving: Process) -> None:
    serving.load(1, name="slow")
    codes: list[Code] = []

    def ask() -> None:
        try:
            with Client(f"http://{serving.address}") as client:
                client.predict("slow", np.array([3e5], np.float32), timeout_s=2)
        except InferenceError as err:
            codes.append(err.code)

    askers = [threading.Thread(target=ask) for _ in range(100)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)

    assert Code.RESOURCE_EXHAUSTED in codes
    assert set(codes) <= {Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED}


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it has made room for another one already, as it should
        connection.sendall(data)


def _occupy(address: str) -> None:
    with contextlib.suppress(InferenceError), Client(f"http://{address}") as client:  # it is there to be refused
        client.predict("slow", np.array([1e5], np.float32), timeout_s=3)
