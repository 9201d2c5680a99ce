"""Counters and histograms of requests, as Prometheus reads them: in TensorFlow Serving's names, and in ours.

Only models that are loaded get series of their own, so that no client can make more of them. Source of names, labels
and buckets: tensorflow/serving, servables/tensorflow/util.cc; Prometheus text exposition format 0.0.4.
"""

import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.stats import Durations
from edgeferry.wire.messages import Code

__all__ = ["CONTENT_TYPE", "Metrics", "QueueFigures", "Refusal"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_US = tuple(10 * 1.8**power for power in range(33))  # what TensorFlow Serving has
_RUNTIME = "TFLite"
_REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What one loaded version is doing: requests that wait, runs and failures since it was loaded."""

    model: str
    version: int
    depth: int
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that ended with an error; ``at_s`` is unix time."""

    at_s: float
    model: str
    code: Code
    detail: str


class _Histogram:
    __slots__ = ("counts", "total_us")

    def __init__(self) -> None:
        self.counts = array("q", [0]) * (len(_BUCKETS_US) + 1)
        self.total_us = 0.0

    def add(self, value_us: float) -> None:
        self.counts[bisect_left(_BUCKETS_US, value_us)] += 1
        self.total_us += value_us


@dataclass(slots=True)
class _Model:
    requests: dict[str, int] = field(default_factory=dict)  # by status
    latencies: dict[tuple[str, str], _Histogram] = field(default_factory=dict)  # by method and entry point
    runtimes: dict[str, _Histogram] = field(default_factory=dict)  # by method
    stages: dict[str, _Histogram] = field(default_factory=dict)  # by their name


class Metrics:
    """Counts requests; any thread may record and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._refusals: deque[Refusal] = deque(maxlen=_REMEMBERED)

    def answered(self, model: str, method: str, entry: str, *, latency_s: float, spent: Durations) -> None:
        """Count a request that was answered.

        Args:
            model: A loaded one.
            method: ``predict``, ``classify``, ``regress`` or ``infer``.
            entry: ``REST`` or ``GRPC``.
            latency_s: From the whole request to the whole answer.
            spent: Where that time went.
        """
        with self._lock:
            found = self._models.setdefault(model, _Model())
            found.requests[Code.OK] = found.requests.get(Code.OK, 0) + 1
            found.latencies.setdefault((method, entry), _Histogram()).add(latency_s * 1e6)
            found.runtimes.setdefault(method, _Histogram()).add(spent.invoke_s * 1e6)
            for name, spent_s in spent.by_name().items():
                found.stages.setdefault(name.removesuffix("_s"), _Histogram()).add(spent_s * 1e6)

    def refused(self, model: str, error: RequestError) -> None:
        """Count a request for a loaded model that ended with ``error``, and remember it among the last."""
        with self._lock:
            found = self._models.setdefault(model, _Model())
            found.requests[error.code] = found.requests.get(error.code, 0) + 1
            self._refusals.appendleft(Refusal(time.time(), model, error.code, str(error)))

    def last_refusals(self) -> tuple[Refusal, ...]:
        """Return what was refused last, the latest first."""
        with self._lock:
            return tuple(self._refusals)

    def tfs_text(self) -> bytes:
        """Return the figures in TensorFlow Serving's names, durations in microseconds."""
        with self._lock:
            return _text(_tfs_lines(self._models))

    def own_text(self, queues: Iterable[QueueFigures], *, rss_bytes: int) -> bytes:
        """Return the figures in our own names, durations in seconds."""
        with self._lock:
            return _text([*_own_lines(self._models), *_queue_lines(queues, rss_bytes)])


def _text(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _tfs_lines(models: Mapping[str, _Model]) -> Iterator[str]:
    yield "# TYPE :tensorflow:serving:request_count counter"
    for name, model in models.items():
        for status, count in model.requests.items():
            yield _line(":tensorflow:serving:request_count", {"model_name": name, "status": status}, count)
    yield "# TYPE :tensorflow:serving:request_latency histogram"
    for name, model in models.items():
        for (method, entry), histogram in model.latencies.items():
            labels = {"model_name": name, "API": method, "entrypoint": entry}
            yield from _histogram_lines(":tensorflow:serving:request_latency", labels, histogram, per_unit=1.0)
    yield "# TYPE :tensorflow:serving:runtime_latency histogram"
    for name, model in models.items():
        for method, histogram in model.runtimes.items():
            labels = {"model_name": name, "API": method.capitalize(), "runtime": _RUNTIME}
            yield from _histogram_lines(":tensorflow:serving:runtime_latency", labels, histogram, per_unit=1.0)


def _own_lines(models: Mapping[str, _Model]) -> Iterator[str]:
    yield from _heading(
        "edgeferry_requests_total", "counter", "Requests for a loaded model, by the code they ended with."
    )
    for name, model in models.items():
        for status, count in model.requests.items():
            yield _line("edgeferry_requests_total", {"model": name, "code": status}, count)
    yield from _heading("edgeferry_request_seconds", "histogram", "From the whole request to the whole answer.")
    for name, model in models.items():
        for (method, entry), histogram in model.latencies.items():
            labels = {"model": name, "method": method, "entry": entry}
            yield from _histogram_lines("edgeferry_request_seconds", labels, histogram, per_unit=1e6)
    yield from _heading("edgeferry_stage_seconds", "histogram", "Of that: parse, queue, input, invoke, output.")
    for name, model in models.items():
        for stage, histogram in model.stages.items():
            yield from _histogram_lines(
                "edgeferry_stage_seconds", {"model": name, "stage": stage}, histogram, per_unit=1e6
            )


def _queue_lines(queues: Iterable[QueueFigures], rss_bytes: int) -> Iterator[str]:
    figures = list(queues)
    for metric, kind, description, values in (
        ("edgeferry_queue_depth", "gauge", "Requests that wait.", [f.depth for f in figures]),
        ("edgeferry_runs_total", "counter", "Runs since the version was loaded.", [f.succeeded for f in figures]),
        ("edgeferry_run_failures_total", "counter", "Runs that failed or came too late.", [f.failed for f in figures]),
    ):
        yield from _heading(metric, kind, description)
        for each, value in zip(figures, values, strict=True):
            yield _line(metric, {"model": each.model, "version": each.version}, value)
    yield from _heading("process_resident_memory_bytes", "gauge", "Memory of the serving process.")
    yield _line("process_resident_memory_bytes", {}, rss_bytes)


def _heading(metric: str, kind: str, description: str) -> Iterator[str]:
    yield f"# HELP {metric} {description}"
    yield f"# TYPE {metric} {kind}"


def _histogram_lines(
    metric: str, labels: Mapping[str, Any], histogram: _Histogram, *, per_unit: float
) -> Iterator[str]:
    seen = 0
    for bound_us, count in zip(_BUCKETS_US, histogram.counts, strict=False):
        seen += count
        yield _line(f"{metric}_bucket", {**labels, "le": f"{bound_us / per_unit:g}"}, seen)
    seen += histogram.counts[-1]
    yield _line(f"{metric}_bucket", {**labels, "le": "+Inf"}, seen)
    yield _line(f"{metric}_sum", labels, f"{histogram.total_us / per_unit:.6g}")
    yield _line(f"{metric}_count", labels, seen)


def _line(metric: str, labels: Mapping[str, Any], value: object) -> str:
    spelled = ",".join(f'{name}="{_escaped(str(text))}"' for name, text in labels.items())
    return f"{metric}{{{spelled}}} {value}" if spelled else f"{metric} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
