"""A small shared file in which the serving process notes what it is doing, so that a crash has a suspect.

The notes outlive the process: the kernel keeps the mapped page whatever happens to it. A slot holds one loaded version:
when its present run began (CLOCK_MONOTONIC, the same for all processes; 0 when it rests), version, and model.
"""

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Blackbox", "Recorder", "Running", "read_running"]

SLOTS = 64

_SLOT = struct.Struct("<QQ64s")
_BEGAN = struct.Struct("<Q")
_FILE_BYTES = SLOTS * _SLOT.size


@dataclass(frozen=True, slots=True)
class Running:
    """A version that is being run, or loaded.

    Attributes:
        began_ns: When that began, by CLOCK_MONOTONIC.
    """

    model: str
    version: int
    began_ns: int


class Blackbox:
    """The writing side. A version beyond the last slot is served all the same, but cannot become a suspect."""

    def __init__(self, path: Path | None) -> None:
        self._path = path  # None: nobody asks for suspects, nothing is noted
        self._map: mmap.mmap | None = None
        self._free = list(range(SLOTS - 1, -1, -1))
        self._lock = threading.Lock()

    def open(self) -> None:
        """Create the file, empty; what an earlier process noted is gone.

        Raises:
            OSError: It cannot be created.
        """
        if self._path is None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _FILE_BYTES)
            self._map = mmap.mmap(descriptor, _FILE_BYTES)
        finally:
            os.close(descriptor)

    def recorder(self, model: str, version: int) -> "Recorder":
        """Return the notes of one version."""
        with self._lock:
            slot = self._free.pop() if self._map and self._free else None
        if self._map is None or slot is None:
            return Recorder(None, 0)
        _SLOT.pack_into(self._map, slot * _SLOT.size, 0, version, model.encode()[:64])
        return Recorder(self._map, slot)

    def release(self, recorder: "Recorder") -> None:
        """Give the notes of an unloaded version back."""
        if recorder.is_kept:
            recorder.end()
            with self._lock:
                self._free.append(recorder.slot)


class Recorder:
    """Notes when the runs of one version begin and end; owned by the thread that runs it."""

    def __init__(self, mapped: mmap.mmap | None, slot: int) -> None:
        self._map = mapped
        self.slot = slot

    @property
    def is_kept(self) -> bool:
        """Return whether the notes reach the file."""
        return self._map is not None

    def begin(self, now_ns: int) -> None:
        """Note that a run begins."""
        if self._map is not None:
            _BEGAN.pack_into(self._map, self.slot * _SLOT.size, now_ns)

    def end(self) -> None:
        """Note that the run has ended."""
        self.begin(0)


def read_running(path: Path) -> tuple[Running, ...]:
    """Return what was being run when the serving process last wrote, the longest running first; () without a file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    found = []
    for began_ns, version, model in _SLOT.iter_unpack(data[: len(data) - len(data) % _SLOT.size]):
        if began_ns:
            found.append(Running(model.rstrip(b"\0").decode(errors="replace"), version, began_ns))
    return tuple(sorted(found, key=lambda running: running.began_ns))
