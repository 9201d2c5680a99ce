"""A hostile broker: between a device and a real one, it reads, drops, delays, replays, alters and invents messages.

It speaks MQTT 3.1.1 and 5 as far as PUBLISH goes (MQTT 5, 3.3) and passes everything else on as it is. A test gives it
a `Rule` for each message; what it passes on, it passes on in order. `seen` holds everything that went through.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from threading import Lock, Thread
from typing import Self

__all__ = ["HostileBroker", "Rule", "Said", "let_pass"]

_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Said:
    """A message on its way.

    Attributes:
        to_device: True for what the broker says, False for what the device says.
        properties: MQTT 5's, as they came; empty in 3.1.1.
    """

    topic: str
    payload: bytes
    to_device: bool = True
    retain: bool = False
    qos: int = 0
    packet_id: int = 0
    properties: bytes = b""

    def altered(self, payload: bytes) -> "Said":
        return replace(self, payload=payload)


Rule = Callable[[Said], Iterable[Said]]


def let_pass(said: Said) -> Iterable[Said]:
    """Pass everything on: what an honest broker does."""
    return [said]


@dataclass
class HostileBroker:
    """Listens on ``port`` and connects to the real broker on ``real_port`` for each device that comes.

    Attributes:
        rule: Returns what is passed on in the place of a message.
        seen: Every message that came, in order, altered or not.
    """

    port: int
    real_port: int
    rule: Rule = let_pass
    seen: list[Said] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def invent(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something to the device that nobody has said."""
        for connection in self._connections:
            connection.say(Said(topic, payload, retain=retain))

    def heard(self, part: str, *, to_device: bool) -> list[Said]:
        """Return what was said on topics with ``part`` in them."""
        return [said for said in list(self.seen) if part in said.topic and said.to_device is to_device]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                device, _ = self._listener.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self.real_port), timeout=_TIMEOUT_S)
                except OSError:
                    device.close()
                    continue
                self._connections = [one for one in self._connections if not one.is_closed]
                self._connections.append(_Connection(self, device, broker))


class _Connection:
    """One device's connection, with a thread for each direction."""

    def __init__(self, hostile: HostileBroker, device: socket.socket, broker: socket.socket) -> None:
        self.is_closed = False
        self._hostile = hostile
        self._sockets = {True: device, False: broker}  # where messages go, by `to_device`
        self._locks = {True: Lock(), False: Lock()}
        self._is_mqtt5 = False
        for sock in self._sockets.values():
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for to_device in (True, False):
            Thread(target=self._carry, args=(to_device,), daemon=True).start()

    def close(self) -> None:
        self.is_closed = True
        for sock in self._sockets.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def say(self, said: Said) -> None:
        with contextlib.suppress(OSError):
            self._send(said.to_device, self._packet(said))

    def _carry(self, to_device: bool) -> None:
        source = self._sockets[not to_device].makefile("rb")
        try:
            while packet := _read_packet(source):
                first, body = packet
                if first >> 4 == _CONNECT:
                    self._is_mqtt5 = body[6] == 5  # after the name MQTT and its length
                if first >> 4 == _PUBLISH:
                    self._publish(first, body, to_device)
                else:
                    self._send(to_device, bytes([first]) + _length(len(body)) + body)
        except (OSError, ValueError):
            pass
        finally:
            self.close()

    def _publish(self, first: int, body: bytes, to_device: bool) -> None:
        said = self._parse(first, body, to_device)
        self._hostile.seen.append(said)
        passed = list(self._hostile.rule(said))
        if said.qos and not any(one.packet_id == said.packet_id for one in passed):
            self._send(not to_device, bytes([_PUBACK << 4, 2]) + said.packet_id.to_bytes(2, "big"))  # nobody notices
        for one in passed:
            self._send(one.to_device, self._packet(one))

    def _parse(self, first: int, body: bytes, to_device: bool) -> Said:
        topic_end = 2 + int.from_bytes(body[:2], "big")
        at, qos, packet_id, properties = topic_end, first >> 1 & 3, 0, b""
        if qos:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        if self._is_mqtt5:
            size, after = _varint(body, at)
            properties, at = body[after : after + size], after + size
        return Said(body[2:topic_end].decode(), body[at:], to_device, bool(first & 1), qos, packet_id, properties)

    def _packet(self, said: Said) -> bytes:
        topic = said.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic
        body += said.packet_id.to_bytes(2, "big") if said.qos else b""
        body += _length(len(said.properties)) + said.properties if self._is_mqtt5 else b""
        body += said.payload
        return bytes([_PUBLISH << 4 | said.qos << 1 | said.retain]) + _length(len(body)) + body

    def _send(self, to_device: bool, packet: bytes) -> None:
        with self._locks[to_device]:
            self._sockets[to_device].sendall(packet)


def _read_packet(source: "socket.SocketIO") -> tuple[int, bytes] | None:
    head = source.read(1)
    if not head:
        return None
    size, shift = 0, 0
    while byte := source.read(1):
        size |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128:
            body = source.read(size)
            return (head[0], body) if len(body) == size else None
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _length(size: int) -> bytes:
    """Return a variable byte integer (MQTT 5, 1.5.5)."""
    encoded = bytearray()
    while True:
        size, rest = divmod(size, 128)
        encoded.append(rest | (128 if size else 0))
        if not size:
            return bytes(encoded)
