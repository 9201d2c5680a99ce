"""Real brokers for tests: the embedded one, and mosquitto with passwords, the protocol's access rules and TLS.

A test takes the fixture ``broker`` and runs once on each; ``tls_broker`` is mosquitto behind a certificate. Both are
new for every test, on a port that the system chose, with the users of `USERS`; devices are added with ``add_device``.
"""

import contextlib
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from edgeferry.fleet.broker import BrokerAddress, EmbeddedBroker
from edgeferry.fleet.demo.processes import free_port
from edgeferry.fleet.mosquitto.certificates import Authority
from edgeferry.fleet.mosquitto.configuration import access_rules_of_devices, access_rules_of_people
from edgeferry.fleet.mosquitto.users import password_file

__all__ = [
    "USERS",
    "EmbeddedTestBroker",
    "MosquittoBroker",
    "TestBroker",
    "broker",
    "free_port",
    "mosquitto",
    "running_mosquitto",
    "tls_broker",
]

USERS = ("operator", "monitor", "app")
ROOT = "edgeferry/v1"
_START_TIMEOUT_S = 10.0


class TestBroker(Protocol):
    """What a test may do with a broker.

    Attributes:
        kind: ``embedded`` or ``mosquitto``.
        passwords: By user.
        ca_pem: Certificate that signed the broker's; empty without TLS.
    """

    __test__ = False

    kind: str
    host: str
    port: int
    passwords: dict[str, str]
    ca_pem: str

    @property
    def url(self) -> str:
        """Return ``mqtt://host:port`` or ``mqtts://host:port``."""
        ...

    @property
    def pid(self) -> int:
        """Return the process id of the running broker, to kill it."""
        ...

    def add_device(self, device: str) -> str:
        """Let ``device`` in and return its password; whoever is connected may have to connect again."""
        ...

    def start(self) -> None:
        """Start it, on the same port as before, and return when it accepts connections."""
        ...

    def stop(self) -> None:
        """End it; what it retained is gone."""
        ...


@dataclass
class EmbeddedTestBroker:
    """The broker of `edgeferry broker run`: MQTT 5 only, no access rules."""

    folder: Path
    kind: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 0
    passwords: dict[str, str] = field(default_factory=dict)
    ca_pem: str = ""

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self._broker = EmbeddedBroker(BrokerAddress(self.host, self.port), self.folder / "embedded.toml")

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._broker.pid is not None
        return self._broker.pid

    def add_device(self, device: str) -> str:
        self.passwords[device] = secrets.token_urlsafe(12)
        if self._broker.is_running:
            self.stop()
            self.start()
        return self.passwords[device]

    def start(self) -> None:
        self._broker.start(self.passwords)

    def stop(self) -> None:
        self._broker.stop()


