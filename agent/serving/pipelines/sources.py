"""Where samples come from: a command's standard output, a folder, an MQTT topic."""

import logging
import os
import stat
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from paho.mqtt.client import topic_matches_sub

from edgeferry.agent.serving.pipelines.framing import MAX_SAMPLE_BYTES, Framer
from edgeferry.agent.serving.pipelines.programs import Pauses, end_program, start_program

__all__ = ["CommandSource", "FolderSource", "Offer", "Source", "TopicSource"]

logger = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
LOOK_S = 0.5
JOIN_S = 5.0
Offer = Callable[[bytes, str], None]  # takes a sample, and what it is called where it comes from; never waits

MAX_ENTRIES = 100_000  # of a watched folder; more would take longer to look at than to wait for


class Source(ABC):
    """Offers samples from ``start`` to ``stop``."""

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def stop(self) -> None:
        """End, with everything that was started."""


class CommandSource(Source):
    """Samples cut from what a program writes.

    Args:
        command: Program and arguments.
        make_framer: Makes what cuts; a program that was started again begins with a new one.
        offer: Takes the samples.
        complain: Takes a sentence on what went wrong.
    """

    def __init__(
        self, command: Sequence[str], make_framer: Callable[[], Framer], offer: Offer, complain: Callable[[str], None]
    ) -> None:
        self._command = command
        self._make_framer = make_framer
        self._offer = offer
        self._complain = complain
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {command[0]}", daemon=True)

    def start(self) -> None:
        """Start the program."""
        self._thread.start()

    def stop(self) -> None:
        """End the program."""
        self._stopping.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        pauses = Pauses()
        while not self._stopping.is_set():
            try:
                reason = self._live(pauses)
            except OSError as err:
                reason = f"cannot be started: {err}"
            if not self._stopping.is_set():
                self._complain(f"{self._command[0]} {reason}; it is started again")
                pauses.wait(self._stopping)

    def _live(self, pauses: Pauses) -> str:
        """Run the program once; return how it ended."""
        framer, spoilt = self._make_framer(), 0
        process = start_program(self._command, reads=False)
        ended = threading.Event()
        threading.Thread(target=self._end_when_stopping, args=(process, ended), daemon=True).start()
        assert process.stdout is not None  # noqa: S101 - for mypy: it was asked for
        try:
            while data := os.read(process.stdout.fileno(), READ_BYTES):
                for sample in framer.feed(data):
                    pauses.reset()
                    self._offer(sample, "")
                if framer.spoilt > spoilt:
                    spoilt = framer.spoilt
                    self._complain(f"{self._command[0]} wrote something that is no sample; skipped")
        finally:
            ended.set()
            end_program(process)
            process.stdout.close()
        return f"has ended with {process.returncode}"

    def _end_when_stopping(self, process: subprocess.Popen[bytes], ended: threading.Event) -> None:
        """End the program when all is over: our own thread may be waiting for what it writes."""
        while not ended.is_set():
            if self._stopping.wait(LOOK_S):
                end_program(process)
                return


class FolderSource(Source):
    """Files that appear in a folder, in the order of their names. What is there at the start is left alone.

    A file is taken when two looks in turn found it unchanged: it has been written to its end. Names that begin with a
    dot are left alone, for those who write elsewhere and rename.

    Args:
        folder: To watch.
        offer: Takes the samples.
        complain: Takes a sentence on what went wrong.
    """

    def __init__(self, folder: Path, offer: Offer, complain: Callable[[str], None]) -> None:
        self._folder = folder
        self._offer = offer
        self._complain = complain
        self._seen: dict[str, tuple[int, int]] | None = None  # size and time of change, by name, at the last look
        self._taken: dict[str, tuple[int, int]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {folder}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()
        self._thread.join(JOIN_S)

    def look(self) -> None:
        """Take what is new and has been written to its end."""
        present = self._present()
        if self._seen is None:
            self._seen = self._taken = present
            return
        for name in sorted(present):
            if present[name] == self._seen.get(name) and present[name] != self._taken.get(name):
                self._take(name)
                self._taken[name] = present[name]
        self._taken = {name: mark for name, mark in self._taken.items() if name in present}
        self._seen = present

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except OSError as err:
                self._complain(f"cannot look into {self._folder}: {err.strerror}")

    def _present(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if len(found) >= MAX_ENTRIES:
                    self._complain(f"{self._folder} has more than {MAX_ENTRIES} files; move some away")
                    break
                status = entry.stat()
                if not entry.name.startswith(".") and stat.S_ISREG(status.st_mode):
                    found[entry.name] = (status.st_size, status.st_mtime_ns)
        return found

    def _take(self, name: str) -> None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SAMPLE_BYTES + 1)
        except OSError as err:
            self._complain(f"cannot read {path}: {err.strerror}")
            return
        if len(data) > MAX_SAMPLE_BYTES:
            self._complain(f"{path} is larger than {MAX_SAMPLE_BYTES >> 20} MiB; skipped")
            return
        self._offer(data, name)


class TopicSource(Source):
    """The messages on an MQTT topic; the connection hands them over.

    Args:
        name: Of its pipeline.
        pattern: The topic, or a filter with + and #.
        offer: Takes the samples.
    """

    def __init__(self, name: str, pattern: str, offer: Offer) -> None:
        self.name = name
        self._pattern = pattern
        self._offer = offer
        self._is_started = False

    def start(self) -> None:
        """Begin to take messages."""
        self._is_started = True

    def stop(self) -> None:
        """Take no more."""
        self._is_started = False

    def received(self, topic: str, payload: bytes) -> None:
        """Take a message if it is ours; from the network thread."""
        if self._is_started and topic_matches_sub(self._pattern, topic):
            self._offer(payload, topic)
