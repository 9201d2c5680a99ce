"""What a device believes of its fleet, from one start to the next.

Files that the caller keeps (`TrustClient.files`), and what becomes of them when one of them is damaged:

    N.root.json               the roots after the first: is fetched again. That there was one is known from its name, so
                              no older root takes its place
    timestamp.json            the newest that was verified: the one below takes its place
    resolved.timestamp.json   the newest of which everything was read: the device begins without wishes until it
                              has read everything again
    snapshot.json             the newest that was verified: is read again from its blob

Each is verified again at the start, by the root that the device was given when it joined. What is damaged is reported
in `TrustClient.damage`. So no single damaged file lets a device accept something older than what it once acted upon.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot

from edgeferry.agent.trust.errors import MissingError, TrustError, explained
from edgeferry.agent.trust.resolution import Missing, Resolved, resolve
from edgeferry.agent.trust.signatures import remember_signatures
from edgeferry.agent.trust.updater import MAX_ROOTS, MAX_TIMESTAMP_BYTES, BlobSource, DeviceUpdater, Offer
from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["TrustClient"]

log = logging.getLogger(__name__)

_TIMESTAMP = "timestamp.json"
_SNAPSHOT = "snapshot.json"
_RESOLVED = "resolved.timestamp.json"
_ROOT = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
_EPOCH = datetime.fromtimestamp(0, UTC)
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999, after which datetime knows no dates
_REFUSALS = (RepositoryError, DownloadError, WireError, OSError)


class _Hint(Message, frozen=True):
    root_version: int = 0


class _UnverifiedTimestamp(Message, frozen=True):
    signed: _Hint


class TrustClient:
    """Believes what this fleet's keys have signed, and nothing older than what it believed before.

    Args:
        device: Id of this device.
        profile: Name of its profile.
        files: What `files` returned before the last stop; empty at the first start.
        bootstrap_root: The root that the device joined with.
        work_dir: A folder in memory, for this object alone: it is emptied now.

    Raises:
        TrustError: ``bootstrap_root`` is not a root, or ``work_dir`` cannot be written.

    Attributes:
        damage: What is wrong with ``files``, by file name; empty when all is well.
        issued_ms: The time that the newest verified timestamp tells, also when that was refused for its expiry; 0 for
            none. It comes back from ``files``; whoever keeps a copy of it beside them also keeps a thief's.
        root_version: The newest root that is trusted.
    """

    def __init__(
        self, *, device: str, profile: str, files: Mapping[str, bytes], bootstrap_root: bytes, work_dir: Path
    ) -> None:
        remember_signatures()
        self.damage: dict[str, Problem] = {}
        self.issued_ms = 0
        self.root_version = 0
        self._device = device
        self._profile = profile
        self._bootstrap = bootstrap_root
        self._folder = work_dir
        self._resolved_timestamp = files.get(_RESOLVED)
        self._known_root = 0
        self._restore(files)

    def refresh(
        self,
        *,
        roots: Mapping[int, bytes],
        timestamp: bytes,
        blob: BlobSource,
        now_ms: int,
        final: bool = False,
    ) -> Resolved | Missing:
        """Verify ``timestamp`` and all that hangs on it; return what it says to this device, or what is missing.

        Args:
            roots: Root metadata by version, as far as it has arrived.
            timestamp: The newest timestamp that has arrived.
            blob: Gives the bytes of a blob, or None when it is not here.
            now_ms: Trusted time.
            final: True when no more roots are to be expected: MQTT has no way to say that there is none.

        Raises:
            TrustError: Something was refused. What was believed before still is.
        """
        awaited = () if final else self._awaited_roots(roots, timestamp)
        if awaited:
            return Missing((), awaited)
        try:
            resolved = self._read(
                self._folder / "newest", Offer(roots, timestamp, blob, self._known_root), _time(now_ms)
            )
        except MissingError as err:
            if err.roots and final:
                raise self._lost_root(err.roots[0]) from err
            return Missing(err.blobs, err.roots)
        except _REFUSALS as err:
            refusal = self._refusal(err, roots)
            following = self.root_version + 1  # what verifies is trusted by now, also where something behind it did not
            refusal.root = following if following in roots and isinstance(err, RepositoryError) else 0
            raise refusal from err
        self._resolved_timestamp = (self._folder / "newest" / _TIMESTAMP).read_bytes()
        return resolved

    def resolve_trusted(self, blob: BlobSource, now_ms: int) -> Resolved | None:
        """Return what was believed last, from what is kept alone; None when that is not complete.

        It was verified when it was not expired, so it is not refused now: a device that was off for months finishes
        what it began. When it has expired, ``Resolved.metadata`` says so.

        Args:
            blob: Gives the bytes of a blob, or None when it is not here.
            now_ms: Trusted time.
        """
        if self._resolved_timestamp is None:
            return None
        folder = self._folder / "resolved"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._folder / "newest" / "root_history", folder / "root_history")
            resolved = self._read(folder, Offer({}, self._resolved_timestamp, blob), _EPOCH)
        except MissingError:
            return None
        except _REFUSALS as err:
            self._note_error(_RESOLVED, err)
            return None
        if resolved.expires_ms > now_ms:
            return resolved
        expired = (
            f"the metadata has expired at {_time(resolved.expires_ms):%Y-%m-%d %H:%M} UTC; renew it on the workstation"
        )
        return replace(resolved, metadata=Problem(Code.FAILED_PRECONDITION, Reason.METADATA_EXPIRED, expired))

    def files(self) -> dict[str, bytes]:
        """Return what the caller has to keep for the next start, by file name; nothing else may be kept there."""
        newest = self._folder / "newest"
        kept = {path.name: path.read_bytes() for path in sorted((newest / "root_history").iterdir(), key=_root_number)}
        kept |= {name: (newest / name).read_bytes() for name in (_SNAPSHOT, _TIMESTAMP) if (newest / name).exists()}
        if self._resolved_timestamp is not None:  # last: a kill in between must not leave it newer than the timestamp
            kept[_RESOLVED] = self._resolved_timestamp
        return kept

    def _restore(self, files: Mapping[str, bytes]) -> None:
        try:
            kept = {} if self._is_of_another_fleet(files) else files
            self._fill(kept)
            self._check(kept)
        except _REFUSALS as err:
            raise explained(err) from err

    def _is_of_another_fleet(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether ``files`` began with another root than this device joined with; a damaged one is not another."""
        name = f"{_verified_root(self._bootstrap).version}.root.json"
        if files.get(name, self._bootstrap) == self._bootstrap:
            return False
        try:
            _verified_root(files[name])
        except RepositoryError as err:
            self._note_error(name, err)
            return False
        self._resolved_timestamp = None
        log.warning("the kept metadata is of another fleet than the one that this device has joined; it is dropped")
        return True

    def _fill(self, files: Mapping[str, bytes]) -> None:
        newest = self._folder / "newest"
        shutil.rmtree(self._folder, ignore_errors=True)
        (newest / "root_history").mkdir(mode=0o700, parents=True)
        for name, data in files.items():
            if match := _ROOT.fullmatch(name):
                self._known_root = max(self._known_root, int(match[1]))
                (newest / "root_history" / name).write_bytes(data)
        for name, kept_as in ((_SNAPSHOT, _SNAPSHOT), (_TIMESTAMP, _RESOLVED)):
            if kept_as in files:
                (newest / name).write_bytes(files[kept_as])

    def _check(self, files: Mapping[str, bytes]) -> None:
        """Take over the kept timestamp as if it came from outside, so that python-tuf says what is wrong with it.

        What python-tuf finds in its own folder it drops without a word when it is damaged.
        """
        newest = self._folder / "newest"
        offer = Offer({}, files.get(_TIMESTAMP, self._resolved_timestamp), lambda _: None, self._known_root)
        updater = DeviceUpdater(newest, self._bootstrap, offer, _EPOCH)
        try:
            updater.refresh()
        except MissingError as err:
            if err.roots and _TIMESTAMP in files:  # nothing can be said of it before that root is here again
                (newest / _TIMESTAMP).write_bytes(files[_TIMESTAMP])
            for version in err.roots:
                self._note(
                    f"{version}.root.json", Reason.METADATA_UNSIGNED, "it is waited for, and no older root is used"
                )
        except DownloadHTTPError:
            pass  # there is no timestamp yet: this is the first start
        except _REFUSALS as err:
            self._note_error(_TIMESTAMP, err)
        if updater.timestamp and _SNAPSHOT in files and not updater.has(Snapshot.type):
            self._note(_SNAPSHOT, Reason.METADATA_UNSIGNED, "it is read again from its blob")
        self._remember(updater)

    def _read(self, folder: Path, offer: Offer, now: datetime) -> Resolved:
        updater = DeviceUpdater(folder, self._bootstrap, offer, now)
        try:
            updater.refresh()
            return resolve(updater, offer.blob, device=self._device, profile=self._profile)
        finally:
            self._remember(updater)

    def _remember(self, updater: DeviceUpdater) -> None:
        self.root_version = max(self.root_version, updater.root_version)
        self._known_root = max(self._known_root, updater.root_version)
        self.issued_ms = updater.issued_ms or self.issued_ms

    def _awaited_roots(self, roots: Mapping[int, bytes], timestamp: bytes) -> tuple[int, ...]:
        """Return the roots that an unverified timestamp speaks of and that are not here: a reason to wait, no more."""
        try:
            hint = decode(_UnverifiedTimestamp, timestamp, max_bytes=MAX_TIMESTAMP_BYTES).signed.root_version
        except WireError:
            return ()
        last = min(hint, self.root_version + MAX_ROOTS)
        return tuple(version for version in range(self.root_version + 1, last + 1) if version not in roots)

    def _lost_root(self, version: int) -> TrustError:
        detail = (
            f"root {version} was trusted here before, its file is damaged and nobody offers it;"
            " publish from the workstation again, which says all roots"
        )
        return TrustError(Problem(Code.FAILED_PRECONDITION, Reason.METADATA_ROLLBACK, detail))

    def _refusal(self, error: Exception, roots: Mapping[int, bytes]) -> TrustError:
        strange = self._strange_roots(roots) if isinstance(error, UnsignedMetadataError) else []
        if not strange:
            return explained(error)
        detail = (
            f"{error}: the broker offers another root {strange[0]} than this device trusts, so it serves another fleet,"
            " or the fleet was made anew; this device keeps to its own: to move it, let it join with a new token"
        )
        return TrustError(Problem(Code.UNAUTHENTICATED, Reason.METADATA_UNSIGNED, detail))

    def _strange_roots(self, roots: Mapping[int, bytes]) -> list[int]:
        history = self._folder / "newest" / "root_history"
        trusted = {_root_number(path): path.read_bytes() for path in history.iterdir()}
        return sorted(version for version in trusted.keys() & roots.keys() if trusted[version] != roots[version])

    def _note(self, name: str, reason: Reason, detail: str) -> None:
        log.warning("the kept %s cannot be believed any more: %s", name, detail)
        self.damage[name] = Problem(Code.DATA_LOSS, reason, f"the kept {name} cannot be believed any more: {detail}")

    def _note_error(self, name: str, error: Exception) -> None:
        problem = explained(error).problem
        self._note(name, problem.reason, problem.detail)


def _verified_root(data: bytes) -> Root:
    metadata = Metadata[Root].from_bytes(data)
    metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _root_number(path: Path) -> int:
    return int(path.name.split(".")[0])


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(time_ms, 0), _LATEST_MS) / 1000, UTC)
