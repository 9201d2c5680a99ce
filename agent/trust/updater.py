"""python-tuf's client workflow, fed with roots, a timestamp and blobs instead of downloads.

Decides nothing that python-tuf decides. It maps the names that python-tuf asks for to blobs: each name stands in
metadata that was verified before, together with a hash and a length. Nothing unverified is acted on.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from tuf.api.exceptions import (
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import MetaFile, Signed, Snapshot, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeferry.agent.trust.errors import DamagedBlobError, MissingError
from edgeferry.wire.desired import BlobRef

__all__ = ["MAX_TIMESTAMP_BYTES", "BlobSource", "DeviceUpdater", "Offer", "ref_of", "take"]

BlobSource = Callable[[BlobRef], bytes | None]

MAX_TIMESTAMP_BYTES = 16 * 1024
MAX_ROOTS = 256

_BASE: Final = "edgeferry:/"
_NAME = re.compile(r"(?:([0-9]+)\.)?([A-Za-z0-9_-]+)\.json")
# A fleet of 10,000 devices has a snapshot of 34 KB and bins of 8 KB. Whoever holds a signing key may not fill a disk.
_LIMITS = UpdaterConfig(
    max_root_rotations=MAX_ROOTS,
    max_delegations=2,
    root_max_length=64 * 1024,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=256 * 1024,
    targets_max_length=1024 * 1024,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to read, all of it unverified.

    Attributes:
        roots: Root metadata by version.
        timestamp: Timestamp metadata; None for none.
        blob: Gives a blob's bytes, or None when it is not here.
        known_root: A root that was trusted before: up to it, no root may be left out.
    """

    roots: Mapping[int, bytes]
    timestamp: bytes | None
    blob: BlobSource
    known_root: int = 0


class DeviceUpdater(Updater):
    """python-tuf's Updater with a clock that is given, and with our own fetcher.

    It takes the machine's clock when it is made and has no argument for another. A device's clock may be years off, and
    what time it is is decided elsewhere; so the reference time is replaced before anything is compared with it.
    """

    def __init__(self, folder: Path, bootstrap: bytes, offer: Offer, now: datetime) -> None:
        super().__init__(
            str(folder), _BASE, fetcher=_Fetcher(offer, self._named), config=_LIMITS, bootstrap=bootstrap
        )
        self._trusted_set.reference_time = now

    @property
    def root_version(self) -> int:
        """Return the version of the newest trusted root."""
        return self._trusted_set.root.version

    @property
    def timestamp(self) -> Timestamp | None:
        """Return the newest trusted timestamp."""
        return self._trusted_set.timestamp if self.has(Timestamp.type) else None

    def has(self, role: str) -> bool:
        """Tell whether metadata of ``role`` is trusted."""
        return role in self._trusted_set

    def earliest_expiry(self) -> datetime:
        """Return when the first of the trusted metadata expires."""
        return min(signed.expires for signed in self._trusted_set.values_in_use()) if False else min(
            signed.expires for signed in iter(self._trusted_set)
        )

    def metadata_blobs(self) -> tuple[BlobRef, ...]:
        """Return the blobs that the trusted metadata was read from: snapshot, targets and bins."""
        roles = [name.removesuffix(".json") for name in self._trusted_set.snapshot.meta]
        return tuple(self._named(role) for role in [Snapshot.type, *roles] if self.has(role))

    def _named(self, role: str) -> BlobRef:
        """Return how the trusted timestamp or snapshot names the metadata of ``role``.

        python-tuf would read the metadata first and look at its parent's expiry then; here what has expired is told
        before anything is asked for.

        Raises:
            RepositoryError: What names it has expired, or does not say hash and length.
        """
        timestamp = self._in_time(self._trusted_set.timestamp)
        if role == Snapshot.type:
            return _checked_ref(role, timestamp.snapshot_meta, _LIMITS.snapshot_max_length)
        snapshot = self._in_time(self._trusted_set.snapshot)
        return _checked_ref(role, snapshot.meta[f"{role}.json"], _LIMITS.targets_max_length)
