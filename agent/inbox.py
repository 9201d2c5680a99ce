"""What other threads tell the main loop: one bounded queue, drained by the loop alone."""

import queue
from dataclasses import dataclass

from edgeferry.agent.events import LifecycleEvent

__all__ = ["Acknowledged", "Connected", "Disconnected", "Done", "Inbox", "InboxItem", "Received", "Stop"]

CAPACITY = 1024
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
    """

    topic: str
    payload: bytes
    reply_to: str = ""
    correlation: bytes = b""
    deadline_ms: int = 0
    retained: bool = False


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
    """The queue between the threads that hear things and the one that decides."""

    def __init__(self) -> None:
        self._queue: queue.Queue[object] = queue.Queue(CAPACITY)
        self.dropped = 0

    def put(self, item: object) -> None:
        """Add ``item``; when the loop has not made room for ``PATIENCE_S`` it is dropped and counted."""
        try:
            self._queue.put(item, timeout=PATIENCE_S)
        except queue.Full:
            self.dropped += 1

    def take(self, timeout_s: float) -> object | None:
        """Return the next item, or None after ``timeout_s``."""
        try:
            return self._queue.get(timeout=max(timeout_s, 0.0)) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
