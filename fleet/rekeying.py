"""Changes of who may sign: keys are replaced, added, revoked, with one holder of root keys or with several.

Decides what becomes of a new root: enough of its keys are here, and it is published; or they are elsewhere, and it is a
proposal until their holders have signed it. Keys for documents stand in the targets metadata, and need no new root.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root

from edgeferry.fleet.errors import ConflictError, UsageError
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.roots import (
    Approval,
    RootChange,
    approval_of,
    changed_roles,
    merged,
    parse_root,
    with_added_key,
    with_key,
    with_next_version,
    without_key,
)
from edgeferry.fleet.signing import Signing

__all__ = ["Proposal", "Rekeying"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A root that waits for signatures, and how far it is signed."""

    metadata: Metadata[Root]
    approval: Approval


class Rekeying:
    """Changes the keys of the fleet in ``repository``. What returns a bool tells whether the change is published.

    All that changes raises:
        UsageError: It cannot be, or another change waits for signatures.
        FleetError: As `Repository.publish` does.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._roots = repository.root_folder

    def keyids(self) -> dict[KeyRole, tuple[str, ...]]:
        """Return which keys count, by role."""
        root = self._repository.root()
        documents = tuple(key.keyid for key in self._repository.document_keys())
        return {role: documents if role is KeyRole.DOCUMENTS else tuple(root.roles[role].keyids) for role in KeyRole}

    def thresholds(self) -> dict[KeyRole, int]:
        """Return how many keys have to sign, by role."""
        root = self._repository.root()
        return {role: 1 if role is KeyRole.DOCUMENTS else root.roles[role].threshold for role in KeyRole}

    def rotate(self, role: KeyRole, now: datetime, *, replaced: str = "") -> bool:
        """Replace the keys of ``role``, or the one whose id is ``replaced``, by a new one; devices follow.

        The old key file stays, but nothing trusts it any more.
        """
        self._refuse_second()
        self._open_deciding_keys(role)
        key = self._repository.keys.create(role).public_key
        if role is not KeyRole.DOCUMENTS:
            return self._change_root(lambda root: with_key(root, role, key, replaced), now)
        kept = [known for known in self._repository.document_keys() if replaced and known.keyid != replaced]
        return self._change_document_keys([*kept, key], now)

    def add(self, role: KeyRole, key: Key, now: datetime, *, threshold: int = 0) -> bool:
        """Let ``key`` sign for ``role`` beside the others; ``threshold`` of them have to, 0 for as many as before."""
        if role is not KeyRole.DOCUMENTS:
            return self._change_root(lambda root: with_added_key(root, role, key, threshold), now)
        keys = self._repository.document_keys()
        if threshold > 1 or key in keys:
            raise UsageError(
                "each key for documents signs alone; a threshold is for the root"
                if threshold > 1
                else f"key {key.keyid[:16]} signs for documents already"
            )
        return self._change_document_keys([*keys, key], now)

    def revoke(self, role: KeyRole, keyid: str, now: datetime, *, threshold: int = 0) -> bool:
        """Let nothing count that the key ``keyid`` signs for ``role``."""
        if role is not KeyRole.DOCUMENTS:
            return self._change_root(lambda root: without_key(root, role, keyid, threshold), now)
        left = [key for key in self._repository.document_keys() if key.keyid != keyid]
        if not left:
            raise UsageError("it is the only key for documents; replace it: edgeferry keys rotate documents")
        return self._change_document_keys(left, now)

    def renew_root(self, now: datetime) -> bool:
        """Sign the root anew as it is, so that it lives longer."""
        return self._change_root(with_next_version, now)

    def adopt(self, data: bytes, where: str, now: datetime) -> bool:
        """Take in the signatures on a proposed root, and publish it when they are enough.

        Raises:
            ConflictError: Another root was published since it was proposed.
        """
        with self._repository.signing(now) as signing:
            proposed, waiting = parse_root(data, where), self.proposal()
            is_enough = self._adopt(signing, merged(waiting.metadata, proposed) if waiting else proposed)
        return self._settled(is_enough)

    def proposal(self) -> Proposal | None:
        """Return the root that waits for signatures; None for none, or for one that another has overtaken."""
        waiting, root = self._roots.proposal(), self._repository.root()
        if waiting is None or waiting.signed.version != root.version + 1:
            return None
        return Proposal(waiting, approval_of(waiting, root))

    def _open_deciding_keys(self, role: KeyRole) -> None:
        """Open the keys that say who signs for ``role``: a new key is made when it is clear that they can be."""
        decides = KeyRole.TARGETS if role is KeyRole.DOCUMENTS else KeyRole.ROOT
        self._repository.keys.signers(decides, self.keyids()[decides])

    def _change_root(self, change: RootChange, now: datetime) -> bool:
        with self._repository.signing(now) as signing:
            before = signing.root
            self._refuse_second()
            signing.root = signing.next_root(change(before))
            proposed = signing.root_signed_here(before)
            signing.root = before
            is_enough = self._adopt(signing, proposed)
        return self._settled(is_enough)

    def _settled(self, is_published: bool) -> bool:
        if is_published:
            self._roots.discard()
        return is_published

    def _change_document_keys(self, keys: Iterable[Key], now: datetime) -> bool:
        with self._repository.signing(now) as signing:
            signing.document_keys = tuple(keys)
            signing.forced = {KeyRole.TARGETS, KeyRole.DOCUMENTS}
        return True

    def _adopt(self, signing: Signing, proposed: Metadata[Root]) -> bool:
        """Let ``proposed`` count when it is signed by enough, else keep it until it is."""
        before = signing.root
        if proposed.signed == before:
            raise UsageError(
                f"root {before.version} has enough signatures and is published already; nothing is left to do"
            )
        if proposed.signed.version != before.version + 1:
            raise ConflictError(
                f"root {proposed.signed.version} was proposed, and {before.version} is published by now: somebody has"
                " changed keys; nothing of theirs is lost: `edgeferry keys discard`, then make your change anew"
            )
        if not approval_of(proposed, before).is_enough:
            self._roots.propose(proposed)
            return False
        signing.root, signing.finished_root = proposed.signed, proposed.to_bytes()
        signing.forced = changed_roles(before, proposed.signed)
        return True

    def _refuse_second(self) -> None:
        if self.proposal():
            raise UsageError(
                "another change of the root keys waits for signatures; bring it to its end with `edgeferry keys import`"
                ", or drop it with `edgeferry keys discard`"
            )
