"""The agent's log: to standard error, and the last lines kept for `logs.tail`."""

import logging
import os
import sys
from collections import deque

__all__ = ["keep_log_lines", "log_to_stderr"]

LOG_LINES = 200

_TO_PERSON = "%(asctime)s %(levelname)-7s %(message)s"
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # of syslog; what is less is 7, debug


def log_to_stderr(*, verbose: bool = False, pattern: str = _TO_PERSON) -> None:
    """Log to standard error by ``pattern``; in a service as the journal wants it: with priorities, without times."""
    handler = logging.StreamHandler(sys.stderr)
    in_journal = "JOURNAL_STREAM" in os.environ
    handler.setFormatter(_JournalFormatter("%(message)s") if in_journal else logging.Formatter(pattern))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line, as sd-daemon(3) has it."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


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