@dataclass
class MosquittoBroker:
    """Debian's mosquitto: MQTT 3.1.1 and 5, the access rules of docs/protocol.md, TLS when asked for."""

    folder: Path
    tls: bool = False
    kind: str = "mosquitto"
    host: str = "127.0.0.1"
    port: int = 0
    passwords: dict[str, str] = field(default_factory=dict)
    ca_pem: str = ""
    persistence: bool = False

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if self.tls:
            self.ca_pem = _write_certificates(self.folder)

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Return what mosquitto said so far."""
        return (self.folder / "mosquitto.log").read_text()

    def add_device(self, device: str) -> str:
        self.passwords[device] = secrets.token_urlsafe(12)
        if self._process is not None:
            self._write_passwords()
            self._process.send_signal(1)  # SIGHUP: mosquitto(8), reads passwords and access rules again
            _wait_until(lambda: _lets_in(self, device), f"mosquitto to know {device}")
        return self.passwords[device]

    def start(self) -> None:
        self._write_passwords()
        people = access_rules_of_people(ROOT, "operator", ("monitor",), ("app",))
        (self.folder / "acl").write_text(people + access_rules_of_devices(ROOT))
        config = self.folder / "mosquitto.conf"
        config.write_text(self._config())
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        _wait_until(self._answers, f"mosquitto on port {self.port}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None

    def _config(self) -> str:
        lines = [
            f"listener {self.port} {self.host}",
            "allow_anonymous false",
            f"password_file {self.folder}/passwords",
            f"acl_file {self.folder}/acl",
            f"persistence {'true' if self.persistence else 'false'}",
            f"persistence_location {self.folder}/",
            "log_type all",
        ]
        if self.tls:
            lines += [f"certfile {self.folder}/server.pem", f"keyfile {self.folder}/server.key"]
        if os.geteuid() == 0:
            lines.append("user root")  # otherwise it becomes `mosquitto`, which cannot read the test's folder
        return "\n".join(lines) + "\n"

    def _write_passwords(self) -> None:
        (self.folder / "passwords").write_text(password_file(self.passwords))

    def _answers(self) -> bool:
        # It listens a moment before it handles SIGHUP, which would end it then; who gets an answer has waited enough.
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto ended at once: {self.log}"
        return _return_code(self, "nobody", "") != b""


Broker = TypeVar("Broker", bound=TestBroker)


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    """Yield a running broker, once the embedded one and once mosquitto."""
    kind = EmbeddedTestBroker if request.param == "embedded" else MosquittoBroker
    yield from _running(kind(_folder(tmp_path), passwords=_passwords()))


@contextlib.contextmanager
def running_mosquitto(folder: Path) -> Iterator[TestBroker]:
    """Yield a running mosquitto that keeps its files below ``folder``."""
    yield from _running(MosquittoBroker(_folder(folder), passwords=_passwords()))


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[MosquittoBroker]:
    """Yield a running mosquitto."""
    yield from _running(MosquittoBroker(_folder(tmp_path), passwords=_passwords()))


@pytest.fixture
def tls_broker(tmp_path: Path) -> Iterator[TestBroker]:
    """Yield a running mosquitto behind a certificate for 127.0.0.1 and localhost."""
    yield from _running(MosquittoBroker(_folder(tmp_path), tls=True, passwords=_passwords()))


def _running(candidate: Broker) -> Iterator[Broker]:
    candidate.start()
    try:
        yield candidate
    finally:
        candidate.stop()


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "broker"
    folder.mkdir()
    return folder


def _passwords() -> dict[str, str]:
    return {user: secrets.token_urlsafe(12) for user in USERS}


def _lets_in(broker: MosquittoBroker, user: str) -> bool:
    return _return_code(broker, user, broker.passwords[user]) == b"\0"


def _return_code(broker: MosquittoBroker, user: str, password: str) -> bytes:
    """Return what the broker answers to one CONNECT by hand (MQTT 3.1.1, 3.2.2.3); nothing when there is no answer."""
    with contextlib.suppress(OSError), _plain_or_tls(broker) as connection:
        connection.sendall(_connect_packet(user, password))
        return connection.recv(4)[3:4]
    return b""


@contextlib.contextmanager
def _plain_or_tls(broker: MosquittoBroker) -> Iterator[socket.socket]:
    with socket.create_connection((broker.host, broker.port), timeout=2) as plain:
        if not broker.tls:
            yield plain
            return
        with ssl.create_default_context(cadata=broker.ca_pem).wrap_socket(plain, server_hostname=broker.host) as secure:
            yield secure


def _connect_packet(user: str, password: str) -> bytes:
    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(2, "big") + value.encode()

    body = text("MQTT") + b"\4\xc2\0\x0a" + text(f"probe-{secrets.token_hex(4)}") + text(user) + text(password)
    return b"\x10" + bytes([len(body) % 128 | 128, len(body) // 128] if len(body) > 127 else [len(body)]) + body


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited {_START_TIMEOUT_S:.0f} s for {what}"
        time.sleep(0.01)


def _write_certificates(folder: Path) -> str:
    """Write ``server.pem`` and ``server.key`` and return the certificate of the authority that signed them."""
    authority = Authority.create("edgeferry test authority")
    server = authority.server(("127.0.0.1", "localhost"))
    (folder / "server.pem").write_bytes(server.certificate_pem)
    (folder / "server.key").write_bytes(server.key_pem)
    return authority.pair.certificate_pem.decode()
