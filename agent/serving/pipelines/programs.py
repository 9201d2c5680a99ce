"""Other people's programs beside a pipeline: started, started again when they end, ended with us."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

__all__ = ["FIRST_PAUSE_S", "MAX_PAUSE_S", "Pauses", "end_program", "start_program"]

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
END_TIMEOUT_S = 2.0


class Pauses:
    """How long to wait before the next start: longer each time, until one has worked."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def wait(self, stopping: threading.Event) -> None:
        """Wait, but no longer than until ``stopping``."""
        stopping.wait(self._next_s)
        self._next_s = min(self._next_s * 2, MAX_PAUSE_S)

    def reset(self) -> None:
        """Begin anew: it works."""
        self._next_s = FIRST_PAUSE_S


def start_program(command: Sequence[str], *, reads: bool) -> subprocess.Popen[bytes]:
    """Return ``command``, running in a process group of its own.

    Args:
        command: Program and arguments; no shell is between.
        reads: Whether it reads what we write; otherwise we read what it writes. What it says of itself goes to our
            log.

    Raises:
        OSError: It cannot be started.
    """
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        list(command), stdin=pipe if reads else nothing, stdout=nothing if reads else pipe, process_group=0, bufsize=0
    )


def end_program(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started, whether it wants to or not; any thread may. Its pipes stay open."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        return
