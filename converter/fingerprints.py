"""What a file or a folder holds, as a hash: how the cache, the lock and the report name their inputs."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fingerprint", "Fingerprints"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of some bytes.

    Attributes:
        sha256: Of a file's bytes; of a folder's file names and their hashes, in order, without hidden ones.
        size_bytes: Of the file, or of all files in the folder.
    """

    sha256: str
    size_bytes: int


class Fingerprints:
    """Hashes what is asked for, each file once as long as nobody writes it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int, int], str] = {}

    def of(self, path: Path) -> Fingerprint:
        """Return the fingerprint of the file or folder at ``path``.

        Raises:
            OSError: It is not there or cannot be read.
        """
        if not path.is_dir():
            return self._of_file(path)
        digest = hashlib.sha256()
        size_bytes = 0
        for entry in sorted(entry for entry in path.rglob("*") if entry.is_file() and not _is_hidden(entry, path)):
            found = self._of_file(entry)
            digest.update(f"{entry.relative_to(path).as_posix()}\0{found.sha256}\n".encode())
            size_bytes += found.size_bytes
        return Fingerprint(digest.hexdigest(), size_bytes)

    def _of_file(self, path: Path) -> Fingerprint:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            # Whoever writes a file changes one of these; a clock that stands still between two writes is no matter,
            # because nobody converts in between.
            key = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in self._known:
                self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return Fingerprint(self._known[key], status.st_size)


def _is_hidden(entry: Path, folder: Path) -> bool:
    """Return whether a name below ``folder`` begins with a dot: nobody reads what a file manager left there."""
    return any(part.startswith(".") for part in entry.relative_to(folder).parts)
