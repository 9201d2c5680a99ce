"""Puts rows that come one by one together into samples: so many rows each, a new one every so many."""

from collections import deque
from collections.abc import Callable

__all__ = ["Windows"]


class Windows:
    """Between a source of rows and an intake of samples.

    Args:
        rows: Of a sample.
        hop: Rows from the beginning of one sample to that of the next, 1 or more.
        offer: Takes each sample, its rows as lines, and what its last row is called.
    """

    def __init__(self, rows: int, hop: int, offer: Callable[[bytes, str], None]) -> None:
        self._rows = rows
        self._hop = hop
        self._offer = offer
        self._kept: deque[bytes] = deque(maxlen=rows)
        self._due = rows

    def offer(self, row: bytes, origin: str = "") -> None:
        """Take a row."""
        self._kept.append(row)
        self._due -= 1
        if not self._due:
            self._due = self._hop
            self._offer(b"\n".join(self._kept), origin)
