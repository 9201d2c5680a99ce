"""What a power cut leaves of a directory: recorded system calls, and every disk that they may have left.

`RecordingCalls` stands below `fsops.Disk`: it does what is asked for and writes it down, step by step. `Recording`
replays the steps up to a point into what lasts and what is pending there, and yields the disks that may be found after
the power has gone at that point:

- A change of a directory (create, rename, remove, link) lasts once that directory is synced. Until then it has happened
  or not, each independently of the others. A rename is one change, but across directories the target may last alone.
- What is written to a file lasts once that file is synced. Until then each write is lost, applied, torn (its first
  half is there), or there in size alone (zeros).
- Syncing a file makes no name last, and syncing a directory no content.

This allows more than a journaling file system does, where names are kept in order and syncing a file commits them all.
Not modelled: a rename that loses both names, and a disk that reorders across a sync or damages what is at rest; the
checksums of state and blobs are for those.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from stat import S_ISDIR

__all__ = ["Cut", "Fate", "PowerLost", "RecordingCalls"]

EXHAUSTIVE = 128  # up to so many combinations of fates all are tried
SAMPLES = 12  # beyond: the chosen ones and so many random ones, the same in every run


class PowerLost(BaseException):
    """The process ends before the step that was chosen."""


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, by the number of its inode."""

    inode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory."""


Node = Content | Link | Folder | None  # None: nothing has this name


@dataclass(frozen=True, slots=True)
class Renamed:
    """Names change, in one step: the node of each, in the order in which a crash may leave the first alone."""

    names: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of a file change."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sized:
    """The size of a file changes; what is new is zeros."""

    inode: int
    size: int
    grows_only: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """A file lasts."""

    inode: int


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """The names in a directory last."""

    path: str


Step = Renamed | Written | Sized | Synced | FolderSynced
Fate = str  # "lost", "applied", "torn" or "zeros"

NAME_FATES = ("lost", "applied")
DATA_FATES = ("lost", "applied", "torn", "zeros")


class RecordingCalls:
    """The real system calls below ``box``, written down.

    Attributes:
        steps: What was done, in order.
        stop_at: The process is killed before the step of this number.
        placed: Number of the step and size of each piece of a blob that was written at its place.
    """

    def __init__(self, box: Path, stop_at: int | None = None) -> None:
        self.box = box
        self.steps: list[Step] = []
        self.placed: list[tuple[int, int]] = []
        self.stop_at = stop_at
        self.names: dict[str, Node] = {}
        self.contents: dict[int, bytes] = {}
        self._open: dict[int, tuple[str, int]] = {}  # path and inode, 0 for a directory
        self._next_inode = 1
        self._scan()
        self.lasting = Lasting(dict(self.names), dict(self.contents))

    # os, as `fsops.SystemCalls` wants it

    def open(self, path: Path, flags: int, mode: int) -> int:
        name = self._name(path)
        if not flags & os.O_DIRECTORY:
            if flags & os.O_CREAT and name not in self.names:
                self._step(Renamed(((name, Content(self._new_inode())),)))
            elif flags & os.O_TRUNC:
                self._step(Sized(self._inode(name), 0))
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = name, 0 if S_ISDIR(os.fstat(descriptor).st_mode) else self._inode(name)
        return descriptor

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._step(Written(self._open[fd][1], os.fstat(fd).st_size, bytes(data)))
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._step(Written(self._open[fd][1], offset, bytes(data)))
        self.placed.append((len(self.steps) - 1, len(data)))
        return os.pwrite(fd, data, offset)

    def ftruncate(self, fd: int, length: int) -> None:
        self._step(Sized(self._open[fd][1], length))
        os.ftruncate(fd, length)

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        self._step(Sized(self._open[fd][1], offset + length, grows_only=True))
        os.posix_fallocate(fd, offset, length)

    def fsync(self, fd: int) -> None:
        path, inode = self._open[fd]
        is_folder = S_ISDIR(os.fstat(fd).st_mode)
        self._step(FolderSynced(path) if is_folder else Synced(inode))

    def fdatasync(self, fd: int) -> None:
        self._step(Synced(self._open[fd][1]))

    def replace(self, source: Path, target: Path) -> None:
        old, new = self._name(source), self._name(target)
        if not target.is_dir():
            self._step(Renamed(((new, self.names[old]), (old, None))))
        source.replace(target)

    def symlink(self, target: str, path: Path) -> None:
        self._step(Renamed(((self._name(path), Link(target)),)))
        path.symlink_to(target)

    def unlink(self, path: Path) -> None:
        if self._name(path) in self.names:
            self._step(Renamed(((self._name(path), None),)))
        path.unlink()

    def mkdir(self, path: Path, mode: int) -> None:
        self._step(Renamed(((self._name(path), Folder()),)))
        path.mkdir(mode)

    def rmdir(self, path: Path) -> None:
        self._step(Renamed(((self._name(path), None),)))
        path.rmdir()

    # Writing down

    def _step(self, step: Step) -> None:
        if self.stop_at == len(self.steps):
            raise PowerLost(f"before step {self.stop_at}: {step}")
        self.steps.append(step)
        if isinstance(step, Renamed):
            self.names = _with_names(self.names, step.names)

    def _scan(self) -> None:
        for path in sorted(self.box.rglob("*")):
            node: Node = Folder()
            if path.is_symlink():
                node = Link(str(path.readlink()))
            elif path.is_file():
                node = Content(self._new_inode())
                self.contents[node.inode] = path.read_bytes()
            self.names[self._name(path)] = node

    def _new_inode(self) -> int:
        self._next_inode += 1
        return self._next_inode

    def _inode(self, name: str) -> int:
        node = self.names[name]
        assert isinstance(node, Content)
        return node.inode

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.box))


@dataclass
class Lasting:
    """What lasts at some point of a recording, and what is pending there.

    Attributes:
        names: The names that last.
        contents: The bytes of every file that last.
        pending: What has happened since and may be gone, in order.
    """

    names: dict[str, Node]
    contents: dict[int, bytes]
    pending: list[Renamed | Written | Sized] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Go on by one step."""
        match step:
            case Synced(inode):
                self._settle(lambda change: not isinstance(change, Renamed) and change.inode == inode)
            case FolderSynced(path):
                self._sync_folder(path)
            case _:
                self.pending.append(step)

    def copy(self) -> "Lasting":
        return Lasting(dict(self.names), dict(self.contents), list(self.pending))

    def apply(self, change: Renamed | Written | Sized, fate: Fate) -> None:
        """Have ``change`` happen as far as ``fate`` says."""
        if fate == "lost":
            return
        if isinstance(change, Renamed):
            self.names = _with_names(self.names, change.names)
            return
        before = self.contents.get(change.inode, b"")
        if isinstance(change, Sized):
            size = max(change.size, len(before)) if change.grows_only else change.size
            self.contents[change.inode] = before[:size].ljust(size, b"\0")
            return
        data = change.data
        if fate == "torn":
            data = data[: len(data) // 2]
        elif fate == "zeros":
            data = b"\0" * len(data)
        filled = before.ljust(change.offset, b"\0")
        self.contents[change.inode] = filled[: change.offset] + data + filled[change.offset + len(data) :]

    def digest(self) -> bytes:
        """Return what tells this disk from others."""
        whole = hashlib.sha256()
        for name, node in sorted(self.names.items()):
            data = self.contents.get(node.inode, b"") if isinstance(node, Content) else repr(node).encode()
            whole.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        return whole.digest()

    def put(self, box: Path) -> None:
        """Write this disk below ``box``; what lies in a directory that is gone is gone with it."""
        box.mkdir()
        for name, node in sorted(self.names.items()):
            path = box / name
            if path.parent.is_dir():
                match node:
                    case Folder():
                        path.mkdir(mode=0o700)
                    case Link(target):
                        path.symlink_to(target)
                    case Content(inode):
                        path.write_bytes(self.contents.get(inode, b""))

    def _sync_folder(self, folder: str) -> None:
        """Names in ``folder`` last; of a rename out of it the name elsewhere lasts, too, or the file would be lost."""
        kept: list[Renamed | Written | Sized] = []
        for change in self.pending:
            if not isinstance(change, Renamed):
                kept.append(change)
                continue
            inside = [at for at, (name, _) in enumerate(change.names) if str(Path(name).parent) == folder]
            settled = change.names[: inside[-1] + 1] if inside else ()
            self.names = _with_names(self.names, settled)
            if left := change.names[len(settled) :]:
                kept.append(Renamed(left))
        self.pending = kept

    def _settle(self, is_settled: Callable[[Renamed | Written | Sized], bool]) -> None:
        for change in self.pending:
            if is_settled(change):
                self.apply(change, "applied")
        self.pending = [change for change in self.pending if not is_settled(change)]


@dataclass(frozen=True)
class Cut:
    """A disk that a power cut may leave.

    Attributes:
        at: Steps that were done before it.
        fates: What became of each change that was pending.
    """

    at: int
    fates: tuple[Fate, ...]
    disk: Lasting

    def __str__(self) -> str:
        lines = [f"{fate}: {_short(change)}" for change, fate in zip(self.disk.pending, self.fates, strict=True)]
        return "\n  ".join([f"the power goes after {self.at} steps; pending were", *lines])


def cuts(calls: RecordingCalls, points: Callable[[int], bool], *, begin: int = 0) -> Iterator[Cut]:
    """Yield what a cut at each of ``points`` from step ``begin`` on may leave, each disk of a point once."""
    lasting = calls.lasting.copy()
    for at in range(len(calls.steps) + 1):
        if at >= begin and points(at):
            yield from _cuts_at(lasting, at)
        if at < len(calls.steps):
            lasting.take(calls.steps[at])


def _cuts_at(lasting: Lasting, at: int) -> Iterator[Cut]:
    seen = set()
    for fates in _fates(lasting.pending, at):
        disk = lasting.copy()
        for change, fate in zip(lasting.pending, fates, strict=True):
            disk.apply(change, fate)
        if (digest := disk.digest()) not in seen:
            seen.add(digest)
            yield Cut(at, fates, disk)


def _fates(pending: list[Renamed | Written | Sized], seed: int) -> Iterator[tuple[Fate, ...]]:
    """Yield combinations of fates: all of them where they are few, else the telling ones and some random ones."""
    choices = [NAME_FATES if isinstance(change, Renamed | Sized) else DATA_FATES for change in pending]
    combinations = 1
    for choice in choices:
        combinations *= len(choice)
    if combinations <= EXHAUSTIVE:
        yield from product(*choices)
        return
    count = len(pending)
    for data_fate in DATA_FATES:  # every name and this of the data, and the other way round
        yield tuple(data_fate if choice is DATA_FATES else "applied" for choice in choices)
        yield tuple(data_fate if choice is DATA_FATES else "lost" for choice in choices)
    for at in range(count):
        yield tuple("applied" if i < at else "lost" for i in range(count))  # in order
        yield tuple("lost" if i == at else "applied" for i in range(count))
        yield tuple("applied" if i == at else "lost" for i in range(count))
    chance = random.Random(seed)
    for _ in range(SAMPLES):
        yield tuple(chance.choice(choice) for choice in choices)


def _with_names(names: dict[str, Node], changes: tuple[tuple[str, Node], ...]) -> dict[str, Node]:
    changed = {**names, **dict(changes)}
    return {name: node for name, node in changed.items() if node is not None}


def _short(change: Renamed | Written | Sized) -> str:
    return f"write {len(change.data)} bytes at {change.offset}" if isinstance(change, Written) else str(change)
