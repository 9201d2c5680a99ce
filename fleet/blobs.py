"""The blobs of the fleet folder: immutable bytes, each in a file named by its SHA-256.

Decides nothing; it takes bytes in, whole and checked, and gives them back.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import explained, replacing, sync_folder, write_all_atomically
from edgeferry.wire.desired import BlobRef

__all__ = ["BlobFolder", "blob_ref"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def blob_ref(data: bytes) -> BlobRef:
    """Return the name and size of ``data``."""
    return BlobRef(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


class BlobFolder:
    """Blobs in ``folder``, which must exist. Any thread may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path | None:
        """Return the file of a blob, or None when it is not here or is not the name of a blob."""
        path = self._folder / sha256
        return path if _SHA256.fullmatch(sha256) and path.is_file() else None

    def read(self, ref: BlobRef) -> bytes:
        """Return the bytes of a blob that has to be here.

        Raises:
            ConfigurationError: It is missing or damaged.
        """
        path = self._folder / ref.sha256
        with explained(path):
            data = path.read_bytes() if path.is_file() else b""
        if blob_ref(data) != ref:
            raise ConfigurationError(f"{path}: is missing or damaged; restore the fleet folder from a backup")
        return data

    def put(self, blobs: Iterable[bytes]) -> None:
        """Take in ``blobs``; they last when this returns.

        Raises:
            FleetError: The disk refused.
        """
        files = {self._folder / blob_ref(data).sha256: data for data in blobs}
        write_all_atomically({path: data for path, data in files.items() if not path.exists()})

    def put_blocks(self, ref: BlobRef, blocks: Iterable[bytes]) -> None:
        """Take in a blob piece by piece; the caller checks the pieces while they pass: an error drops them.

        Raises:
            FleetError: The disk refused.
        """
        with replacing(self._folder / ref.sha256) as file:
            for block in blocks:
                file.write(block)
        sync_folder(self._folder)
