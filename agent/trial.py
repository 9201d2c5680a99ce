"""Runs a candidate in a process of its own, under limits, and says how it did.

The process may crash, hang, eat memory or print without end: each has a bound here and a reason in the report.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from edgeferry.agent.serving.command import TRIAL_RUNS, TRIAL_RUNS_S, TrialOptions, child_environment
from edgeferry.agent.serving.report import TrialReport
from edgeferry.wire.codec import WireError, decode
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["TrialCancelledError", "TrialReport", "run_trial"]

_TICK_S = 0.02
_MAX_OUTPUT_BYTES = 64 * 1024
# The kernel's own limit counts what is reserved, stacks of threads among it, not what is held: it is only the backstop
# for an allocation so large that it would be there before the next look at the memory.
_RESERVED_BYTES = 512 * 1024 * 1024


class TrialCancelledError(Exception):
    """The trial was called off; it says nothing of the candidate."""


@dataclass(slots=True)
class _Trial:
    """A running trial: the process, what it has said so far, and the most memory that it was seen to hold."""

    process: subprocess.Popen[bytes]
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    peak_rss_bytes: int = 0


def run_trial(
    model: Path,
    manifest: Path,
    selftest: Path,
    *,
    threads: int,
    timeout_s: float,
    memory_limit_bytes: int,
    max_runs: int = TRIAL_RUNS,
    runs_s: float = TRIAL_RUNS_S,
    cancel: threading.Event | None = None,
    on_started: Callable[[int], None] | None = None,
) -> TrialReport:
    """Return how the candidate did. Blocks; call it in a worker thread, which must live until it returns.

    Args:
        model: The model's file.
        manifest: The manifest's file.
        selftest: The self-test's file.
        threads: Of the interpreter.
        timeout_s: For the whole trial.
        memory_limit_bytes: That the process may hold.
        max_runs: After the self-test, at most, to take the time of one.
        runs_s: How long they may take together.
        cancel: Set from another thread, it ends the trial.
        on_started: Takes the process's id as soon as there is one.

    Raises:
        TrialCancelledError: ``cancel`` was set.
        OSError: The process could not be started.
    """
    options = TrialOptions(
        model,
        manifest,
        selftest,
        threads=threads,
        parent_pid=os.getpid(),
        data_limit_bytes=memory_limit_bytes + _RESERVED_BYTES,
        max_runs=max_runs,
        runs_s=runs_s,
    )
    process = subprocess.Popen(
        options.command(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        process_group=0,
    )
    trial = _Trial(process)
    try:
        if on_started:
            on_started(process.pid)
        verdict = _watch(trial, time.monotonic() + timeout_s, memory_limit_bytes, cancel)
    finally:
        _end(process)
    return _judge(trial, verdict, timeout_s, memory_limit_bytes)


def _watch(trial: _Trial, deadline_s: float, memory_limit_bytes: int, cancel: threading.Event | None) -> Reason | None:
    stdout, stderr = trial.process.stdout, trial.process.stderr
    if stdout is None or stderr is None:
        raise TypeError("the trial's output is not piped")
    watched = psutil.Process(trial.process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ, trial.output)
        selector.register(stderr, selectors.EVENT_READ, trial.errors)
        while selector.get_map():
            if cancel and cancel.is_set():
                raise TrialCancelledError("the trial was called off")
            if time.monotonic() >= deadline_s:
                return Reason.TRIAL_TIMEOUT
            trial.peak_rss_bytes = max(trial.peak_rss_bytes, _rss_bytes(watched))
            if trial.peak_rss_bytes > memory_limit_bytes:
                return Reason.TRIAL_MEMORY
            for key, _ in selector.select(_TICK_S):
                if not _take(key.fd, key.data):
                    selector.unregister(key.fileobj)
    try:
        trial.process.wait(max(0.0, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired:  # it closed its output and lives on
        return Reason.TRIAL_TIMEOUT
    return None


def _take(descriptor: int, kept: bytearray) -> bool:
    data = os.read(descriptor, 65536)
    kept += data
    del kept[:-_MAX_OUTPUT_BYTES]  # the end is what tells: the report, or the last words before a crash
    return bool(data)


def _rss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0  # it has just ended


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        _close(pipe)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe:
        pipe.close()


def _judge(trial: _Trial, verdict: Reason | None, timeout_s: float, memory_limit_bytes: int) -> TrialReport:
    if verdict == Reason.TRIAL_TIMEOUT:
        detail = f"the trial did not end within {timeout_s:g} s"
        return _failed(trial, Code.DEADLINE_EXCEEDED, verdict, detail)
    if verdict == Reason.TRIAL_MEMORY or trial.process.returncode == -signal.SIGKILL:
        return _too_hungry(trial, memory_limit_bytes)
    if trial.process.returncode < 0:
        return _crashed(trial, f"signal {signal.Signals(-trial.process.returncode).name}")
    return _read_report(trial, memory_limit_bytes)


def _read_report(trial: _Trial, memory_limit_bytes: int) -> TrialReport:
    try:
        report = decode(TrialReport, bytes(trial.output))
    except WireError as err:
        return _crashed(trial, f"exit code {trial.process.returncode} and no report ({err})")
    trial.peak_rss_bytes = max(trial.peak_rss_bytes, report.peak_rss_bytes)
    return (
        _too_hungry(trial, memory_limit_bytes)
        if report.passed and trial.peak_rss_bytes > memory_limit_bytes
        else report
    )


def _too_hungry(trial: _Trial, memory_limit_bytes: int) -> TrialReport:
    # A SIGKILL that was not ours is the kernel's, which had no memory left.
    if trial.peak_rss_bytes > memory_limit_bytes:
        detail = f"the trial held {trial.peak_rss_bytes} bytes, the profile allows {memory_limit_bytes}"
    else:
        detail = f"the trial was killed from outside while it held {trial.peak_rss_bytes} bytes; the memory is full"
    return _failed(trial, Code.RESOURCE_EXHAUSTED, Reason.TRIAL_MEMORY, detail)


def _crashed(trial: _Trial, how: str) -> TrialReport:
    lines = trial.errors.decode(errors="replace").splitlines()
    words = [line for line in lines if line.strip() and not line.startswith("INFO")]  # the runtime greets so
    last = f": {words[-1][:300]}" if words else ""
    return _failed(trial, Code.INTERNAL, Reason.TRIAL_CRASHED, f"the trial crashed, {how}{last}")


def _failed(trial: _Trial, code: Code, reason: Reason, detail: str) -> TrialReport:
    return TrialReport(problem=Problem(code, reason, detail), peak_rss_bytes=trial.peak_rss_bytes)
