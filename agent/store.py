"""Blobs, partial blobs, state and trusted metadata on disk.

    state                      one file with a checksum
    blobs/<sha256>             immutable; a file here had its hash checked
    partial/<sha256>           room for the whole blob, filled block by block
    partial/<sha256>.map       block size, then one bit per block that has been synced
    tuf/<role>.json            metadata that was verified
    models/<name>/active       link for people, derived from the state
Every change goes through `fsops.Disk`.
"""

import hashlib
import logging
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeferry.agent.errors import BlobMismatchError, DiskFullError, StoreError
from edgeferry.agent.fsops import Disk, explained
from edgeferry.agent.state import AgentState, decode_state, encode_state
from edgeferry.agent.transfer import BlockMap, Want, Write
from edgeferry.wire.desired import BlobRef

__all__ = ["Partial", "Store", "room_needed"]

logger = logging.getLogger(__name__)

SYNC_BYTES = 1 << 20  # at most this much is fetched again after a crash
FLOOR_BYTES = 64 << 20
FLOOR_SHARE = 0.05
READ_BYTES = 1 << 20

_MAP_HEADER = struct.Struct(">4sI")
_MAP_MAGIC = b"EFM1"


def room_needed(blob_bytes: int, total_bytes: int) -> int:
    """Return how much has to be free before ``blob_bytes`` are fetched onto a partition of ``total_bytes``."""
    return blob_bytes + max(FLOOR_BYTES, int(total_bytes * FLOOR_SHARE))


@dataclass(slots=True)
class Partial:
    """A blob that is being filled; owned by the main loop."""

    want: Want
    have: BlockMap
    descriptor: int
    unsynced_bytes: int = 0


