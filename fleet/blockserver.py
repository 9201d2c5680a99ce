"""An origin on the network: takes block requests from the broker and answers them from the fleet's blobs.

Decides what an origin says of itself (`origin/{oid}/availability`, retained, with a last will; cleared when a push
ends) and that it says the signed metadata again on every connect. Runs in a thread of its own with a connection of its
own, so that a push can serve while it watches.
"""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self

from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import BrokerError, Connected, Login, Operator, Received, Will
from edgeferry.fleet.origin import BlockQueue, TokenBucket, frame_of, is_for
from edgeferry.fleet.settings import BrokerUrl
from edgeferry.wire.blocks import parse_block_request
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Availability
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["BlobFiles", "BlockServer", "OriginSettings"]

log = logging.getLogger(__name__)

MAX_OPEN_BLOBS = 32
_IDLE_S = 0.5
_BURST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """How an origin serves.

    Attributes:
        id: Its name in topics and in the requests of devices.
        rate_bytes_s: Limit over all devices together; 0 for none.
        is_lasting: True for the daemon: it stays ``offline`` in the broker's memory when it ends, a push is forgotten.
    """

    id: str
    rate_bytes_s: float = 0.0
    is_lasting: bool = False


class BlobFiles:
    """Reads pieces of blobs and keeps the files of the last few open.

    Args:
        path_of: Returns the file of a blob by its SHA-256, or None when it is not here.
    """

    def __init__(self, path_of: Callable[[str], Path | None]) -> None:
        self._path_of = path_of
        self._open: OrderedDict[str, int] = OrderedDict()

    def read(self, sha256: str, offset: int, size: int) -> bytes | None:
        """Return at most ``size`` bytes of the blob from ``offset`` on; None when it is not here."""
        descriptor = self._descriptor(sha256)
        return None if descriptor is None else os.pread(descriptor, size, offset)

    def close(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, sha256: str) -> int | None:
        if sha256 in self._open:
            self._open.move_to_end(sha256)
            return self._open[sha256]
        path = self._path_of(sha256)
        if path is None:
            return None
        while len(self._open) >= MAX_OPEN_BLOBS:
            os.close(self._open.popitem(last=False)[1])
        self._open[sha256] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._open[sha256]


class BlockServer:
    """Answers block requests until it is closed.

    Args:
        url: The broker.
        login: Who connects; may write below the whole root.
        topics: The fleet's topics.
        settings: How to serve.
        path_of: Returns the file of a blob by its SHA-256.
        on_connected: Called with the connection after every connect but the first; says the metadata again.
    """

    def __init__(
        self,
        url: BrokerUrl,
        login: Login,
        topics: Topics,
        settings: OriginSettings,
        path_of: Callable[[str], Path | None],
        *,
        on_connected: Callable[[Operator], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.sent_bytes = 0
        self._topics = topics
        self._topic = topics.origin(settings.id)
        will = Will(self._topic, Availability.OFFLINE.encode())
        self._operator = Operator(url, login, client_id=f"{login.user}-{settings.id}"[:64], will=will)
        self._blobs = BlobFiles(path_of)
        self._queue = BlockQueue()
        self._bucket = TokenBucket(settings.rate_bytes_s, _BURST_BYTES)
        self._on_connected = on_connected
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"origin {settings.id}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Connect, say that we are here, and serve from now on.

        Raises:
            BrokerError: The broker cannot be reached or does not let us in.
        """
        self._operator.connect()
        self._operator.subscribe(self._topics.blob_request("+"))
        self._say(Availability.ONLINE.encode())
        self._thread.start()

    @property
    def is_serving(self) -> bool:
        """Return whether the thread that serves lives."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop serving, take back what we said of ourselves, and disconnect."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self._say(Availability.OFFLINE.encode() if self.settings.is_lasting else b"")
        self._operator.close()
        self._blobs.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._take_requests(0.0 if self._queue else _IDLE_S)
                self._send_next()
        except Exception:
            log.exception("origin %s: stopped serving", self.settings.id)
            raise

    def _take_requests(self, wait_s: float) -> None:
        """Queue every request that has come, waiting for the first one at most ``wait_s``."""
        message = self._operator.receive(wait_s)
        while message is not None:
            if isinstance(message, Connected):
                self._greet()
            else:
                self._queue_request(message)
            message = self._operator.receive(0.0)

    def _greet(self) -> None:
        self._queue.forget()
        self._say(Availability.ONLINE.encode())
        try:
            self._on_connected(self._operator)
        except FleetError as err:
            log.warning("origin %s: metadata not said again: %s", self.settings.id, err)

    def _queue_request(self, message: Received) -> None:
        try:
            topic = self._topics.parse(message.topic)
            request = parse_block_request(message.payload)
        except WireError as err:
            log.debug("request ignored: %s", err)
            return
        if topic.kind is TopicKind.BLOB_REQUEST and is_for(request, self.settings.id):
            self._queue.put(topic.owner, request)

    def _send_next(self) -> None:
        block = self._queue.take()
        if block is None:
            return
        try:
            frame = frame_of(block, self._blobs.read)
        except OSError as err:
            log.warning("blob %s cannot be read: %s", block.sha256, err)
            return
        if frame is None:
            return
        delay_s = self._bucket.delay_s(len(frame), time.monotonic())
        if delay_s:
            self._stop.wait(delay_s)
        try:
            self._operator.publish(self._topics.device(block.device, TopicKind.BLOCK), frame)
        except BrokerError as err:
            log.info("%s; what was asked for is forgotten", err)
            self._queue.forget()
            return
        self.sent_bytes += len(frame)

    def _say(self, payload: bytes) -> None:
        try:
            self._operator.publish(self._topic, payload, qos=1, retain=True).wait_for_publish(2.0)
        except (BrokerError, RuntimeError, ValueError) as err:
            log.info("origin %s cannot say %r: %s", self.settings.id, payload, err)
