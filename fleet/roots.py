"""Roots: which keys sign what, and how the next root differs from the one before. Pure; nothing here signs.

A change of the root is signed by enough keys of the root before and of the new one. Where some of these keys are on
other machines it is a proposal until their holders have signed it too: the same file, with more signatures.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.exceptions import StorageError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError, SerializationError

from edgeferry.fleet.errors import ConfigurationError, UsageError
from edgeferry.fleet.keys import KeyRole

__all__ = [
    "Approval",
    "RootChange",
    "approval_of",
    "changed_roles",
    "empty_root",
    "merged",
    "parse_public_key",
    "parse_root",
    "public_key_of",
    "role_of_key",
    "with_added_key",
    "with_key",
    "with_next_version",
    "without_key",
]

RootChange = Callable[[Root], Root]
_BROKEN = (RepositoryError, DeserializationError, SerializationError, StorageError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class Approval:
    """How far a root is signed: by how many keys of the root before and of its own, and how many each wants."""

    by_before: int
    before_wants: int
    by_own: int
    own_wants: int

    @property
    def is_enough(self) -> bool:
        """Return whether devices would follow."""
        return self.by_before >= self.before_wants and self.by_own >= self.own_wants

    def __str__(self) -> str:
        return (
            f"{self.by_before} of {self.before_wants} signatures of the root before,"
            f" {self.by_own} of {self.own_wants} of its own"
        )


def empty_root(keys: Mapping[KeyRole, Key], expires: datetime) -> Root:
    """Return the first root of a fleet, not signed yet."""
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role, key in keys.items():
        if role is not KeyRole.DOCUMENTS:
            root.add_key(key, role)
    return root


def with_next_version(root: Root) -> Root:
    """Return a copy of ``root`` with the next version number, not signed yet."""
    renewed = deepcopy(root)
    renewed.version += 1
    return renewed


def with_key(root: Root, role: KeyRole, key: Key, replaced: str = "") -> Root:
    """Return the next version of ``root``, in which ``key`` signs for ``role`` in the place of others.

    Args:
        root: What counts now.
        role: Not DOCUMENTS, whose keys the targets metadata names.
        key: The new one.
        replaced: Id of the key whose place it takes; empty for all of them.
    """
    renewed = with_next_version(root)
    for keyid in root.roles[role].keyids:
        if replaced in {"", keyid}:
            renewed.revoke_key(keyid, role)
    renewed.add_key(key, role)
    return renewed


def with_added_key(root: Root, role: KeyRole, key: Key, threshold: int = 0) -> Root:
    """Return the next version of ``root``, in which ``key`` signs for ``role`` beside the others.

    Raises:
        UsageError: It does already, or ``threshold`` is more than there are keys.
    """
    if key.keyid in root.roles[role].keyids:
        raise UsageError(f"key {key.keyid[:16]} signs for {role} already")
    renewed = with_next_version(root)
    renewed.add_key(key, role)
    return _with_threshold(renewed, role, threshold or root.roles[role].threshold)


def without_key(root: Root, role: KeyRole, keyid: str, threshold: int = 0) -> Root:
    """Return the next version of ``root``, in which nothing that the key ``keyid`` signs for ``role`` counts.

    Raises:
        UsageError: Too few keys would be left.
    """
    renewed = with_next_version(root)
    renewed.revoke_key(keyid, role)
    return _with_threshold(renewed, role, threshold or root.roles[role].threshold)


def _with_threshold(root: Root, role: KeyRole, threshold: int) -> Root:
    there = len(root.roles[role].keyids)
    if not 1 <= threshold <= there:
        advice = f"add a key, or say --threshold {there}" if there else f"replace it: edgeferry keys rotate {role}"
        raise UsageError(f"{threshold} of the {role} keys would have to sign, and there would be {there}; {advice}")
    root.roles[role].threshold = threshold
    return root


def role_of_key(keyids: Mapping[KeyRole, tuple[str, ...]], beginning: str) -> tuple[KeyRole, str]:
    """Return which key of the fleet an id begins with, and its role.

    Raises:
        UsageError: None does, or several do.
    """
    found = [(role, keyid) for role, ids in keyids.items() for keyid in ids if keyid.startswith(beginning)]
    if len(found) != 1 or not beginning:
        there = ", ".join(f"{keyid[:16]} ({role})" for role, ids in keyids.items() for keyid in ids)
        what = "more than one key" if found else "no key"
        raise UsageError(f"{what} of this fleet has an id that begins with {beginning!r}; there are {there}")
    return found[0]


def changed_roles(before: Root, after: Root) -> set[KeyRole]:
    """Return the roles whose metadata has to be signed anew, because other keys sign for them."""
    return {
        role
        for role in (KeyRole.TARGETS, KeyRole.SNAPSHOT, KeyRole.TIMESTAMP)
        if set(before.roles[role].keyids) != set(after.roles[role].keyids)
    }


def approval_of(proposed: Metadata[Root], before: Root) -> Approval:
    """Return how far ``proposed``, which follows ``before``, is signed."""
    old, new = (
        root.get_verification_result(Root.type, proposed.signed_bytes, proposed.signatures)
        for root in (before, proposed.signed)
    )
    return Approval(len(old.signed), old.threshold, len(new.signed), new.threshold)


def merged(one: Metadata[Root], other: Metadata[Root]) -> Metadata[Root]:
    """Return the same root with the signatures of both.

    Raises:
        UsageError: They are not the same root.
    """
    if one.signed_bytes != other.signed_bytes:
        raise UsageError(
            "the file is another root than the one that is proposed here; export it anew and have that signed"
        )
    together = deepcopy(one)
    together.signatures.update(other.signatures)
    return together


def parse_root(data: bytes, where: str) -> Metadata[Root]:
    """Return the root metadata in ``data``; its signatures are not looked at.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except _BROKEN as err:
        raise ConfigurationError(f"{where}: is not a root: {err}") from err
    if not isinstance(metadata.signed, Root):
        raise ConfigurationError(f"{where}: is {metadata.signed.type} metadata, wanted a root")
    return Metadata[Root](metadata.signed, metadata.signatures)


def parse_public_key(value: object, where: str) -> Key:
    """Return the public key that ``value``, read from JSON, says.

    Raises:
        ConfigurationError: It is none of ed25519's, or its id is not its own.
    """
    try:
        if not isinstance(value, dict):
            raise TypeError("wanted an object")
        keyid = str(value["keyid"])
        key = Key.from_dict(keyid, {name: value[name] for name in ("keytype", "scheme", "keyval")})
        public = bytes.fromhex(key.keyval["public"])
    except _BROKEN as err:
        raise ConfigurationError(f"{where}: is not a public key: {err}; make one with `edgeferry keys new`") from err
    if (key.keytype, key.scheme, len(public)) != ("ed25519", "ed25519", 32):
        raise ConfigurationError(f"{where}: is a {key.keytype} key, wanted ed25519; make one with `edgeferry keys new`")
    if SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public)).keyid != keyid:
        raise ConfigurationError(f"{where}: the id is not this key's; ask its holder for the file again")
    return key


def public_key_of(key: Key) -> dict[str, object]:
    """Return ``key`` as `parse_public_key` reads it: TUF's form, with its id."""
    return {"keyid": key.keyid, **key.to_dict()}
