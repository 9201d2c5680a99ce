"""Keeps the serving process running: starts it, watches it, limits its memory, restarts it.

      +--- backoff <---+
      v                | ended, hung, too large, or not ready in time: ServingDown
    start --> wait until it answers --> ServingUp --> watch

One thread does all of it and emits the events; a second one only pings. The blackbox names the model that was being run
when the process ended, and tells when one run lasts for too long.
"""

import logging
import os
import random
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgeferry.agent.blackbox import Running, read_running
from edgeferry.agent.serving.command import ServingOptions, child_environment
from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.wire.messages import Reason

__all__ = ["ServingDown", "ServingUp", "Supervisor", "SupervisorEvent", "Timing", "backoff_s"]

logger = logging.getLogger(__name__)

# What the code of a model does to a process, and next to nothing else does.
_PROVING_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}


@dataclass(frozen=True, slots=True)
class ServingUp:
    """The serving process answers, and has no model loaded."""

    pid: int


@dataclass(frozen=True, slots=True)
class ServingDown:
    """The serving process has ended without being asked to.

    Attributes:
        reason: SERVING_CRASHED, MEMORY_LIMIT, or SERVING_UNAVAILABLE when it never answered.
        exit_code: None when a signal ended it.
        signal: The signal's number; None when it exited.
        suspect: The model that was being run; empty when none was.
        suspect_version: Its version; 0 when none was.
        is_proven: True when nothing but the suspect can have done it.
        detail: A sentence for the person who reads it.
    """

    reason: Reason
    exit_code: int | None
    signal: int | None
    suspect: str
    suspect_version: int
    is_proven: bool
    detail: str


