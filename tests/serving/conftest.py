import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.models import artifact_folder, countdown_model

from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving.process import Serving, start_serving
from edgeferry.agent.serving_client import Serve, ServingClient


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A serving process in this process: the same listeners, threads and models."""

    def __init__(self, serving: Serving, socket_path: Path, artifacts: Path) -> None:
        self.serving = serving
        self.socket_path = socket_path
        self.client = ServingClient(socket_path, 10.0)
        self._artifacts = artifacts
        host, _, port = serving.http.rpartition(":")
        self.address = (host, int(port))

    def load(self, name: str = "digits", version: int = 1, *, label: str = "stable", **options: Any) -> Path:
        folder = self._artifacts / name / str(version) / "generic-x86-64"
        if not folder.exists():
            artifact_folder(self._artifacts, name=name, version=version, **options)
        self.client.load(
            Serve(name, version, path=folder / "model.tflite", manifest=folder / "artifact.json", label=label)
        )
        return folder

    def load_slow(self, name: str = "slow") -> Path:
        """Load a model that takes as long as its input is large, and hangs on infinity."""
        return self.load(name, model=countdown_model)

    def request(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def infer(self, model: str = "digits", *, headers: dict[str, str] | None = None, **request: Any) -> Answer:
        return self.request("POST", f"/v2/models/{model}/infer", json.dumps(request), **(headers or {}))

    def raw(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)


def count_down(number: float) -> list[dict[str, Any]]:
    """Return the input of the slow model."""
    return [{"name": "x", "shape": [1], "datatype": "FP32", "data": [number]}]


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        threading.Event().wait(0.005)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    yield from starter(tmp_path)


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    yield from starter(tmp_path_factory.mktemp("serving"))


def starter(folder: Path) -> Iterator[Callable[..., Server]]:
    """Yield what starts servers in ``folder``; afterwards they are ended."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        path = folder / f"{len(servers)}.sock"
        serving = start_serving(ServingOptions(path, **{"http": "127.0.0.1:0", **options}))
        servers.append(Server(serving, path, folder / "artifacts"))
        return servers[-1]

    yield start
    for server in servers:
        server.client.close()
        server.serving.stop()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()
