"""What ``bench`` is asked with, and what a device answers: how fast a model is on it."""

from typing import Annotated

from msgspec import Meta

from edgeferry.wire.codec import Message
from edgeferry.wire.desired import Name, Sha256

__all__ = ["MAX_BENCH_S", "BenchParameters", "BenchReport"]

MAX_BENCH_S = 30.0  # deployments wait meanwhile


class BenchParameters(Message, frozen=True):
    """What is to be measured.

    Attributes:
        model: Of the device.
        version: One that is on its disk; 0 for the active one.
        seconds: How long it is run, at most.
    """

    model: Name
    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    seconds: Annotated[float, Meta(gt=0, le=MAX_BENCH_S)] = 5.0


class BenchReport(Message, frozen=True):
    """How a model did in a process of its own, beside whatever is being served.

    Attributes:
        sha256: Of the model's bytes.
        threads: Of the interpreter.
        runs: How many times it was run.
        load_ms: From the file to the first possible run.
        p50_ms: Median of one run.
        p95_ms: 95 of 100 runs took no longer.
        peak_rss_bytes: The most memory that the whole process held.
    """

    model: str
    version: int
    profile: str
    scheme: str
    sha256: Sha256
    threads: int
    runs: int
    load_ms: float
    p50_ms: float
    p95_ms: float
    peak_rss_bytes: int
