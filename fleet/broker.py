"""The embedded broker for trying things out: rumqttd, from the `iotcore` package, in a child process.

Decides its configuration and how it follows the passwords of the fleet. rumqttd can neither reload them nor stop, so
a change of the passwords replaces the child on the same port; everybody connects again within a second or two. It
knows passwords but no access rules, and forgets what was retained when it ends: a real fleet takes mosquitto or EMQX.
"""

import ipaddress
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import iotcore

from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.files import PRIVATE, write_atomically

__all__ = [
    "BrokerAddress",
    "BrokerFailedError",
    "EmbeddedBroker",
    "keep_running",
    "listening_address",
    "rumqttd_config",
]

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = 2_000_000  # as mosquitto 2.1 by default
_SEGMENT_BYTES = 2 << 20  # rumqttd keeps what it forwards, per topic filter, in this many bytes...
_SEGMENTS = 4  # ...times this; whoever is slower loses messages and asks for blocks again
_OUTGOING_PACKETS = 20_000  # rumqttd replays no more retained messages than this to a new subscription
_START_TIMEOUT_S = 10.0
_POLL_S = 0.25
_MAX_BACKOFF_S = 10.0


class BrokerFailedError(FleetError):
    """The embedded broker did not start."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the embedded broker listens: an IP address and a port."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Return the URL that reaches it, from this machine at least."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared, not bound
        return f"mqtt://{host}:{self.port}"


def listening_address(host: str, port: int) -> BrokerAddress:
    """Return the address to listen on.

    Raises:
        UsageError: ``host`` is no IPv4 address; iotcore cannot tell whether a listener on IPv6 has started.
    """
    try:
        return BrokerAddress(str(ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)), port)
    except ValueError as err:
        raise UsageError(
            f"the embedded broker cannot listen on {host!r}; wanted an IPv4 address of this machine: name one with "
            "--host, 127.0.0.1 for this machine only or 0.0.0.0 for all of its addresses"
        ) from err


def rumqttd_config(address: BrokerAddress, passwords: Mapping[str, str]) -> str:
    """Return rumqttd's configuration, in TOML: one MQTT 5 listener that lets in the users of ``passwords``.

    Format: bytebeamio/rumqtt, rumqttd/rumqttd.toml. Without ``dynamic_filters`` it drops whatever is published before
    somebody has subscribed to it. An empty ``auth`` table would let everybody in, so one impossible user stands there.
    """
    users = passwords or {"-": "-"}
    lines = [
        "id = 0",
        "[router]",
        "id = 0",
        "max_connections = 4096",
        f"max_outgoing_packet_count = {_OUTGOING_PACKETS}",
        f"max_segment_size = {_SEGMENT_BYTES}",
        f"max_segment_count = {_SEGMENTS}",
        "[v5.1]",
        'name = "edgeferry"',
        f'listen = "{address.host}:{address.port}"',
        "next_connection_delay_ms = 1",
        "[v5.1.connections]",
        "connection_timeout_ms = 10000",
        f"max_payload_size = {MAX_PACKET_BYTES}",
        "max_inflight_count = 100",
        "dynamic_filters = true",
        "[v5.1.connections.auth]",
        *(f"{json.dumps(user)} = {json.dumps(password)}" for user, password in sorted(users.items())),
    ]
    return "\n".join(lines) + "\n"


class EmbeddedBroker:
    """One rumqttd in a child process that ends with this one.

    Args:
        address: Where it listens.
        config_file: Where its configuration is written, readable by the owner alone: it holds passwords.
    """

    def __init__(self, address: BrokerAddress, config_file: Path) -> None:
        self.address = address
        self._config_file = config_file
        self._process: iotcore.Broker | None = None

    @property
    def is_running(self) -> bool:
        """Return whether the child lives."""
        return self._process is not None and bool(self._process.is_running)

    @property
    def pid(self) -> int | None:
        """Return the child's process id, or None when it does not run."""
        child = self._process._process if self._process else None  # noqa: SLF001 - iotcore tells it nowhere else
        return None if child is None else int(child.pid)

    def start(self, passwords: Mapping[str, str]) -> None:
        """Start it and return when it accepts connections.

        Raises:
            BrokerFailedError: The port is in use or not ours to open, or the child ended.
        """
        write_atomically(self._config_file, rumqttd_config(self.address, passwords).encode(), mode=PRIVATE)
        try:
            process = iotcore.Broker(config_path=str(self._config_file))
            process.start(timeout=_START_TIMEOUT_S)
        except OSError as err:
            raise BrokerFailedError(
                f"broker: {err}; choose another port with --port, or, when a broker runs there, use it with "
                f"--broker {self.address.url}"
            ) from err
        except (RuntimeError, ValueError) as err:
            raise BrokerFailedError(f"broker: {self.address.host}:{self.address.port}: {err}") from err
        self._process = process

    def stop(self) -> None:
        """End the child and free the port; harmless when it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None


def keep_running(
    broker: EmbeddedBroker,
    passwords: Callable[[], Mapping[str, str]],
    *,
    stop: Event,
    on_started: Callable[[], None],
) -> None:
    """Run ``broker`` until ``stop`` is set; put a new one in its place when it dies or ``passwords`` change.

    Args:
        broker: Not yet started.
        passwords: Called four times a second; returns the password of each user.
        stop: Set by a signal.
        on_started: Called after each start, to say again what the last one forgot.

    Raises:
        BrokerFailedError: It did not start the first time. Later failures are tried again, with growing pauses.
    """
    known = passwords()
    broker.start(known)
    try:
        on_started()
        backoff_s = _POLL_S
        while not stop.wait(backoff_s):
            wanted = passwords()
            if wanted == known and broker.is_running:
                backoff_s = _POLL_S
                continue
            backoff_s = _replace(broker, wanted, backoff_s, on_started)
            known = wanted
    finally:
        broker.stop()


def _replace(
    broker: EmbeddedBroker, passwords: Mapping[str, str], backoff_s: float, on_started: Callable[[], None]
) -> float:
    """Put a new child in the old one's place; return how long to wait before looking again."""
    broker.stop()
    try:
        broker.start(passwords)
    except BrokerFailedError as err:
        log.warning("%s; trying again", err)
        return min(backoff_s * 2, _MAX_BACKOFF_S)
    log.info("broker started anew, with %d users", len(passwords))
    on_started()
    return _POLL_S
