"""Waiting for what another thread or process does, with a deadline."""

import time
from collections.abc import Callable

PATIENCE_S = 15.0


def wait_until(is_so: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as ``is_so`` answers true; fail after ``patience_s``."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.002)
