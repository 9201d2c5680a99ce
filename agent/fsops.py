"""The only file of the agent that changes the disk.

Every change is one of a few operations, each safe on its own: whole files are written beside their place, synced,
renamed, and their directory synced (without that last sync an acknowledged update was lost in 118 of 150 crash
states of ext4); partial blobs are written in place and synced before anybody notes that they are there.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeferry.agent.errors import AlreadyRunningError, DiskFullError, StoreError

__all__ = ["Disk", "SystemCalls", "Usage", "explained"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = ".new"


@dataclass(frozen=True, slots=True)
class Usage:
    """Room on a partition, in bytes that this user may take."""

    total_bytes: int
    free_bytes: int


class SystemCalls(Protocol):
    """Everything of `os` that changes the file system here; each is one step at which the power can go.

    The tests' simulator of power cuts records them.
    """

    def open(self, path: Path, flags: int, mode: int, /) -> int:
        """Return a descriptor of a file or directory."""
        ...

    def close(self, fd: int, /) -> None:
        """Give a descriptor back."""
        ...

    def write(self, fd: int, data: bytes | memoryview, /) -> int:
        """Return how much was written at the end."""
        ...

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int, /) -> int:
        """Return how much was written at ``offset``."""
        ...

    def ftruncate(self, fd: int, length: int, /) -> None:
        """Cut or extend a file."""
        ...

    def posix_fallocate(self, fd: int, offset: int, length: int, /) -> None:
        """Reserve room."""
        ...

    def fsync(self, fd: int, /) -> None:
        """Make a file, or the entries of a directory, last."""
        ...

    def fdatasync(self, fd: int, /) -> None:
        """Make the data of a file last."""
        ...

    def replace(self, source: Path, target: Path, /) -> None:
        """Rename, replacing what is there."""
        ...

    def symlink(self, target: str, path: Path, /) -> None:
        """Make a symbolic link."""
        ...

    def unlink(self, path: Path, /) -> None:
        """Remove a file or link."""
        ...

    def mkdir(self, path: Path, mode: int, /) -> None:
        """Make a directory."""
        ...

    def rmdir(self, path: Path, /) -> None:
        """Remove an empty directory."""
        ...


class Disk:
    """Changes to the file system.

    Args:
        system: What they are made with.
    """

    def __init__(self, system: SystemCalls = os) -> None:
        self._system = system

    def make_directory(self, path: Path) -> None:
        """Make ``path`` (mode 0700) and what is missing above it, lasting; do nothing when it is there."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        with explained(path, "make the directory"):
            self._system.mkdir(path, 0o700)
            self.sync_directory(path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Replace ``path`` by ``data`` in one step that lasts; mode 0600. The old content stays until then."""
        temporary = path.with_name(path.name + _TEMPORARY)
        with explained(path, "write"):
            try:
                descriptor = self._open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                try:
                    self._write_all(descriptor, data)
                    self._system.fsync(descriptor)
                finally:
                    self._system.close(descriptor)
                self._system.replace(temporary, path)
            except OSError:
                self._unlink(temporary)
                raise
            self.sync_directory(path.parent)

    def append(self, path: Path, data: bytes) -> None:
        """Add ``data`` to the end of ``path``, lasting; the file is made when it is missing.

        When there is no room for all of it, none of it stays: half a line would spoil the one after it.
        """
        with explained(path, "append to"):
            is_new = not path.exists()
            descriptor = self._open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            size_bytes = os.fstat(descriptor).st_size
            try:
                self._write_all(descriptor, data)
                self._system.fsync(descriptor)
            except OSError:
                with suppress(OSError):  # what was refused before is what has to be told
                    self._system.ftruncate(descriptor, size_bytes)
                raise
            finally:
                self._system.close(descriptor)
            if is_new:
                self.sync_directory(path.parent)

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut ``path`` to ``size_bytes``, lasting."""
        with explained(path, "truncate"):
            descriptor = self._open_file(path, os.O_WRONLY)
            try:
                self._system.ftruncate(descriptor, size_bytes)
                self._system.fsync(descriptor)
            finally:
                self._system.close(descriptor)

    def allocate(self, path: Path, size_bytes: int) -> None:
        """Make ``path`` with ``size_bytes`` of room reserved for it, lasting."""
        with explained(path, "allocate"):
            descriptor = self._open_file(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                if size_bytes:
                    self._system.posix_fallocate(descriptor, 0, size_bytes)
                self._system.fsync(descriptor)
            finally:
                self._system.close(descriptor)
            self.sync_directory(path.parent)

    def open_for_blocks(self, path: Path) -> int:
        """Return a descriptor of an allocated file for ``write_at``, ``sync`` and ``close``."""
        with explained(path, "open"):
            return self._open_file(path, os.O_RDWR)

    def write_at(self, descriptor: int, data: bytes | memoryview, offset: int) -> None:
        """Write ``data`` at ``offset``; it lasts only after ``sync``."""
        with explained(Path(f"descriptor {descriptor}"), "write"):
            view = memoryview(data)
            while view:
                written = self._system.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written

    def sync(self, descriptor: int) -> None:
        """Make what was written to ``descriptor`` last."""
        with explained(Path(f"descriptor {descriptor}"), "sync"):
            self._system.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close ``descriptor`` without syncing it."""
        with explained(Path(f"descriptor {descriptor}"), "close"):
            self._system.close(descriptor)

    def move(self, source: Path, target: Path) -> None:
        """Rename ``source`` to ``target`` in one step that lasts; ``target`` is replaced."""
        with explained(target, "rename to"):
            self._system.replace(source, target)
            self.sync_directory(target.parent)
            if source.parent != target.parent:
                self.sync_directory(source.parent)

    def link(self, path: Path, target: str) -> None:
        """Make ``path`` a symbolic link to ``target``, replacing one that is there."""
        temporary = path.with_name(path.name + _TEMPORARY)
        with explained(path, "link"):
            self._unlink(temporary)
            self._system.symlink(target, temporary)
            self._system.replace(temporary, path)

    def remove(self, path: Path) -> None:
        """Remove a file or link; nothing happens when it is missing. It may come back after a power cut."""
        with explained(path, "remove"):
            self._unlink(path)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory; nothing happens when it is missing."""
        with explained(path, "remove"):
            if path.is_dir():
                self._system.rmdir(path)

    def sync_directory(self, path: Path) -> None:
        """Make the entries of a directory last."""
        descriptor = self._open_file(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._system.fsync(descriptor)
        finally:
            self._system.close(descriptor)

    def settle(self, path: Path) -> None:
        """Make a file or directory last as it is; a killed process may have left it unsynced."""
        with explained(path, "sync"):
            descriptor = self._open_file(path, os.O_RDONLY)
            try:
                self._system.fsync(descriptor)
            finally:
                self._system.close(descriptor)

    def usage(self, path: Path) -> Usage:
        """Return the room on the partition that holds ``path``."""
        with explained(path, "measure the room at"):
            figures = os.statvfs(path)
        return Usage(figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize)

    def lock(self, path: Path) -> int:
        """Take the lock file ``path`` for as long as this process lives and return its descriptor.

        Raises:
            AlreadyRunningError: Another process has it.
        """
        with explained(path, "lock"):
            descriptor = self._open_file(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                self._system.close(descriptor)
                raise AlreadyRunningError(f"{path.parent} is in use by another edgeferry-agent; stop that one") from err
            return descriptor

    def _open_file(self, path: Path, flags: int) -> int:
        return self._system.open(path, flags | os.O_CLOEXEC, 0o600)

    def _write_all(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._system.write(descriptor, view) :]

    def _unlink(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._system.unlink(path)


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn an error of the system into one of ours that says what could not be done to ``path``.

    Raises:
        DiskFullError: There was no room.
        StoreError: Anything else.
    """
    try:
        yield
    except OSError as err:
        kind = DiskFullError if err.errno in _NO_ROOM else StoreError
        raise kind(f"cannot {what} {path}: {err.strerror or err}") from err
