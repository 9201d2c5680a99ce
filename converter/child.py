"""Work done in a process of its own, because TensorFlow and LiteRT can abort the interpreter that runs them.

A child is a module run with one argument, a folder. It reads ``job.json`` there, writes its files there, and at last
``result.json``; while at work it says in ``step.txt`` what it is doing and how far it is, so that a crash can be told
and a person sees it move. What it prints is kept for error messages only. It dies with the process that started it.

The parent's half is `run_child`, the child's half `child_main` and `report_step`.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeferry.converter.errors import ChildError, Code, ConverterError, CrashError, error_named

__all__ = [
    "DEFAULT_DEADLINE_S",
    "MAX_DEADLINE_S",
    "PRIVATE_FILES",
    "Step",
    "Watch",
    "child_main",
    "printed",
    "report_step",
    "run_child",
]

DEFAULT_DEADLINE_S = 3600.0
MAX_DEADLINE_S = 7 * 24 * 3600.0  # a step that takes a week hangs; the system's timers end somewhere above

_JOB = "job.json"
_RESULT = "result.json"
_STEP = "step.txt"
_OUTPUT = "output.txt"
_OUTPUT_TAIL_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.2  # a person sees no difference below
_SAY_EVERY_S = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT = "EDGEFERRY_PARENT_PID"
_STAMP = re.compile(r"^[FE]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ")  # what TensorFlow logs before a message
_NOISE = re.compile(r"WARNING|INFO|[IW]\d{4} |During handling|The above exception|Traceback|\*\*\* |Current thread")

PRIVATE_FILES = frozenset({_JOB, _RESULT, _STEP, _OUTPUT})  # how the two halves talk; no product of the work


@dataclass(frozen=True, slots=True)
class Step:
    """What a child is doing.

    Attributes:
        name: In words: "running int8"; empty when the child has ended.
        done: How many of ``total`` are done; both 0 where nobody counts.
        total: How many there are.
        child: What the child as a whole does, which tells it from others that run at the same time.
    """

    name: str
    done: int = 0
    total: int = 0
    child: str = ""


Watch = Callable[[Step], None]


def run_child(
    module: str,
    job: Mapping[str, object],
    *,
    folder: Path,
    what: str,
    deadline_s: float = DEFAULT_DEADLINE_S,
    watch: Watch | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the result of ``module``'s work on ``job``.

    Call it from a thread that lives at least as long as the child: Linux ends the child with that thread.

    Args:
        module: What ``python -m`` runs; it calls `child_main`.
        job: What to do; becomes JSON, and paths become strings.
        folder: Made where it is missing; the child's files stay in it.
        what: What is being done, for messages: "converting digits.keras".
        deadline_s: After that the child is killed.
        watch: Told now and then, in this thread, what the child is doing, and when it has ended.
        environment: Variables that it gets beside this process's own.

    Raises:
        ConverterError: What the child itself raised.
        CrashError: A signal ended it.
        ChildError: It took too long, or ended without a result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RESULT).unlink(missing_ok=True)
    (folder / _STEP).unlink(missing_ok=True)
    (folder / _JOB).write_text(json.dumps(job, default=os.fspath))
    try:
        with _started(module, folder, environment or {}) as process:
            exit_code = _wait(process, deadline_s, folder, watch and (lambda step: watch(replace(step, child=what))))
    finally:
        if watch is not None:
            watch(Step("", child=what))
    if exit_code is None:
        raise ChildError(
            f"{what} took longer than {deadline_s:g} s{_at_step(folder)}; allow more with --timeout",
            code=Code.CHILD_TOO_SLOW,
        )
    return _result(folder, exit_code, what)


def child_main(work: Callable[[dict[str, Any], Path], Mapping[str, object]]) -> None:
    """Do ``work(job, folder)`` for the folder named on the command line, and hand its result to the parent."""
    _die_with_parent()
    folder = Path(sys.argv[1])
    try:
        result = dict(work(json.loads((folder / _JOB).read_text()), folder))
    except ConverterError as err:
        result = {"error": type(err).__name__, "message": str(err), "code": err.code}
    partial = folder / f"{_RESULT}.partial"
    partial.write_text(json.dumps(result))
    partial.replace(folder / _RESULT)


def report_step(folder: Path, step: str, *, done: int = 0, total: int = 0) -> None:
    """Note that the child now does ``step``: "running the source model".

    Cheap enough to be called for each sample: it writes ten times a second at most, and the first and last always.

    Args:
        folder: The child's.
        step: What it does.
        done: How many of ``total`` are done.
        total: How many there are; 0 where nobody knows.
    """
    path = folder / _STEP
    if 0 < done < total and path.exists() and time.time() - path.stat().st_mtime < _SAY_EVERY_S:
        return
    path.write_text(f"{step}\n{done} {total}")


@contextlib.contextmanager
def _started(module: str, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # -P: a file called numpy.py in the user's folder must not be imported for the real one. A session of its own, so
    # that Ctrl-C reaches the parent alone, which then ends the whole group.
    command = [sys.executable, "-P", "-m", module, str(folder)]
    with (folder / _OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], deadline_s: float, folder: Path, watch: Watch | None) -> int | None:
    """Return the exit code, or None when the deadline came first."""
    end_s = time.monotonic() + deadline_s
    while True:
        left_s = end_s - time.monotonic()
        try:
            return process.wait(timeout=max(0.0, left_s if watch is None else min(left_s, _LOOK_EVERY_S)))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end_s:
                return None
        step = _step(folder)
        if watch is not None and step is not None:
            watch(step)


def _step(folder: Path) -> Step | None:
    """Return what the child says that it does; None before it has said anything, or while it is about to."""
    try:
        name, _, counts = (folder / _STEP).read_text(errors="replace").rpartition("\n")
        done, total = map(int, counts.split())
    except (FileNotFoundError, ValueError):
        return None
    return Step(name, done, total)


def _environment() -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**quiet, **os.environ, "KERAS_BACKEND": "tensorflow", _PARENT: str(os.getpid())}


def _die_with_parent() -> None:
    parent = os.environ.get(_PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the line above
        sys.exit(1)


def _result(folder: Path, exit_code: int, what: str) -> dict[str, Any]:
    if exit_code < 0:
        raise CrashError(f"{what} crashed with {_signal_name(-exit_code)}{_at_step(folder)}", _last_words(folder))
    try:
        result: dict[str, Any] = json.loads((folder / _RESULT).read_text())
    except FileNotFoundError as err:
        words = _last_words(folder)
        raise ChildError(f"{what} failed{_at_step(folder)}" + (f": {words}" if words else "")) from err
    if "error" in result:
        raise error_named(result["error"], result["message"], result["code"])
    return result


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _at_step(folder: Path) -> str:
    step = _step(folder)
    return f" while {step.name}" if step else ""


def _last_words(folder: Path) -> str:
    """Return the last line that says something, of what the child printed; empty where there is none."""
    lines = printed(folder).splitlines()
    telling = [line.strip() for line in lines if line.strip() and not line.startswith(" ") and not _NOISE.match(line)]
    return _STAMP.sub("", telling[-1])[:500] if telling else ""


def printed(folder: Path) -> str:
    """Return the end of what the child in ``folder`` has printed."""
    with (folder / _OUTPUT).open("rb") as output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_TAIL_BYTES))
        return output.read().decode(errors="replace")
