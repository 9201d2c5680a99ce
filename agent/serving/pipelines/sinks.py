"""Where answers go: an MQTT topic, a file of JSON lines, a command's standard input. Each line is one answer."""

import contextlib
import os
import select
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from edgeferry.agent.serving.pipelines.programs import (
    END_TIMEOUT_S,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    end_program,
    start_program,
)

__all__ = ["CommandSink", "FileSink", "Sink", "SinkError", "TopicSink"]

WRITE_TIMEOUT_S = 5.0


class SinkError(Exception):
    """An answer did not get where it should; the text says why."""


class Sink(ABC):
    """Takes answers, from one thread."""

    @abstractmethod
    def put(self, line: bytes) -> None:
        """Hand over one answer, without a line end in it.

        Raises:
            SinkError: It was not taken.
        """

    def close(self) -> None:
        """Give everything back; a sink that holds nothing has nothing to do."""
        return


class TopicSink(Sink):
    """Answers as messages.

    Args:
        topic: Where to.
        publish: Returns None when the message was not taken.
    """

    def __init__(self, topic: str, publish: Callable[[str, bytes], int | None]) -> None:
        self._topic = topic
        self._publish = publish

    def put(self, line: bytes) -> None:
        """Publish one answer."""
        if self._publish(self._topic, line) is None:
            raise SinkError(f"not said on {self._topic}: there is no connection to a broker, or too much waits for it")


class FileSink(Sink):
    """Answers as lines of a file, with older files beside it: ``name.1`` is the one before, and so on.

    Lines are written at once and not synced: a power cut may take those of the last seconds, and the card lives longer.

    Args:
        path: The newest file.
        max_bytes: After this a new one begins.
        keep: How many older ones stay.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._descriptor = -1

    def put(self, line: bytes) -> None:
        """Append one answer."""
        try:
            if self._descriptor < 0:
                self._open()
            if os.fstat(self._descriptor).st_size + len(line) + 1 > self._max_bytes:
                self._rotate()
            self._append(line + b"\n")
        except OSError as err:
            self.close()
            raise SinkError(f"cannot write {self._path}: {err.strerror}") from err

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)

    def _append(self, data: bytes) -> None:
        size_bytes = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        if written < len(data):  # the disk is full: half a line would spoil the next one
            os.ftruncate(self._descriptor, size_bytes)
            raise OSError(28, "no space left on the device")

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{age}") for age in range(1, self._keep + 1))]
        names[-1].unlink(missing_ok=True)
        for younger, older in reversed(list(pairwise(names))):
            with contextlib.suppress(FileNotFoundError):
                younger.replace(older)
        self._open()


class CommandSink(Sink):
    """Answers as lines on a program's standard input; one that does not read in time is started again.

    Args:
        command: Program and arguments.
        timeout_s: For one line.
    """

    def __init__(self, command: Sequence[str], timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._again_s = float("-inf")

    def put(self, line: bytes) -> None:
        """Write one answer."""
        try:
            process = self._running()
            self._write(process, line + b"\n")
        except OSError as err:
            self._failed()
            raise SinkError(f"{self._command[0]} did not take an answer: {err.strerror or err}") from err
        self._pause_s = FIRST_PAUSE_S

    def close(self) -> None:
        """End the program."""
        process, self._process = self._process, None
        if process and process.stdin:
            with contextlib.suppress(OSError):  # what it never read is lost
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it has time to see that its input is at its end
                process.wait(END_TIMEOUT_S)
            end_program(process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            if time.monotonic() < self._again_s:
                raise OSError(11, "it has just failed, and is started again soon")
            self._process = start_program(self._command, reads=True)
            assert self._process.stdin is not None  # noqa: S101 - for mypy: it was asked for
            os.set_blocking(self._process.stdin.fileno(), False)
        return self._process

    def _write(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None  # noqa: S101 - for mypy
        descriptor, view = process.stdin.fileno(), memoryview(data)
        ends_s = time.monotonic() + self._timeout_s
        while view:
            _, writable, _ = select.select([], [descriptor], [], max(0.0, ends_s - time.monotonic()))
            if not writable:
                raise TimeoutError(110, f"it has not read for {self._timeout_s:g} s")
            view = view[os.write(descriptor, view) :]

    def _failed(self) -> None:
        if self._process is not None or time.monotonic() >= self._again_s:
            self._again_s = time.monotonic() + self._pause_s
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
        self.close()