class Store:
    """The agent's directory. Reading is allowed to every thread; what changes it belongs to the thread named there."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory = directory
        self._disk = disk
        self._blobs = directory / "blobs"
        self._partial = directory / "partial"
        self._tuf = directory / "tuf"
        self._models = directory / "models"

    def open(self) -> None:
        """Make the directories and take the lock for the life of this process.

        What is there lasts from here on: what is decided now must not rest on what a killed process left unsynced.

        Raises:
            AlreadyRunningError: Another agent has the directory.
            StoreError: It cannot be made or written.
        """
        folders = (self.directory, self._blobs, self._partial, self._tuf, self._models)
        for path in folders:
            self._disk.make_directory(path)
        self._disk.lock(self.directory / "lock")
        for path in self._temporary_files():
            self._disk.remove(path)
        for path in folders:
            self._disk.settle(path)
        with suppress(StoreError):  # not ours, perhaps not even readable
            self._disk.settle(self.directory.parent)

    def _temporary_files(self) -> list[Path]:
        """Return what a crash has left beside the places where it was to go; in ``partial`` `collect` removes it."""
        return [
            path for pattern in ("*.new", "tuf/*.new", "models/*/active.new") for path in self.directory.glob(pattern)
        ]

    # State and metadata (main loop)

    def load_state(self) -> AgentState:
        """Return the state that was saved last, or a fresh one.

        Raises:
            WireError: The file is there and cannot be believed.
            StoreError: It cannot be read.
        """
        path = self.directory / "state"
        try:
            return decode_state(path.read_bytes())
        except FileNotFoundError:
            return AgentState()
        except OSError as err:
            raise StoreError(f"cannot read {path}: {err.strerror}") from err

    def save_state(self, state: AgentState) -> None:
        """Save ``state``; when this returns it lasts."""
        self._disk.write(self.directory / "state", encode_state(state))

    def set_state_aside(self) -> Path:
        """Move a state file that cannot be believed out of the way and return where it is now."""
        aside = self.directory / "state.damaged"
        self._disk.move(self.directory / "state", aside)
        return aside

    def load_metadata(self) -> dict[str, bytes]:
        """Return the trusted metadata by file name."""
        with explained(self._tuf, "read"):
            return {path.name: path.read_bytes() for path in self._tuf.iterdir() if not path.name.endswith(".new")}

    def save_metadata(self, files: dict[str, bytes]) -> None:
        """Replace the trusted metadata, file by file; what is unchanged is not written."""
        present = self.load_metadata()
        for name, data in files.items():
            if present.get(name) != data:
                self._disk.write(self._tuf / name, data)
        for name in present.keys() - files.keys():
            self._disk.remove(self._tuf / name)

    # Blobs (any thread reads)

    def blob_path(self, sha256: str) -> Path:
        """Return where the blob is, or would be."""
        return self._blobs / sha256

    def has_blob(self, blob: BlobRef) -> bool:
        """Tell whether the blob is here, complete and once checked."""
        return _size_of(self.blob_path(blob.sha256)) == blob.size_bytes

    def size_of_blob(self, sha256: str) -> int | None:
        """Return the size of a blob in bytes, or None when it is not here."""
        return _size_of(self.blob_path(sha256))

    def left_bytes(self, want: Want) -> int:
        """Return how much of a blob is not here, to the block."""
        path = self._partial / want.blob.sha256
        have = self._read_map(want) if _size_of(path) == want.blob.size_bytes else None
        return want.blob.size_bytes - (min(have.count * want.block_bytes, want.blob.size_bytes) if have else 0)

    def is_complete(self, want: Want) -> bool:
        """Tell whether every block of a blob is here; as a whole it may not have been checked yet."""
        if self.has_blob(want.blob):
            return True
        path = self._partial / want.blob.sha256
        if not want.digests or want.blocks <= 1 or _size_of(path) != want.blob.size_bytes:
            return False
        have = self._read_map(want)
        return have is not None and have.count == want.blocks

    def read_blob(self, blob: BlobRef) -> bytes | None:
        """Return a small blob's bytes, checked against its hash, or None when it is not here.

        One that cannot be read, or has other bytes, is removed: it would count as here and never be fetched anew.
        """
        path = self.blob_path(blob.sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            logger.warning("cannot read blob %s, which is removed: %s", blob.sha256, err)
            data = None
        if data is not None and hashlib.sha256(data).hexdigest() == blob.sha256:
            return data
        self.drop_blob(blob.sha256)
        return None

    def drop_blob(self, sha256: str) -> None:
        """Forget a blob whose bytes were found to be wrong, so that it is fetched anew."""
        self._disk.remove(self.blob_path(sha256))

    def check_blob(self, blob: BlobRef) -> None:
        """Read a blob and compare its hash; one that is still partial becomes a blob when it is right.

        Called by the worker when the main loop has closed the partial blob.

        Raises:
            BlobMismatchError: It has other bytes; it was removed, so that it is fetched anew.
            StoreError: It is not there or cannot be read.
        """
        place = self.blob_path(blob.sha256)
        path = place if self.has_blob(blob) else self._partial / blob.sha256
        if _sha256_of(path) != blob.sha256:
            self._disk.remove(path)
            self.drop_partial(blob.sha256)
            raise BlobMismatchError(f"blob {blob.sha256} has other bytes than its name says; it was removed")
        if path != place:
            self._disk.move(path, place)
            self._disk.remove(self._map_path(blob.sha256))

    # Partial blobs (main loop)

    def open_partial(self, want: Want) -> Partial:
        """Return the blob as far as it is here; room for all of it is reserved.

        Raises:
            DiskFullError: The partition would be left with less than its floor.
        """
        path = self._partial / want.blob.sha256
        have = self._read_map(want) if _size_of(path) == want.blob.size_bytes else None
        if have is None:
            self._check_room(want.blob.size_bytes)
            self._disk.remove(self._map_path(want.blob.sha256))
            self._disk.allocate(path, want.blob.size_bytes)
            have = BlockMap(want.blocks)
        return Partial(want, have, self._disk.open_for_blocks(path))

    def write_block(self, partial: Partial, write: Write) -> None:
        """Write a block; every MiB what was written is synced, then noted in the map.

        After a failure nothing of what was not yet synced is noted any more, not even when closing: ``have`` names
        the block that was not written.
        """
        unsynced_bytes, partial.unsynced_bytes = partial.unsynced_bytes + len(write.data), 0
        self._disk.write_at(partial.descriptor, write.data, write.offset)
        partial.unsynced_bytes = unsynced_bytes
        if partial.unsynced_bytes >= SYNC_BYTES:
            self.sync_partial(partial)

    def sync_partial(self, partial: Partial) -> None:
        """Make what was written last, then note it in the map."""
        partial.unsynced_bytes = 0  # first: a second sync after a failed one succeeds without having written anything
        self._disk.sync(partial.descriptor)
        header = _MAP_HEADER.pack(_MAP_MAGIC, partial.want.block_bytes)
        self._disk.write(self._map_path(partial.want.blob.sha256), header + partial.have.to_bytes())

    def close_partial(self, partial: Partial) -> None:
        """Sync what is there and close the file."""
        try:
            if partial.unsynced_bytes:
                self.sync_partial(partial)
        finally:
            self._disk.close(partial.descriptor)

    def drop_partial(self, sha256: str) -> None:
        """Forget what has arrived of a blob."""
        self._disk.remove(self._map_path(sha256))
        self._disk.remove(self._partial / sha256)

    # Room

    def collect(self, kept: set[str]) -> int:
        """Remove every blob and partial blob that is not in ``kept``, and left-over files; return how many."""
        unwanted = [
            path
            for folder in (self._blobs, self._partial)
            for path in _entries(folder)
            if path.name.removesuffix(".map") not in kept or self._is_left_over(path)
        ]
        for path in unwanted:
            self._disk.remove(path)
        return len(unwanted)

    def link_models(self, active: dict[str, str]) -> None:
        """Make ``models/<name>/active`` point at the blob of each active model and remove the others."""
        for path in _entries(self._models):
            if path.name not in active and path.is_dir():
                self._unlink_model(path)
        for name, sha256 in active.items():
            path = self._models / name / "active"
            target = f"../../blobs/{sha256}"
            if not path.is_symlink() or str(path.readlink()) != target:
                self._disk.make_directory(path.parent)
                self._disk.link(path, target)

    def _unlink_model(self, folder: Path) -> None:
        for name in ("active", "active.new"):  # a crash leaves the second
            self._disk.remove(folder / name)
        if not _entries(folder):  # what a person has put there stays
            self._disk.remove_directory(folder)

    def _check_room(self, blob_bytes: int) -> None:
        usage = self._disk.usage(self.directory)
        needed = room_needed(blob_bytes, usage.total_bytes)
        if usage.free_bytes < needed:
            floor = (needed - blob_bytes) >> 20
            raise DiskFullError(
                f"{self.directory}: {usage.free_bytes >> 20} MiB free, wanted {blob_bytes >> 20} MiB for the blob and"
                f" {floor} MiB to stay free; make room on the device"
            )

    def _is_left_over(self, path: Path) -> bool:
        """Tell whether a crash came between a blob's move and the removal of what it was moved from."""
        if path.suffix == ".map":
            return not path.with_suffix("").exists()
        return path.parent == self._partial and _size_of(path) == _size_of(self.blob_path(path.name))

    def _map_path(self, sha256: str) -> Path:
        return self._partial / f"{sha256}.map"

    def _read_map(self, want: Want) -> BlockMap | None:
        try:
            data = self._map_path(want.blob.sha256).read_bytes()
        except FileNotFoundError:
            return BlockMap(want.blocks)
        except OSError as err:
            logger.warning("cannot read how much of blob %s is here; it is fetched anew: %s", want.blob.sha256, err)
            return None
        if data[: _MAP_HEADER.size] != _MAP_HEADER.pack(_MAP_MAGIC, want.block_bytes):
            return None
        return BlockMap(want.blocks, data[_MAP_HEADER.size :])


def _size_of(path: Path) -> int | None:
    with explained(path, "look at"):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _entries(folder: Path) -> list[Path]:
    with explained(folder, "list"):
        return list(folder.iterdir())


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
    except OSError as err:
        raise StoreError(f"cannot read {path}: {err.strerror}") from err
    return digest.hexdigest()
