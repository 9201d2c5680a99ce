"""Keeps the serving process running: starts it, has it watched, restarts it.

      +--- backoff <---+
      v                | ended, hung, too large, or not ready in time: ServingDown
    start --> wait until it answers --> ServingUp --> watch

One thread does all of it and emits the events.
"""

import dataclasses
import logging
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeferry.agent.serving.command import ServingOptions, child_environment
from edgeferry.agent.watch import ProcessWatch, ServingDown, ServingUp, SupervisorEvent, WatchLimits
from edgeferry.wire.messages import Reason

__all__ = ["ServingDown", "ServingUp", "Supervisor", "SupervisorEvent", "WatchLimits", "backoff_s"]

logger = logging.getLogger(__name__)

_STEADY_S = 60.0  # running for so long, a process has outlived its earlier failures


def backoff_s(failures: int, chance: float) -> float:
    """Return how long to wait before the next start.

    Args:
        failures: In a row, 1 or more.
        chance: 0 to 1, drawn anew each time, so that a fleet does not restart in step.
    """
    return float(min(30.0, 0.1 * 2 ** min(failures - 1, 16)) * (0.5 + chance / 2))


class Supervisor:
    """Runs the serving process from ``start`` to ``stop``.

    Args:
        socket_path: Unix socket that the process shall serve on.
        http: HOST:PORT that it shall serve on as well; None for no other.
        runtime_dir: Where the blackbox is; made when it is missing.
        threads: Of each interpreter.
        memory_limit_bytes: That the process may hold.
        emit: Takes the events, in the supervisor's own thread.
        limits: What else the process may take before it counts as hung.
        options: What else the process is told.
        on_process: Takes the id of each process that is started.
    """

    def __init__(
        self,
        *,
        socket_path: Path,
        http: str | None,
        runtime_dir: Path,
        threads: int,
        memory_limit_bytes: int,
        emit: Callable[[SupervisorEvent], None],
        limits: WatchLimits | None = None,
        options: ServingOptions | None = None,
        on_process: Callable[[int], None] | None = None,
    ) -> None:
        self._socket_path = socket_path
        self._blackbox = runtime_dir / "blackbox"
        self._options = dataclasses.replace(
            options or ServingOptions(),
            socket=socket_path,
            http=http,
            threads=threads,
            blackbox=self._blackbox,
            parent_pid=os.getpid(),
        )
        self._limits = dataclasses.replace(limits or WatchLimits(), memory_bytes=memory_limit_bytes)
        self._emit = emit
        self._on_process = on_process
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process's id; None while there is none."""
        process = self._process
        return process.pid if process else None

    @property
    def is_alive(self) -> bool:
        """Return whether the supervisor's own thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the process, and keep it running from now on."""
        self._blackbox.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def ensure_running(self) -> None:
        """Start the process now when it is waiting for its next start; do nothing when it runs."""
        if not self._process:
            self._hurry.set()

    def stop(self, timeout_s: float) -> None:
        """End the process: SIGTERM, and SIGKILL when it is still there after ``timeout_s``. No event tells of it."""
        self._stopping.set()
        self._hurry.set()
        os.eventfd_write(self._wake, 1)
        self._signal(signal.SIGTERM)
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._signal(signal.SIGKILL)
            self._thread.join(timeout_s)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process:
            process.send_signal(number)  # does nothing once the process has been waited for

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            down = self._live()
            if down is None:
                return
            logger.warning("%s", down.detail)
            self._emit(down)
            failures = 1 if time.monotonic() - began_s > _STEADY_S else failures + 1
            self._hurry.wait(backoff_s(failures, random.random()))  # noqa: S311 - spreads restarts, guards nothing
            self._hurry.clear()

    def _live(self) -> ServingDown | None:
        """Run one process from its start to its end; return None when that was wanted."""
        try:
            process = self._start_process()
        except OSError as err:
            detail = f"the serving process cannot be started: {err}"
            return ServingDown(Reason.SERVING_UNAVAILABLE, None, None, "", 0, is_proven=False, detail=detail)
        self._process = process
        if self._stopping.is_set():  # stop() may have come before there was a process to signal
            process.terminate()
        watch = ProcessWatch(
            process, socket=self._socket_path, blackbox=self._blackbox, limits=self._limits, wake=self._wake
        )
        try:
            if watch.wait_until_ready():
                logger.info("the serving process answers, pid %d", process.pid)
                self._emit(ServingUp(process.pid))
                watch.watch()
            down = watch.end()
        finally:
            watch.close()
            self._process = None
        return None if self._stopping.is_set() else down

    def _start_process(self) -> subprocess.Popen[bytes]:
        self._blackbox.unlink(missing_ok=True)
        process = subprocess.Popen(
            self._options.command(), stdin=subprocess.DEVNULL, env=child_environment(), process_group=0
        )
        if self._on_process:
            self._on_process(process.pid)
        return process