SupervisorEvent = ServingUp | ServingDown


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds.

    Attributes:
        ready: From the start to the first answer.
        ping: Between two pings.
        ping_deadline: Without an answer, after which it hangs.
        run_limit: For one run of a model; above it the process is restarted, for a run cannot be stopped.
        tick: Between two looks at memory and blackbox.
        steady: Running for so long, a process has outlived its earlier failures.
    """

    ready: float = 30.0
    ping: float = 2.0
    ping_deadline: float = 10.0
    run_limit: float = 60.0
    tick: float = 0.5
    steady: float = 60.0


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
        timing: How long things may take.
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
        timing: Timing | None = None,
    ) -> None:
        self._options = ServingOptions(
            socket_path, http, threads, blackbox=runtime_dir / "blackbox", parent_pid=os.getpid()
        )
        self._blackbox = runtime_dir / "blackbox"
        self._memory_limit_bytes = memory_limit_bytes
        self._emit = emit
        self._timing = timing or Timing()
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
        self._hurry.set()

    def stop(self, timeout_s: float) -> None:
        """End the process: SIGTERM, and SIGKILL when it is still there after ``timeout_s``. No event tells of it."""
        self._stopping.set()
        self._hurry.set()
        os.eventfd_write(self._wake, 1)
        if self._process:
            _send_signal(self._process, signal.SIGTERM)
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._process:
            _send_signal(self._process, signal.SIGKILL)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            down = self._live()
            if down is None:
                return
            logger.warning("%s", down.detail)
            self._emit(down)
            failures = 1 if time.monotonic() - began_s > self._timing.steady else failures + 1
            self._hurry.wait(backoff_s(failures, random.random()))  # noqa: S311 - spreads restarts, guards nothing
            self._hurry.clear()

    def _live(self) -> ServingDown | None:
        """Run one process from its start to its end; return None when that was wanted."""
        try:
            process = self._start_process()
        except OSError as err:
            return _down(Reason.SERVING_UNAVAILABLE, None, None, f"the serving process cannot be started: {err}")
        self._process = process
        if self._stopping.is_set():  # stop() may have come before there was a process to signal
            _send_signal(process, signal.SIGTERM)
        life = _Life(process, self._options.socket, self._blackbox, self._memory_limit_bytes, self._timing, self._wake)
        try:
            if life.wait_until_ready():
                logger.info("the serving process answers, pid %d", process.pid)
                self._emit(ServingUp(process.pid))
                life.watch()
            return life.end(wanted=self._stopping.is_set)
        finally:
            life.close()
            self._process = None

    def _start_process(self) -> subprocess.Popen[bytes]:
        self._blackbox.unlink(missing_ok=True)
        return subprocess.Popen(
            self._options.command(), stdin=subprocess.DEVNULL, env=child_environment(), process_group=0
        )


class _Life:
    """One process under watch; all methods run in the supervisor's thread."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        socket: Path,
        blackbox: Path,
        memory_limit: int,
        timing: Timing,
        wake: int,
    ) -> None:
        self._process = process
        self._blackbox = blackbox
        self._memory_limit_bytes = memory_limit
        self._timing = timing
        self._selector = selectors.DefaultSelector()
        self._pidfd = os.pidfd_open(process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._watched = psutil.Process(process.pid)
        self._pinger = _Pinger(socket, timing)
        self._verdict: tuple[Reason, str] | None = None
        self._suspects: tuple[Running, ...] = ()

    def wait_until_ready(self) -> bool:
        """Return True as soon as the process answers; False when it ended or took too long."""
        self._pinger.start()
        deadline_s = time.monotonic() + self._timing.ready
        while not self._pinger.has_answered.is_set():
            if self._has_ended(0.02):
                return False
            if time.monotonic() > deadline_s:
                self._verdict = (Reason.SERVING_UNAVAILABLE, f"did not answer within {self._timing.ready:g} s")
                return False
        return True

    def watch(self) -> None:
        """Return when the process has ended or has to."""
        while not self._has_ended(self._timing.tick):
            self._verdict = self._fault()
            if self._verdict:
                return

    def end(self, *, wanted: Callable[[], bool]) -> ServingDown | None:
        """Kill the process if it has to end; return how it ended, or None when that was wanted."""
        if self._verdict:
            self._suspects = read_running(self._blackbox)
            _send_signal(self._process, signal.SIGKILL)
        returned = self._process.wait()
        if wanted():
            return None
        return self._describe(returned)

    def close(self) -> None:
        """Give everything back."""
        self._pinger.stop()
        self._selector.close()
        os.close(self._pidfd)

    def _has_ended(self, timeout_s: float) -> bool:
        """Wait for the process's end or the call to stop; while stopping, wait for the end alone."""
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._pidfd:
                return True
            self._selector.unregister(key.fileobj)  # stop() has spoken; SIGTERM is on its way
        return False

    def _fault(self) -> tuple[Reason, str] | None:
        silent_s = self._pinger.silent_s()
        if silent_s > self._timing.ping_deadline:
            return Reason.SERVING_CRASHED, f"gave no sign of life for {silent_s:.1f} s"
        rss_bytes = self._rss_bytes()
        if rss_bytes > self._memory_limit_bytes:
            return Reason.MEMORY_LIMIT, f"held {rss_bytes} bytes, allowed are {self._memory_limit_bytes}"
        for running in read_running(self._blackbox)[:1]:
            ran_s = time.monotonic() - running.began_ns / 1e9
            if ran_s > self._timing.run_limit:
                return Reason.SERVING_CRASHED, f"has run {running.model} {running.version} for {ran_s:.1f} s"
        return None

    def _rss_bytes(self) -> int:
        try:
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0  # it has just ended, which the next look sees

    def _describe(self, returned: int) -> ServingDown:
        exit_code, number = (returned, None) if returned >= 0 else (None, -returned)
        if self._verdict:
            reason, how = self._verdict
            # The oldest run is the one that hangs.
            suspect = self._suspects[0] if self._suspects else None
            is_proven = suspect is not None and how.startswith("has run")
        else:
            reason, how = Reason.SERVING_CRASHED, _manner(exit_code, number)
            # Of several, the one that began last: what began earlier has been running well for longer.
            suspect = next(reversed(read_running(self._blackbox)), None)
            is_proven = suspect is not None and number in _PROVING_SIGNALS
        blame = f" while running {suspect.model} {suspect.version}" if suspect else ""
        return _down(reason, exit_code, number, f"the serving process {how}{blame}", suspect, is_proven=is_proven)


class _Pinger:
    """Asks the process again and again whether it lives, in a thread of its own."""

    def __init__(self, socket: Path, timing: Timing) -> None:
        self._client = ServingClient(socket, timing.ping_deadline)
        self._interval_s = timing.ping
        self._answered_s = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ping", daemon=True)
        self.has_answered = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def silent_s(self) -> float:
        return time.monotonic() - self._answered_s

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._client.ping()
            except ServingError as err:
                logger.debug("ping: %s", err)
                self._stopping.wait(self._interval_s if self.has_answered.is_set() else 0.05)
                continue
            self._answered_s = time.monotonic()
            self.has_answered.set()
            self._stopping.wait(self._interval_s)
        self._client.close()


def _down(
    reason: Reason,
    exit_code: int | None,
    number: int | None,
    detail: str,
    suspect: Running | None = None,
    *,
    is_proven: bool = False,
) -> ServingDown:
    model, version = (suspect.model, suspect.version) if suspect else ("", 0)
    return ServingDown(reason, exit_code, number, model, version, is_proven, detail)


def _manner(exit_code: int | None, number: int | None) -> str:
    if number is None:
        return f"exited with {exit_code}"
    return f"was ended by {signal.Signals(number).name}"


def _send_signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        logger.debug("process %d has ended already", process.pid)
