"""What a trial process says of a candidate: one line of JSON on its standard output."""

from edgeferry.wire.codec import Message
from edgeferry.wire.messages import Problem

__all__ = ["TrialReport"]


class TrialReport(Message, frozen=True):
    """How a candidate did.

    Attributes:
        problem: Why it must not serve; absent when it passed.
        load_ms: From the file to the first possible run.
        runs: After the self-test, to take the time of one.
        invoke_p50_ms: Median of one run.
        invoke_p95_ms: 95 of 100 runs took no longer.
        peak_rss_bytes: The most memory that the whole trial process held.
        samples: Golden inputs that were tried.
    """

    problem: Problem | None = None
    load_ms: float = 0.0
    runs: int = 0
    invoke_p50_ms: float = 0.0
    invoke_p95_ms: float = 0.0
    peak_rss_bytes: int = 0
    samples: int = 0

    @property
    def passed(self) -> bool:
        """Return whether the candidate may serve."""
        return self.problem is None
