"""A disk that fails, or that the agent is killed at, in the operation that a test chooses.

Every change that the agent makes to the disk is an operation of `fsops.Disk`. `FaultyDisk` numbers them, so that a
test can run the same work again and again and strike in each of them once.

    before   nothing of the operation has happened
    torn     the operation has happened by half: a temporary file without its rename, half of a line or block, an
             allocated file without its size
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edgeferry.agent.fsops import Disk, SystemCalls, Usage, explained

ROOM = Usage(total_bytes=64 << 30, free_bytes=32 << 30)  # what is free on this machine decides no test


class Killed(BaseException):
    """The agent ends here as if by SIGKILL: not an Exception, so nothing handles it."""


class Manner(StrEnum):
    """How far the struck operation gets."""

    BEFORE = "before"
    TORN = "torn"


@dataclass(frozen=True, slots=True)
class Kill:
    """The agent is killed in operation ``at``."""

    at: int
    manner: Manner = Manner.BEFORE


@dataclass(frozen=True, slots=True)
class Fault:
    """Operation ``at`` fails with ``number``; all that follow as well unless it is ``once``."""

    at: int
    number: int = errno.EIO
    once: bool = False


class FaultyDisk(Disk):
    """A real disk, until the strike.

    Attributes:
        operations: Name and file of what was done, in order.
        usage_told: What the partition is said to have.
        block_bytes: How much was written to partial blobs.
    """

    def __init__(self, strike: Kill | Fault | None = None, system: SystemCalls = os) -> None:
        super().__init__(system)
        self.operations: list[str] = []
        self.block_bytes = 0
        self.usage_told = ROOM
        self._strike = strike
        self._open: set[int] = set()

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            with self._operation("make_directory", path):
                super().make_directory(path)

    def write(self, path: Path, data: bytes) -> None:
        def tear() -> None:
            path.with_name(path.name + ".new").write_bytes(data[: len(data) // 2])

        with self._operation("write", path, tear):
            super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        def tear() -> None:
            with path.open("ab") as file:
                file.write(data[: len(data) // 2])

        with self._operation("append", path, tear):
            super().append(path, data)

    def truncate(self, path: Path, size_bytes: int) -> None:
        with self._operation("truncate", path):
            super().truncate(path, size_bytes)

    def allocate(self, path: Path, size_bytes: int) -> None:
        with self._operation("allocate", path, lambda: path.write_bytes(b"")):
            super().allocate(path, size_bytes)

    def open_for_blocks(self, path: Path) -> int:
        with self._operation("open_for_blocks", path):
            descriptor = super().open_for_blocks(path)
            self._open.add(descriptor)
            return descriptor

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        super().close(descriptor)

    def write_at(self, descriptor: int, data: bytes | memoryview, offset: int) -> None:
        with self._operation("write_at", None, lambda: os.pwrite(descriptor, data[: len(data) // 2], offset)):
            super().write_at(descriptor, data, offset)
            self.block_bytes += len(data)

    def sync(self, descriptor: int) -> None:
        with self._operation("sync", None):
            super().sync(descriptor)

    def move(self, source: Path, target: Path) -> None:
        with self._operation("move", target, lambda: source.rename(target)):
            super().move(source, target)

    def link(self, path: Path, target: str) -> None:
        with self._operation("link", path, lambda: path.with_name(path.name + ".new").symlink_to(target)):
            super().link(path, target)

    def remove(self, path: Path) -> None:
        with self._operation("remove", path):
            super().remove(path)

    def remove_directory(self, path: Path) -> None:
        with self._operation("remove_directory", path):
            super().remove_directory(path)

    def usage(self, path: Path) -> Usage:
        return self.usage_told

    def lock(self, path: Path) -> int:
        descriptor = super().lock(path)
        self._open.add(descriptor)
        return descriptor

    def end_of_life(self) -> None:
        """Give back what a process that ends gives back: its descriptors, and the lock with them."""
        while self._open:
            os.close(self._open.pop())

    @contextmanager
    def _operation(self, name: str, path: Path | None, tear: Callable[[], object] | None = None) -> Iterator[None]:
        number = len(self.operations)
        self.operations.append(f"{name} {path.name if path else ''}".rstrip())
        match self._strike:
            case Kill(at=at, manner=manner) if at <= number:
                if at == number and manner is Manner.TORN and tear:
                    tear()
                raise Killed(f"in operation {number}: {self.operations[-1]}")
            case Fault(at=at, number=error, once=once) if at == number or (at < number and not once):
                with explained(path or Path("blob"), name):
                    raise OSError(error, os.strerror(error))
        yield
