"""Whether a blob comes slower than over any line that is good for a model. Pure: time is a number.

An origin, or whoever sits on the line, can give just so much that nobody gives up: TUF calls it slow retrieval. So what
arrives is counted in windows of half a minute.
"""

__all__ = ["SLOW_BYTES_S", "WINDOW_S", "Pace"]

SLOW_BYTES_S = 8192  # 64 kbit/s, an ISDN line
WINDOW_S = 30.0


class Pace:
    """How fast one blob comes.

    Attributes:
        slow_bytes_s: How fast it came in the last window in which that was slow; None when it is not slow.
    """

    def __init__(self) -> None:
        self.slow_bytes_s: float | None = None
        self._began_s: float | None = None
        self._arrived_bytes = 0

    def note(self, arrived_bytes: int, now_s: float) -> bool:
        """Count what has arrived; tell whether a window has ended that was slow, but not silent."""
        if self._began_s is None:
            self._began_s = now_s
        self._arrived_bytes += arrived_bytes
        if now_s - self._began_s < WINDOW_S:
            return False
        rate_bytes_s = self._arrived_bytes / (now_s - self._began_s)
        self._began_s, self._arrived_bytes = now_s, 0
        self.slow_bytes_s = rate_bytes_s if 0 < rate_bytes_s < SLOW_BYTES_S else None
        return self.slow_bytes_s is not None

    def pause(self) -> None:
        """Begin anew with what comes next: nobody could send in between."""
        self.slow_bytes_s, self._began_s, self._arrived_bytes = None, None, 0
