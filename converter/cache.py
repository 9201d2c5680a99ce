"""The cache of stages on disk: what a child process made, by a key that names everything it was made from.

    $XDG_CACHE_HOME/edgeferry/converter/     (or ~/.cache/...)
        entries/KEY/entry.json               result, and the hash of each file
        entries/KEY/files/...                what the child left; read-only
        new.XXXX/                            an entry in the making, or one that goes

An entry appears by a rename and goes by one, so conversions that run at the same time see whole entries or none. What
is read is compared with its hash; what is damaged is thrown away and made again. When an entry was last used is the
time of its ``entry.json``; the least recently used ones go first.
"""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.converter.fingerprints import Fingerprint, Fingerprints

__all__ = ["DEFAULT_MAX_BYTES", "Cache", "Entry", "default_folder"]

DEFAULT_MAX_BYTES = 4 * 2**30
FORMAT = 1

_ENTRY = "entry.json"
_ABANDONED_S = 24 * 3600.0  # an entry in the making that is older belongs to a process that was killed


class Entry(msgspec.Struct, frozen=True):
    """What the cache says of one stage.

    Attributes:
        key: Names everything that the stage depends on.
        what: For people: "making int8".
        result: What the child returned.
        files: What it made, by path below its folder, with hash and size.
    """

    format: int
    key: str
    what: str
    result: dict[str, Any]
    files: dict[str, Fingerprint]

    @property
    def size_bytes(self) -> int:
        """Return what its files take."""
        return sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True, slots=True)
class Held:
    """An entry as the cache holds it; ``used_s`` is when it was last used, in seconds since 1970."""

    entry: Entry
    used_s: float


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return where the cache of a user with ``environment`` is: below XDG_CACHE_HOME, else below ~/.cache."""
    home = environment.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"  # the XDG specification ignores others
    return base / "edgeferry" / "converter"


class Cache:
    """The entries in one folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = folder / "entries"

    def take(self, key: str, into: Path) -> dict[str, Any] | None:
        """Return the result under ``key``, its files in the folder ``into``; None when it cannot be had whole."""
        place = self._entries / key
        entry = _read(place)
        if entry is None or entry.key != key:
            return None
        if not all(_is_whole(place / "files" / name, found) for name, found in entry.files.items()):
            self._discard(place)
            return None
        try:
            for name in entry.files:
                _link(place / "files" / name, into / name)
        except OSError:  # another process has pruned it meanwhile, or the disk refuses
            for name in entry.files:  # what stays would be written into by the child: into the cache
                with contextlib.suppress(OSError):
                    (into / name).unlink()
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read serves as well
            os.utime(place / _ENTRY)
        return entry.result

    def keep(self, key: str, what: str, result: Mapping[str, Any], folder: Path, names: Sequence[str]) -> None:
        """Keep ``result`` under ``key``, with the files and folders ``names`` of ``folder``.

        Raises:
            OSError: The cache cannot be written.
        """
        self._entries.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = Path(tempfile.mkdtemp(prefix="new.", dir=self.folder))
        try:
            fingerprints = Fingerprints()
            files = {}
            for path in _files_of(folder, names):
                name = path.relative_to(folder).as_posix()
                _link(path, new / "files" / name)
                files[name] = fingerprints.of(new / "files" / name)
            entry = Entry(FORMAT, key, what, dict(result), files)
            (new / _ENTRY).write_bytes(msgspec.json.encode(entry))
            with contextlib.suppress(FileExistsError):
                _rename(new, self._entries / key)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def held(self) -> list[Held]:
        """Return all entries, the least recently used first."""
        found = []
        for place in self._entries.glob("*"):
            entry = _read(place)
            with contextlib.suppress(FileNotFoundError):
                if entry is not None:
                    found.append(Held(entry, (place / _ENTRY).stat().st_mtime))
        return sorted(found, key=lambda held: (held.used_s, held.entry.key))

    def prune(self, max_bytes: int) -> list[Entry]:
        """Throw away the least recently used entries until ``max_bytes`` hold the others; return those that went."""
        held = self.held()
        excess = sum(one.entry.size_bytes for one in held) - max_bytes
        gone = []
        for one in held:
            if excess <= 0 and max_bytes > 0:
                break
            self._discard(self._entries / one.entry.key)
            excess -= one.entry.size_bytes
            gone.append(one.entry)
        self._sweep({one.entry.key for one in held})
        return gone

    def _sweep(self, known: set[str]) -> None:
        """Remove what cannot be read as an entry, and what processes that were killed have left."""
        for place in self._entries.glob("*"):
            if place.name not in known and _read(place) is None:
                self._discard(place)
        for place in self.folder.glob("new.*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - place.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(place, ignore_errors=True)

    def _discard(self, place: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            trash = Path(tempfile.mkdtemp(prefix="new.", dir=self.folder))
            try:
                with contextlib.suppress(OSError):
                    place.rename(trash / "entry")
            finally:
                shutil.rmtree(trash, ignore_errors=True)


def _read(place: Path) -> Entry | None:
    try:
        entry = msgspec.json.decode((place / _ENTRY).read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_usable = entry.format == FORMAT and not any(_leaves(name) for name in entry.files)
    return entry if is_usable else None


def _leaves(name: str) -> bool:
    path = Path(name)
    return path.is_absolute() or ".." in path.parts or not path.parts


def _is_whole(path: Path, wanted: Fingerprint) -> bool:
    try:
        return path.stat().st_size == wanted.size_bytes and Fingerprints().of(path) == wanted
    except OSError:
        return False


def _files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    paths = [folder / name for name in names]
    return sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _link(source: Path, target: Path) -> None:
    """Have the bytes of ``source`` at ``target``, read-only: the same ones where the file system can, else copies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    with contextlib.suppress(PermissionError):  # somebody else's, which we could not write anyway
        target.chmod(0o444)  # whoever would write it would write into the cache


def _rename(new: Path, place: Path) -> None:
    try:
        new.rename(place)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):  # somebody else made the same
            raise FileExistsError(err.errno, err.strerror) from err
        raise
