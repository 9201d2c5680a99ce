"""How a plan becomes signed metadata, and when metadata is signed anew.

    root ──► timestamp ──► snapshot ──► targets ──► 256 bins ──► documents, manifests
     │           │             │            │           │
     2 years     60 days       60 days      1 year      1 year

Each arrow is a hash and a length. What changed is signed, and what has lived half of its life; nothing else, so that
a push to one device in 10,000 changes a few kilobytes. Nothing here touches the disk but the keys that are read.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    Delegations,
    Metadata,
    Role,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from edgeferry.fleet.blobs import blob_ref
from edgeferry.fleet.documents import ListedFile, Plan
from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.publication import FORMAT, Publication, SignedFile
from edgeferry.fleet.roots import with_next_version

__all__ = ["LIFETIMES", "RENEWED_BEFORE", "Signing", "document_keys_of"]

_BIN_BITS = 8  # 256 bins: a snapshot of 34 KB, and a bin of 8 KB where there are 10,000 devices
_BIN_PREFIX = "bin"
_DAY = timedelta(days=1)

LIFETIMES = {
    KeyRole.ROOT: 730 * _DAY,
    KeyRole.TARGETS: 365 * _DAY,
    KeyRole.DOCUMENTS: 365 * _DAY,
    KeyRole.SNAPSHOT: 60 * _DAY,
    KeyRole.TIMESTAMP: 60 * _DAY,
}

# Whoever renews does so in time for this to be left. An origin lets snapshot and timestamp live for a week only.
RENEWED_BEFORE = {
    **{role: lifetime / 2 for role, lifetime in LIFETIMES.items()},
    KeyRole.SNAPSHOT: 3 * _DAY,
    KeyRole.TIMESTAMP: 3 * _DAY,
}


class _Next(TypedDict):
    version: int
    expires: datetime


@dataclass(slots=True)
class Signing:
    """One go at signing: what came before, what shall be, and the blobs that come out.

    Attributes:
        keys: Where the private keys are.
        root: The root that counts from now on.
        document_keys: The keys that sign the bins from now on; each of them alone may.
        now: The time of signing.
        lifetimes: How long what is signed now holds, by role.
        forced: Roles whose metadata is signed whether it is due or not, because their keys changed.
        finished_root: The root that counts, where it was signed before this; empty where it was not.
        asks: True to ask for a passphrase where a key is locked and its metadata due, but not expired yet.
        blobs: What was signed; to be saved before anything points at it.
    """

    keys: KeyFolder
    root: Root
    document_keys: tuple[Key, ...]
    now: datetime
    lifetimes: Mapping[KeyRole, timedelta]
    forced: Collection[KeyRole] = ()
    finished_root: bytes = b""
    asks: bool = False
    blobs: list[bytes] = field(default_factory=list)

    def publication(self, before: Publication | None, plan: Plan, files: dict[str, ListedFile]) -> Publication:
        """Return what is published when ``files`` are; ``before`` itself when there is nothing to sign or to note.

        Raises:
            ConfigurationError: A key that is needed is not here.
        """
        bins = self._bins(before, files)
        targets = self._targets(before.targets if before else None)
        snapshot = self._snapshot(before, targets, bins)
        issued_ms = int(self.now.timestamp() * 1000)
        timestamp = self._timestamp(before, snapshot, issued_ms)
        if before and timestamp == before.timestamp:
            return before if plan == before.plan else msgspec.structs.replace(before, plan=plan)
        return Publication(FORMAT, self.root.version, issued_ms, timestamp, snapshot, targets, bins, files, plan)

    def signed_root(self, before: Root | None = None) -> bytes:
        """Return the root, signed by enough of its own root keys and of those of the version ``before`` it.

        Raises:
            ConfigurationError: Too few of these keys are here.
        """
        return self._metadata(self.root, KeyRole.ROOT, self._deciding(before))

    def root_signed_here(self, before: Root) -> Metadata[Root]:
        """Return the root, signed by those keys that are here; it may need more.

        Raises:
            ConfigurationError: One of them cannot be opened.
        """
        metadata = Metadata(self.root)
        keyids = dict.fromkeys(keyid for role in self._deciding(before) for keyid in role.keyids)
        for signer in self.keys.signers(KeyRole.ROOT, keyids):
            metadata.sign(signer, append=True)
        return metadata

    def new_root(self, before: Root) -> bytes:
        """Return the root that takes the place of ``before``, signed; empty when that stays.

        Raises:
            ConfigurationError: It is to be signed, and too few of its keys are here.
        """
        if self.finished_root:
            return self.finished_root
        if not self._signs_anew(int(before.expires.timestamp() * 1000), KeyRole.ROOT, before.roles[Root.type]):
            return b""
        self.root = self.next_root(with_next_version(before))
        return self.signed_root(before)

    def next_root(self, root: Root) -> Root:
        """Return ``root`` with the time at which it expires when it is signed now."""
        root.expires = self.now + self.lifetimes[KeyRole.ROOT]
        return root

    def _deciding(self, before: Root | None) -> list[Role]:
        return [root.roles[Root.type] for root in (before, self.root) if root]

    def _signs_anew(self, expires_ms: int, key_role: KeyRole, role: Role | SuccinctRoles) -> bool:
        """Tell whether metadata is to be signed anew, although nothing in it changes.

        It is when its keys have changed or it has expired, and when it has lived half of its life (or was made to live
        longer than it may) and its keys are at hand. Otherwise that can wait for somebody who has them.
        """
        left = timedelta(milliseconds=expires_ms) - (self.now - datetime.fromtimestamp(0, UTC))
        if key_role in self.forced or left <= timedelta(0):
            return True
        is_due = not self.lifetimes[key_role] / 2 <= left <= self.lifetimes[key_role]
        return is_due and self.keys.at_hand(key_role, role.keyids, asking=self.asks) >= role.threshold

    def _bins(self, before: Publication | None, files: Mapping[str, ListedFile]) -> dict[str, SignedFile]:
        roles = _bin_roles(self.document_keys)
        wanted = _by_bin(roles, files)
        if before is None:
            return {name: self._bin(roles, None, wanted.get(name, {})) for name in roles.get_roles()}
        present = _by_bin(roles, before.files)
        return {
            name: self._bin(roles, file, wanted.get(name, {}))
            if wanted.get(name) != present.get(name) or self._signs_anew(file.expires_ms, KeyRole.DOCUMENTS, roles)
            else file
            for name, file in before.bins.items()
        }

    def _bin(self, roles: SuccinctRoles, before: SignedFile | None, files: Mapping[str, ListedFile]) -> SignedFile:
        listed = {path: _target(path, file) for path, file in files.items()}
        body = Targets(**self._next(before, KeyRole.DOCUMENTS), targets=listed)
        return self._sign(body, KeyRole.DOCUMENTS, roles)

    def _targets(self, before: SignedFile | None) -> SignedFile:
        role = self.root.roles[Targets.type]
        if before and not self._signs_anew(before.expires_ms, KeyRole.TARGETS, role):
            return before
        body = Targets(**self._next(before, KeyRole.TARGETS), delegations=_delegations(self.document_keys))
        return self._sign(body, KeyRole.TARGETS, role)

    def _snapshot(self, before: Publication | None, targets: SignedFile, bins: Mapping[str, SignedFile]) -> SignedFile:
        same = before and (before.targets, before.bins) == (targets, bins)
        role = self.root.roles[Snapshot.type]
        if before and same and not self._signs_anew(before.snapshot.expires_ms, KeyRole.SNAPSHOT, role):
            return before.snapshot
        listed = {f"{Targets.type}.json": targets.meta()} | {f"{name}.json": file.meta() for name, file in bins.items()}
        body = Snapshot(**self._next(before.snapshot if before else None, KeyRole.SNAPSHOT), meta=listed)
        return self._sign(body, KeyRole.SNAPSHOT, role)

    def _timestamp(self, before: Publication | None, snapshot: SignedFile, issued_ms: int) -> SignedFile:
        same = before and (before.snapshot, before.root_version) == (snapshot, self.root.version)
        role = self.root.roles[Timestamp.type]
        if before and same and not self._signs_anew(before.timestamp.expires_ms, KeyRole.TIMESTAMP, role):
            return before.timestamp
        body = Timestamp(
            **self._next(before.timestamp if before else None, KeyRole.TIMESTAMP),
            snapshot_meta=snapshot.meta(),
            unrecognized_fields={"root_version": self.root.version, "issued_ms": issued_ms},
        )
        return self._sign(body, KeyRole.TIMESTAMP, role)

    def _next(self, before: SignedFile | None, role: KeyRole) -> _Next:
        return {"version": before.version + 1 if before else 1, "expires": self.now + self.lifetimes[role]}

    def _sign(self, body: Signed, key_role: KeyRole, role: Role) -> SignedFile:
        data = self._metadata(body, key_role, [role])
        self.blobs.append(data)
        ref = blob_ref(data)
        return SignedFile(body.version, ref.sha256, ref.size_bytes, int(body.expires.timestamp() * 1000))

    def _metadata(self, body: Signed, key_role: KeyRole, roles: Iterable[Role]) -> bytes:
        signers = {signer.public_key.keyid: signer for role in roles for signer in self._signers(key_role, role)}
        metadata: Metadata[Any] = Metadata(body)
        for signer in signers.values():
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _signers(self, key_role: KeyRole, role: Role) -> list[CryptoSigner]:
        signers = self.keys.signers(key_role, role.keyids)
        if len(signers) < role.threshold:
            names = ", ".join(f"keys/{key_role}-{keyid[:16]}.pem or .locked" for keyid in role.keyids)
            raise ConfigurationError(
                f"{len(signers)} of the fleet's {key_role} keys are here, {role.threshold} have to sign;"
                f" put back from your backup: {names}"
            )
        return signers


def document_keys_of(targets: bytes) -> tuple[Key, ...]:
    """Return the keys that sign the bins by the word of this targets metadata.

    Raises:
        ConfigurationError: It names none.
    """
    delegations = Metadata[Targets].from_bytes(targets).signed.delegations
    if delegations is None:
        raise ConfigurationError(
            "the targets metadata names no keys for documents; restore the fleet folder from a backup"
        )
    return tuple(delegations.keys.values())


def _delegations(keys: Collection[Key]) -> Delegations:
    """Return the delegation of all documents and manifests to hash bins (TAP 15)."""
    return Delegations({key.keyid: key for key in keys}, succinct_roles=_bin_roles(keys))


def _bin_roles(keys: Collection[Key]) -> SuccinctRoles:
    return SuccinctRoles([key.keyid for key in keys], 1, _BIN_BITS, _BIN_PREFIX)


def _target(path: str, file: ListedFile) -> TargetFile:
    custom = {"custom": {"differences": msgspec.to_builtins(file.differences)}} if file.differences else None
    return TargetFile(file.size_bytes, {"sha256": file.sha256}, path, custom)


def _by_bin(roles: SuccinctRoles, files: Mapping[str, ListedFile]) -> dict[str, dict[str, ListedFile]]:
    bins: dict[str, dict[str, ListedFile]] = {}
    for path, ref in files.items():
        bins.setdefault(roles.get_role_for_target(path), {})[path] = ref
    return bins
