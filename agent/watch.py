"""Watches one serving process from its start to its end, and says why it ended.

Decides what is a fault: no answer in time, silence, too much memory, or one run of a model that lasts for too long. The
blackbox names the model that was being run.
"""

import logging
import os
import selectors
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgeferry.agent.blackbox import Running, read_running
from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.wire.messages import Reason

__all__ = ["ProcessWatch", "ServingDown", "ServingUp", "SupervisorEvent", "WatchLimits"]

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
class WatchLimits:
    """What a serving process may take before it is killed.

    Attributes:
        ready_s: From its start to its first answer.
        ping_s: Between two pings.
        ping_deadline_s: Without an answer.
        run_s: For one run of a model; a run cannot be stopped but with the process.
        memory_bytes: Resident.
        tick_s: Between two looks at memory and blackbox.
    """

    ready_s: float = 30.0
    ping_s: float = 2.0
    ping_deadline_s: float = 10.0
    run_s: float = 60.0
    memory_bytes: int = 1 << 62
    tick_s: float = 0.5


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why the process has to end.

    Attributes:
        how: What it did, to follow its name in a sentence.
        is_proven: True when the model that has been running for longest is the cause.
    """

    reason: Reason
    how: str
    is_proven: bool = False


class ProcessWatch:
    """One process under watch; all methods run in the supervisor's thread."""

    def __init__(
        self, process: subprocess.Popen[bytes], *, socket: Path, blackbox: Path, limits: WatchLimits, wake: int
    ) -> None:
        """Begin to watch.

        Args:
            process: Started just now.
            socket: Where it will answer.
            blackbox: Where it notes what it runs.
            limits: What it may take.
            wake: Descriptor that becomes readable when somebody wants the process to end.
        """
        self._process = process
        self._blackbox = blackbox
        self._limits = limits
        self._selector = selectors.DefaultSelector()
        self._pidfd = os.pidfd_open(process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._watched = psutil.Process(process.pid)
        self._pinger = _Pinger(socket, limits)
        self._fault: _Fault | None = None
        self._suspects: tuple[Running, ...] = ()

    def wait_until_ready(self) -> bool:
        """Return True as soon as the process answers; False when it ended or took too long."""
        self._pinger.start()
        deadline_s = time.monotonic() + self._limits.ready_s
        while not self._pinger.has_answered.is_set():
            if self._has_ended(0.02):
                return False
            if time.monotonic() > deadline_s:
                how = f"did not answer within {self._limits.ready_s:g} s"
                self._fault = _Fault(Reason.SERVING_UNAVAILABLE, how)
                return False
        return True

    def watch(self) -> None:
        """Return when the process has ended or has to."""
        while not self._fault and not self._has_ended(self._limits.tick_s):
            self._fault = self._look()

    def end(self) -> ServingDown:
        """Kill the process if it has to end, wait until it has, and return how."""
        if self._fault:
            self._suspects = read_running(self._blackbox)
            self._process.kill()
        return self._describe(self._process.wait())

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

    def _look(self) -> _Fault | None:
        silent_s = self._pinger.silent_s()
        if silent_s > self._limits.ping_deadline_s:
            return _Fault(Reason.SERVING_CRASHED, f"gave no sign of life for {silent_s:.1f} s")
        rss_bytes = self._rss_bytes()
        if rss_bytes > self._limits.memory_bytes:
            return _Fault(Reason.MEMORY_LIMIT, f"held {rss_bytes} bytes, allowed are {self._limits.memory_bytes}")
        for running in read_running(self._blackbox)[:1]:
            ran_s = time.monotonic() - running.began_ns / 1e9
            if ran_s > self._limits.run_s:
                return _Fault(Reason.SERVING_CRASHED, f"did not come back for {ran_s:.1f} s", is_proven=True)
        return None

    def _rss_bytes(self) -> int:
        try:
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0  # it has just ended, which the next look sees

    def _describe(self, returned: int) -> ServingDown:
        exit_code, number = (returned, None) if returned >= 0 else (None, -returned)
        fault = self._fault
        if fault:
            suspect = next(iter(self._suspects), None)  # the oldest run is the one that hangs
            is_proven = fault.is_proven and suspect is not None
        else:
            # The run that began last: those that began earlier have been well for longer.
            suspect = next(reversed(read_running(self._blackbox)), None)
            is_proven = suspect is not None and number in _PROVING_SIGNALS
            fault = _Fault(Reason.SERVING_CRASHED, _manner(returned))
        blame = f" while running {suspect.model} {suspect.version}" if suspect else ""
        return ServingDown(
            fault.reason,
            exit_code,
            number,
            suspect.model if suspect else "",
            suspect.version if suspect else 0,
            is_proven,
            f"the serving process {fault.how}{blame}",
        )


class _Pinger:
    """Asks the process again and again whether it lives, in a thread of its own."""

    def __init__(self, socket: Path, limits: WatchLimits) -> None:
        self._client = ServingClient(socket, limits.ping_deadline_s)
        self._interval_s = limits.ping_s
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


def _manner(returned: int) -> str:
    return f"was ended by {signal.Signals(-returned).name}" if returned < 0 else f"exited with {returned}"
