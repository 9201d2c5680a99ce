"""What a source hands to a pipeline: at most so many samples a second, and only the newest of them wait."""

import time
from collections.abc import Callable

from edgeferry.agent.serving.pipelines.slot import Sample, Slot

__all__ = ["Gate", "Intake"]


class Gate:
    """Lets a sample pass when the last one that did is long enough ago.

    Args:
        max_rate_hz: None lets everything pass.
    """

    def __init__(self, max_rate_hz: float | None) -> None:
        self._interval_s = 1 / max_rate_hz if max_rate_hz else 0.0
        self._next_s = float("-inf")

    def passes(self, now_s: float) -> bool:
        """Tell whether a sample of this moment may pass; one that may counts."""
        if now_s < self._next_s:
            return False
        # Counted from when it was due, so that the rate is kept on average; but what was missed is not caught up with.
        is_late = now_s - self._next_s >= self._interval_s
        self._next_s = (now_s if is_late else self._next_s) + self._interval_s
        return True


class Intake:
    """The source's side of a slot.

    Attributes:
        left_out: Samples that came too soon after one another.
    """

    def __init__(
        self, slot: Slot, gate: Gate, *, now_ms: Callable[[], int], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.left_out = 0
        self._slot = slot
        self._gate = gate
        self._now_ms = now_ms
        self._now_s = now_s

    def offer(self, data: bytes, origin: str = "") -> None:
        """Take a sample; never waits."""
        if self._gate.passes(self._now_s()):
            self._slot.put(Sample(data, self._now_ms(), origin))
        else:
            self.left_out += 1
