"""python-tuf's client workflow, fed with roots, a timestamp and blobs instead of downloads.

Decides nothing that python-tuf decides. It maps the names that python-tuf asks for to blobs: each name stands in
metadata that was verified before, together with a hash and a length. Nothing unverified is acted on.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeferry.agent.trust.errors import DamagedBlobError, MissingError
from edgeferry.wire.desired import BlobRef

__all__ = ["MAX_ROOTS", "MAX_TIMESTAMP_BYTES", "BlobSource", "DeviceUpdater", "Offer", "take", "target_ref"]

BlobSource = Callable[[BlobRef], bytes | None]

MAX_TIMESTAMP_BYTES = 16 * 1024
MAX_ROOTS = 256

_BASE: Final = "edgeferry:/"
_SHA256 = re.compile(r"[0-9a-f]{64}")
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
        super().__init__(str(folder), _BASE, fetcher=_Fetcher(offer, self._named), config=_LIMITS, bootstrap=bootstrap)
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
        signed: Iterable[Signed] = iter(self._trusted_set)  # a mapping that gives its values, not its keys
        return min(role.expires for role in signed)

    @property
    def issued_ms(self) -> int:
        """Return when the newest trusted timestamp was signed, by its own account; 0 when it does not say.

        A time after which it could not have been used is none: so whoever steals the timestamp key can put a device's
        clock forward, but not beyond the root, and a new key brings the true time back.
        """
        if self.timestamp is None:
            return 0
        issued_ms = self.timestamp.unrecognized_fields.get("issued_ms")
        latest_ms = min(self.timestamp.expires, self._trusted_set.root.expires).timestamp() * 1000
        return issued_ms if type(issued_ms) is int and 0 <= issued_ms <= latest_ms else 0

    def metadata_blobs(self) -> tuple[BlobRef, ...]:
        """Return the blobs that the trusted metadata was read from: snapshot, targets and bins."""
        roles = [name.removesuffix(".json") for name in self._trusted_set.snapshot.meta]
        return tuple(self._ref(role) for role in [Snapshot.type, *roles] if self.has(role))

    def _named(self, role: str) -> BlobRef:
        """Return the blob that holds the metadata of ``role``, if what names it has not expired.

        python-tuf reads the blob first and looks at the expiry of its parents then; here a device learns that they have
        expired without asking for anything.

        Raises:
            RepositoryError: They have, or do not say hash and length, or name more bytes than there may be.
        """
        parents = (Timestamp.type,) if role == Snapshot.type else (Timestamp.type, Snapshot.type)
        for parent in parents:
            if self._trusted_set[parent].is_expired(self._trusted_set.reference_time):
                raise ExpiredMetadataError(f"{parent}.json is expired")
        return self._ref(role)

    def _ref(self, role: str) -> BlobRef:
        if role == Snapshot.type:
            return _checked(role, self._trusted_set.timestamp.snapshot_meta, _LIMITS.snapshot_max_length)
        return _checked(role, self._trusted_set.snapshot.meta[f"{role}.json"], _LIMITS.targets_max_length)


class _Fetcher(FetcherInterface):
    """Gives python-tuf what it calls a download."""

    def __init__(self, offer: Offer, named: Callable[[str], BlobRef]) -> None:
        self._offer = offer
        self._named = named

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return what ``url`` names; the inherited method would write it to a temporary file first.

        Raises:
            DownloadError: It is not here, or longer than ``max_length``.
            RepositoryError: It is named wrongly, or has other bytes than its name says.
        """
        data = self._read(url)
        if len(data) > max_length:
            raise DownloadLengthMismatchError(
                f"{url.removeprefix(_BASE)}: {len(data)} bytes, wanted at most {max_length}"
            )
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError("only target files are asked for this way, and we read them ourselves")

    def _read(self, url: str) -> bytes:
        version, _, role = url.removeprefix(_BASE).removesuffix(".json").rpartition(".")
        match role:
            case Root.type:
                return self._root(int(version))
            case Timestamp.type:
                return _there(self._offer.timestamp, url)
            case _:
                return take(self._offer.blob, self._named(role))

    def _root(self, version: int) -> bytes:
        data = self._offer.roots.get(version)
        if data is None and version <= self._offer.known_root:
            raise MissingError(roots=(version,))
        return _there(data, f"root {version}")


def take(blob: BlobSource, ref: BlobRef) -> bytes:
    """Return the bytes of the blob ``ref``, compared with its hash.

    Raises:
        MissingError: It is not here.
        DamagedBlobError: It has other bytes.
    """
    data = blob(ref)
    if data is None:
        raise MissingError((ref,))
    if len(data) != ref.size_bytes or hashlib.sha256(data).hexdigest() != ref.sha256:
        raise DamagedBlobError(ref, len(data))
    return data


def target_ref(target: TargetFile, *, max_bytes: int) -> BlobRef:
    """Return the blob that holds a target file.

    Raises:
        RepositoryError: It has no SHA-256, or more than ``max_bytes``.
    """
    return _checked(target.path, target, max_bytes)


def _checked(name: str, named: MetaFile | TargetFile, max_bytes: int) -> BlobRef:
    sha256 = (named.hashes or {}).get("sha256")
    if sha256 is None or not _SHA256.fullmatch(sha256) or named.length is None:
        raise RepositoryError(f"{name}: is named without its SHA-256 and length")
    if named.length > max_bytes:
        raise RepositoryError(f"{name}: is named with {named.length} bytes, wanted at most {max_bytes}")
    return BlobRef(sha256=sha256, size_bytes=named.length)


def _there(data: bytes | None, name: str) -> bytes:
    if data is None:
        raise DownloadHTTPError(f"{name.removeprefix(_BASE)} is not offered", 404)
    return data
