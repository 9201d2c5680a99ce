"""Changes of the fleet folder that survive a crash, and the lock that keeps two commands apart.

A file is written beside its place, synced, renamed, and its folder synced: without that last sync an acknowledged
update was lost in most crash states of ext4.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgeferry.fleet.errors import BusyError, ConfigurationError, FleetError

__all__ = [
    "PRIVATE",
    "folder_lock",
    "make_folder",
    "names_in",
    "replacing",
    "sync_folder",
    "write_all_atomically",
    "write_atomically",
]

PRIVATE = 0o600
_PUBLIC = 0o644
_LOCK_POLL_S = 0.02


def write_atomically(path: Path, data: bytes, *, mode: int = _PUBLIC) -> None:
    """Replace ``path`` by ``data`` in one step that lasts; until then, and if it fails, the old content stays.

    Raises:
        FleetError: The disk refused.
    """
    write_all_atomically({path: data}, mode=mode)


def write_all_atomically(files: Mapping[Path, bytes], *, mode: int = _PUBLIC) -> None:
    """Write each of ``files``, all in one folder, as `write_atomically` does, with one sync of the folder at the end.

    Raises:
        FleetError: The disk refused; some of the files may have been written.
    """
    for path, data in files.items():
        with replacing(path, mode=mode) as file:
            file.write(data)
    for folder in {path.parent for path in files}:
        sync_folder(folder)


@contextmanager
def replacing(path: Path, *, mode: int = _PUBLIC) -> Iterator[IO[bytes]]:
    """Give a new file that takes the place of ``path`` when the block ends well; the caller syncs the folder.

    Raises:
        FleetError: The disk refused.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with explained(path):
            beside.unlink(missing_ok=True)  # what a crash left there may be open to others
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Make the names in ``path`` last.

    Raises:
        FleetError: The disk refused.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make ``path`` and what is missing above it, lasting; do nothing when it is there.

    Raises:
        FleetError: The disk refused.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with explained(path):
        path.mkdir(mode=mode, exist_ok=True)
    sync_folder(path.parent)


@contextmanager
def folder_lock(path: Path, *, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold the lock file ``path`` during the block; it goes with the process, however that ends.

    Raises:
        BusyError: Another command has held it for all of ``timeout_s``.
        FleetError: The lock file cannot be made.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        _take(descriptor, path, time.monotonic() + timeout_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
                raise BusyError(
                    f"{path.parent}: another edgeferry command (process {holder}) is changing this fleet;"
                    " wait until it has ended and try again"
                ) from err
            time.sleep(_LOCK_POLL_S)
        else:
            return


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about ``path`` into sentences.

    Raises:
        ConfigurationError: This user may not, or the file system is read-only.
        FleetError: Anything else that the disk refused.
    """
    try:
        yield
    except PermissionError as err:
        raise ConfigurationError(f"{path}: permission denied; run as the user who owns the fleet folder") from err
    except OSError as err:
        advice = "; make room on the disk and try again" if err.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        raise FleetError(f"{path}: {err.strerror or err}{advice}") from err


def names_in(folder: Path) -> Iterable[Path]:
    """Return the files in ``folder`` in the order of their names, without those that are being written."""
    with explained(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
