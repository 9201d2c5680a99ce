"""What one version of a model has done: totals, and the latencies of the last minute in bounded memory."""

import threading
from array import array
from dataclasses import dataclass

__all__ = ["Durations", "Stats", "Totals", "percentile"]

WINDOW_S = 60.0

_DRAWN = 60
_KEPT = 2048  # latencies; the newest ones when a minute brings more


@dataclass(frozen=True, slots=True)
class Durations:
    """Where one request's time went, in seconds.

    Attributes:
        parse_s: From the request's bytes to the model's tensors.
        queue_s: Waiting for the interpreter.
        input_s: Tensors copied in.
        invoke_s: In the interpreter.
        output_s: Tensors copied out, and written as the answer.
    """

    parse_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    invoke_s: float = 0.0
    output_s: float = 0.0

    def __add__(self, other: "Durations") -> "Durations":
        return Durations(**{name: spent + getattr(other, name) for name, spent in self.by_name().items()})

    @property
    def run_s(self) -> float:
        """Return how long the queue's thread was busy with it."""
        return self.input_s + self.invoke_s + self.output_s

    def by_name(self) -> dict[str, float]:
        """Return all of them, in the order in which they come."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Totals:
    """Sums since the version was loaded."""

    succeeded: int = 0
    failed: int = 0
    spent: Durations = Durations()
    failed_s: float = 0.0
    last_ms: int = 0


class Stats:
    """Counts requests; any thread may record and read."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._began_s = now_s
        self._times = array("d")
        self._latencies = array("d")
        self._queues = array("d")
        self._next = 0
        self._seconds = array("q", [-1]) * int(WINDOW_S)
        self._counts = array("q", [0]) * int(WINDOW_S)
        self.totals = Totals()

    def succeeded(self, durations: Durations, *, now_s: float, unix_ms: int) -> None:
        """Count a request that was answered."""
        with self._lock:
            self.totals.succeeded += 1
            self.totals.spent += durations
            self.totals.last_ms = unix_ms
            self._count(now_s)
            self._keep(now_s, durations)

    def handled(self, *, parse_s: float, output_s: float) -> None:
        """Add what the protocol took for a request that was counted when it was run."""
        with self._lock:
            self.totals.spent += Durations(parse_s=parse_s, output_s=output_s)

    def failed(self, waited_s: float, *, now_s: float, unix_ms: int) -> None:
        """Count a request that the model failed, or that came too late or was not answered in time."""
        with self._lock:
            self.totals.failed += 1
            self.totals.failed_s += waited_s
            self.totals.last_ms = unix_ms
            self._count(now_s)

    def figures(self, now_s: float) -> dict[str, int | float]:
        """Return the figures of the telemetry; those that nothing was measured for are left out."""
        with self._lock:
            since = now_s - WINDOW_S
            recent = [i for i, at in enumerate(self._times) if at >= since]
            latencies = sorted(self._latencies[i] for i in recent)
            queues = sorted(self._queues[i] for i in recent)
            requests = sum(n for at, n in zip(self._seconds, self._counts, strict=True) if at > int(now_s) - WINDOW_S)
            figures: dict[str, int | float] = {
                "total": self.totals.succeeded + self.totals.failed,
                "errors_total": self.totals.failed,
                "rps": round(requests / max(1.0, min(WINDOW_S, now_s - self._began_s)), 3),
            }
        if latencies:
            figures |= {f"p{p}_ms": round(percentile(latencies, p) * 1e3, 3) for p in (50, 95, 99)}
            figures["queue_p95_ms"] = round(percentile(queues, 95) * 1e3, 3)
        return figures

    def latencies_ms(self, now_s: float) -> list[float]:
        """Return the last latencies of the last minute, the oldest first; few enough to draw."""
        with self._lock:
            ordered = [*range(self._next, len(self._times)), *range(self._next)][-_DRAWN:]
            return [self._latencies[i] * 1e3 for i in ordered if self._times[i] >= now_s - WINDOW_S]

    def _count(self, now_s: float) -> None:
        second = int(now_s)
        place = second % len(self._seconds)
        if self._seconds[place] != second:
            self._seconds[place] = second
            self._counts[place] = 0
        self._counts[place] += 1

    def _keep(self, now_s: float, durations: Durations) -> None:
        columns = (self._times, self._latencies, self._queues)
        values = (now_s, durations.queue_s + durations.run_s, durations.queue_s)
        full = len(self._times) == _KEPT
        for column, value in zip(columns, values, strict=True):
            if full:
                column[self._next] = value
            else:
                column.append(value)
        if full:
            self._next = (self._next + 1) % _KEPT


def percentile(ascending: list[float], percent: int) -> float:
    """Return the smallest of ``ascending`` values that ``percent`` of them do not exceed (nearest rank)."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
