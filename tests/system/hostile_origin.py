"""An origin that lies: it says that it is there, is asked before others, and answers as a test tells it to."""

import threading
import time
from collections.abc import Callable
from typing import Self

from edgeferry.fleet.operator import Login, Operator, Received
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.wire.blocks import Block, BlockRequest, parse_block_request
from edgeferry.wire.topics import TopicKind, Topics
from tests.system.harness import System

__all__ = ["HostileOrigin", "Lie", "endless", "longer", "shorter", "silent", "trickled", "wrong"]

Lie = Callable[[BlockRequest, int, bytes], list[bytes]]
"""Returns what is sent in the place of a block: the request, the block's index, its true bytes."""

ID = "a-hostile-one"  # before all others, so that devices prefer it


def block(request: BlockRequest, index: int, data: bytes) -> bytes:
    return Block(request.transfer, bytes.fromhex(request.sha256)[:8], index, data).to_bytes()


def wrong(request: BlockRequest, index: int, data: bytes) -> list[bytes]:
    return [block(request, index, data[:-1] + bytes([data[-1] ^ 1]))]


def shorter(request: BlockRequest, index: int, data: bytes) -> list[bytes]:
    return [block(request, index, data[:-1]), block(request, index, b""), block(request, index, data)[:20]]


def longer(request: BlockRequest, index: int, data: bytes) -> list[bytes]:
    return [block(request, index, data + b"!"), block(request, index, bytes(900_000))]


def endless(request: BlockRequest, index: int, data: bytes) -> list[bytes]:
    others = (index + 1, index + 1000, (1 << 32) - 1)
    return [block(request, at, bytes(len(data))) for at in others for _ in range(10)] + [bytes(1000)] * 10


def silent(_request: BlockRequest, _index: int, _data: bytes) -> list[bytes]:
    return []


def trickled(request: BlockRequest, index: int, data: bytes) -> list[bytes]:
    """What is right, but of a model only a block now and then."""
    if len(data) == request.block_bytes:
        time.sleep(12.0)
    return [block(request, index, data)]


class HostileOrigin:
    """Serves lies until the end of its context.

    Args:
        fleet: Whose blobs it has, and whose broker it has got into.
        lie: What it sends.
    """

    def __init__(self, fleet: System, lie: Lie) -> None:
        self.asked = 0
        self._lie = lie
        self._topics = Topics()
        self._path_of = Repository.open(fleet.fleet_dir).blob_path
        login = Login("operator", fleet.broker.passwords["operator"])
        self._operator = Operator(parse_broker_url(fleet.broker.url), login, client_id="hostile")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hostile", daemon=True)

    def __enter__(self) -> Self:
        self._operator.connect()
        self._operator.subscribe(self._topics.blob_request("+"))
        self._operator.publish_acknowledged(self._topics.origin(ID), b"online", retain=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        self._operator.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._operator.receive(0.1)
            if isinstance(message, Received):
                request = parse_block_request(message.payload)
                if request.origin in ("", ID):
                    self._answer(self._topics.parse(message.topic).owner, request)

    def _answer(self, device: str, request: BlockRequest) -> None:
        path = self._path_of(request.sha256)
        if path is None:
            return
        data, size = path.read_bytes(), request.block_bytes
        for index in request.indices():
            self.asked += 1
            for frame in self._lie(request, index, data[index * size : (index + 1) * size]):
                self._operator.publish(self._topics.device(device, TopicKind.BLOCK), frame)
            if self._stop.is_set():
                return
