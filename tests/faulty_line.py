"""A line between a device and its broker that a test can make as bad as it likes: a TCP proxy in two threads for each
connection.

`Line` listens on a port of its own and connects to another one for each client. What its `Weather` says holds for both
directions; it can be replaced at any time.

    delay_s, rate_bytes_s   how long and how wide the line is
    stalls                  bytes wait until they do no more
    swallows                half-open: the connection stands, and nothing that is sent arrives
    cut_after_bytes         the connection ends after so many bytes towards the client
    messages                what becomes of each MQTT packet towards the client: lost, doubled, delayed, altered
"""

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

__all__ = ["Line", "Packets", "Weather", "doubled", "lossy", "shuffled"]

PIECE_BYTES: Final = 16 * 1024
MAX_WAITING_BYTES: Final = 1 << 20  # in one direction, as in the buffers of a real line
_TICK_S: Final = 0.02

Packets = Callable[[bytes], list[bytes]]
"""Returns what is passed on in the place of an MQTT packet."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How the line is; see the module."""

    delay_s: float = 0.0
    rate_bytes_s: float = 0.0
    stalls: bool = False
    swallows: bool = False
    cut_after_bytes: int = 0
    messages: Callable[[], Packets] | None = None


class Line:
    """The line; a context manager, which ends every connection at its end.

    Attributes:
        port: Where clients connect to.
        connections: How many there were.
        down_bytes: How many bytes went to clients.
    """

    def __init__(self, behind: int, weather: Weather | None = None) -> None:
        self.connections = 0
        self.down_bytes = 0
        self._behind = behind
        self._weather = weather or Weather()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._swallowing: set[socket.socket] = set()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="line", daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    @property
    def weather(self) -> Weather:
        """Return how the line is."""
        return self._weather

    def set(self, **changes: object) -> None:
        """Change the weather; of connections that stand, too. ``swallows`` holds for those alone that stand now."""
        if changes.pop("swallows", False):
            self._swallowing.update(self._open)
        self._weather = replace(self._weather, **changes)  # type: ignore[arg-type]

    def cut(self) -> None:
        """End every connection, without a goodbye."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open = []

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            except OSError:
                continue  # the broker is away, or this line is closed
            self.connections += 1
            for one in (client, broker):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, broker]
            for way in (_Way(self, client, broker, is_down=False), _Way(self, broker, client, is_down=True)):
                for work in (way.take, way.give):
                    thread = threading.Thread(target=work, name="line", daemon=True)
                    self._threads.append(thread)
                    thread.start()


class _Way:
    """One direction of one connection."""

    def __init__(self, line: Line, source: socket.socket, target: socket.socket, *, is_down: bool) -> None:
        self._line = line
        self._source = source
        self._target = target
        self._is_down = is_down
        self._waiting: queue.Queue[tuple[float, bytes] | None] = queue.Queue(MAX_WAITING_BYTES // PIECE_BYTES)
        self._given_bytes = 0

    def take(self) -> None:
        """Read what comes and note when it is due at the other end."""
        free_s = 0.0
        with contextlib.suppress(OSError):
            for piece in self._pieces():
                weather = self._line.weather
                free_s = max(free_s, time.monotonic())
                free_s += len(piece) / weather.rate_bytes_s if weather.rate_bytes_s else 0.0
                self._waiting.put((free_s + weather.delay_s, piece))
        self._waiting.put(None)

    def give(self) -> None:
        """Pass on what is due."""
        item: tuple[float, bytes] | None = (0.0, b"")
        with contextlib.suppress(OSError):
            while item := self._waiting.get():
                due_s, piece = item
                time.sleep(max(due_s - time.monotonic(), 0.0))
                while self._line.weather.stalls and not self._line._closing.is_set():
                    time.sleep(_TICK_S)
                if self._target in self._line._swallowing:
                    continue
                self._give(piece)
        self._end()
        while item:
            item = self._waiting.get()  # whoever fills the queue must not hang

    def _give(self, piece: bytes) -> None:
        limit = self._line.weather.cut_after_bytes if self._is_down else 0
        if limit and self._given_bytes + len(piece) > limit:
            self._target.sendall(piece[: max(limit - self._given_bytes, 0)])
            raise ConnectionResetError
        self._target.sendall(piece)
        self._given_bytes += len(piece)
        self._line.down_bytes += len(piece) * self._is_down

    def _end(self) -> None:
        for one in (self._source, self._target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _pieces(self) -> Iterator[bytes]:
        make = self._line.weather.messages if self._is_down else None
        if make is None:
            while piece := self._source.recv(PIECE_BYTES):
                yield piece
            return
        messages = make()
        for packet in _packets(self._source):
            for passed in messages(packet):
                yield from (passed[at : at + PIECE_BYTES] for at in range(0, len(passed), PIECE_BYTES))


def _packets(source: socket.socket) -> Iterator[bytes]:
    """Yield whole MQTT packets: a byte, the length in 7 bits each (MQTT 3.1.1, 2.2.3), and so many bytes."""
    with source.makefile("rb") as stream:
        while head := stream.read(1):
            length = shift = 0
            while True:
                (byte,) = stream.read(1) or b"\0"
                head += bytes([byte])
                length |= (byte & 127) << shift
                shift += 7
                if not byte & 128:
                    break
            yield head + stream.read(length)


def _may_be_lost(packet: bytes) -> bool:
    """Tell whether this is a message at QoS 0, of which MQTT promises nothing."""
    return packet[0] >> 4 == 3 and not packet[0] & 0b110


def lossy(share: float, seed: int = 0) -> Callable[[], Packets]:
    """Lose this share of the messages at QoS 0."""
    chance = random.Random(seed)
    return lambda: lambda packet: [] if _may_be_lost(packet) and chance.random() < share else [packet]


def doubled() -> Packets:
    """Pass on every message twice."""
    return lambda packet: [packet, packet] if packet[0] >> 4 == 3 else [packet]


def shuffled(seed: int = 0) -> Callable[[], Packets]:
    """Hold back messages at QoS 0, three at most, and pass them on in another order."""
    chance = random.Random(seed)

    def make() -> Packets:
        held: list[bytes] = []

        def packets(packet: bytes) -> list[bytes]:
            if not _may_be_lost(packet):
                return [packet]
            held.append(packet)
            if len(held) <= 3 and chance.random() < 0.5:
                return []
            passed = chance.sample(held, len(held))
            held.clear()
            return passed

        return packets

    return make
