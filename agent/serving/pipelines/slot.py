"""Where samples wait for the model: a few of them, and the oldest makes room for the newest."""

import threading
from collections import deque
from dataclasses import dataclass

__all__ = ["Sample", "Slot"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as the source gave it.

    Attributes:
        taken_ms: When it came, in unix milliseconds.
        origin: What it is called where it comes from: a file's name, a topic; empty for a stream.
    """

    data: bytes
    taken_ms: int
    origin: str = ""


class Slot:
    """Between one source and one pipeline; both sides may be any thread.

    Args:
        capacity: Samples that may wait.

    Attributes:
        taken: Samples that came.
        dropped: Samples that made room, unseen.
    """

    def __init__(self, capacity: int) -> None:
        self.taken = 0
        self.dropped = 0
        self._waiting: deque[Sample] = deque(maxlen=capacity)
        self._changed = threading.Condition()
        self._closed = False

    def put(self, sample: Sample) -> None:
        """Add a sample; never waits."""
        with self._changed:
            self.taken += 1
            self.dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(sample)
            self._changed.notify()

    def take(self, timeout_s: float) -> Sample | None:
        """Return the oldest that waits, or None when none comes within ``timeout_s`` or the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            return self._waiting.popleft() if self._waiting and not self._closed else None

    def close(self) -> None:
        """Have nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
