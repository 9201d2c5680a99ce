"""What other threads tell the main loop: one queue, drained by the loop alone.

Messages are bounded, and dropped when the loop does not keep up: the network is used to loss. Everything else is
bounded by those who say it, and never dropped: a deployment would wait for its answer for ever.
"""

import logging
import queue
import threading
from dataclasses import dataclass

from edgeferry.agent.events import LifecycleEvent

__all__ = ["Acknowledged", "Connected", "Disconnected", "Done", "Inbox", "InboxItem", "Received", "Stop"]

logger = logging.getLogger(__name__)

CAPACITY = 1024  # messages
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Connected:
    """A broker has accepted us and our subscriptions are on their way.

    Attributes:
        url: Which one.
        protocol: 5 or 4 (3.1.1).
        max_packet_bytes: What the broker says it takes; 0 when it says nothing.
    """

    url: str
    protocol: int
    max_packet_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no connection; another try is under way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message.

    Attributes:
        reply_to: Response topic (MQTT 5), or empty.
        correlation: Correlation data (MQTT 5).
        deadline_ms: When it expires, in unix milliseconds by this device's clock; 0 for never.
        retained: True when it was kept for us by the broker.
        routing_key: User property (MQTT 5) that says whose request it is, or empty.
    """

    topic: str
    payload: bytes
    reply_to: str = ""
    correlation: bytes = b""
    deadline_ms: int = 0
    retained: bool = False
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has taken the message of this number."""

    message_id: int


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has finished; ``value`` says what came of it, ``lane`` which worker it was."""

    lane: str
    value: object


@dataclass(frozen=True, slots=True)
class Stop:
    """End cleanly."""


InboxItem = Connected | Disconnected | Received | Acknowledged | Done | Stop | LifecycleEvent


class Inbox:
    """The queue between the threads that hear things and the one that decides.

    Args:
        capacity: Messages that may wait.
        patience_s: How long a message waits for room before it is dropped.
    """

    def __init__(self, *, capacity: int = CAPACITY, patience_s: float = PATIENCE_S) -> None:
        # A SimpleQueue, because `put` is called by signal handlers in the very thread that takes: a Queue's lock,
        # held by that thread, would be waited for for ever.
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._room = threading.Semaphore(capacity)
        self._patience_s = patience_s
        self.dropped = 0

    def put(self, item: object) -> None:
        """Add ``item``; a message for which the loop has made no room in time is dropped and counted."""
        if isinstance(item, Received) and not self._room.acquire(timeout=self._patience_s):
            self.dropped += 1
            logger.warning("dropped a message on %s: the main loop does not keep up", item.topic)
            return
        self._queue.put(item)

    def take(self, timeout_s: float) -> object | None:
        """Return the next item, or None after ``timeout_s``."""
        try:
            item = self._queue.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        if isinstance(item, Received):
            self._room.release()
        return item
