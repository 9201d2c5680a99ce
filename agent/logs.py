"""The agent's log: to standard error, and the last lines kept for `logs.tail`."""

import logging
import os
import sys
from collections import deque

__all__ = ["keep_log_lines", "log_to_stderr"]

LOG_LINES = 200


def log_to_stderr(*, verbose: bool) -> None:
    """Log to standard error; in a service without times, which the journal has itself."""
    in_journal = "JOURNAL_STREAM" in os.environ
    pattern = "%(message)s" if in_journal else "%(asctime)s %(levelname)-7s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if verbose else logging.INFO, format=pattern)


def keep_log_lines() -> deque[str]:
    """Return the last lines of the log, kept up to date from now on."""
    keeper = _LineKeeper()
    logging.getLogger("edgeferry").addHandler(keeper)
    return keeper.lines


class _LineKeeper(logging.Handler):
    """Keeps the last lines of the log for `logs.tail`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
