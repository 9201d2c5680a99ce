"""Follows the fleet's signed metadata: from what arrives on ``tuf/#`` to wishes for the lifecycle.

`refresh` decides when to look, `trust` whether to believe, `fetching` gets what is missing; this is where they meet.
Looking happens in the lane ``trust``, everything else in the main loop.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from edgeferry.agent.errors import StoreError
from edgeferry.agent.events import Happened, LifecycleEvent, Target, Wished
from edgeferry.agent.fetching import Batch, Fetcher, problem_of
from edgeferry.agent.lanes import Lane
from edgeferry.agent.refresh import FetchBlobs, Look, Refresh
from edgeferry.agent.reporting import Standing
from edgeferry.agent.state import Installed
from edgeferry.agent.transfer import Want
from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.agent.trust.updater import MAX_ROOTS, MAX_TIMESTAMP_BYTES
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.desired import ROLE_MODEL, ROLE_SELFTEST, ArtifactManifest, DifferenceRef, ModelWish
from edgeferry.wire.messages import EventKind, Problem

__all__ = ["BATCH_OWNER", "Follower", "Looked", "Truster"]

logger = logging.getLogger(__name__)

BATCH_OWNER = "metadata"
MAX_ROOT_BYTES = 64 * 1024


class Truster(Protocol):
    """Looks at metadata and saves what it believes; may block. `TrustClient` with the store behind it."""

    def look(self, roots: dict[int, bytes], timestamp: bytes, *, final: bool) -> Resolved | Missing:
        """Return what the metadata says or what it lacks; raises `TrustError`."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of a look.

    Attributes:
        bad_root: The version and the bytes of a root that was refused.
    """

    result: Resolved | Missing | Problem
    bad_root: tuple[int, bytes] | None = None


class Follower:
    """Keeps what is wished up to date. Owned by the main loop.

    Args:
        make_truster: Makes the trust client from the first trusted root; called once.
        root: That root; empty when it has to come from the broker and have the hash ``root_sha256``.
        lane: Where looking happens.
        fetcher: Gets metadata blobs.
        emit: Takes lifecycle events.
    """

    def __init__(
        self,
        make_truster: Callable[[bytes], Truster],
        *,
        root: bytes,
        root_sha256: str,
        lane: Lane,
        fetcher: Fetcher,
        emit: Callable[[LifecycleEvent], None],
    ) -> None:
        self._make_truster = make_truster
        self._root_sha256 = root_sha256
        self._lane = lane
        self._fetcher = fetcher
        self._emit = emit
        self._refresh = Refresh()
        self._roots: dict[int, bytes] = {}
        self._truster: Truster | None = make_truster(root) if root else None
        self.standing = Standing()
        self.groups: tuple[str, ...] = ()
        self.documents: frozenset[str] = frozenset()
        self.differences: tuple[DifferenceRef, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether no refresh is under way."""
        return self._refresh.is_idle

    def begin(self, resolved: Resolved | None) -> None:
        """Begin with what was verified before the last stop."""
        if resolved:
            self.resolved(resolved)

    def take_root(self, version: int, data: bytes) -> None:
        """Note a root that has arrived."""
        if len(data) > MAX_ROOT_BYTES or version > self.standing.root_version + MAX_ROOTS:
            logger.warning("dropped root %d of %d bytes", version, len(data))
            return
        if (
            version not in self._roots and len(self._roots) >= MAX_ROOTS
        ):  # whoever invents roots must not lock out those that are due
            self._roots.pop(max(self._roots))
        self._roots[version] = data
        if self._truster is None and hashlib.sha256(data).hexdigest() == self._root_sha256:
            self._truster = self._make_truster(data)
        self._do(self._refresh.root_arrived())

    def take_timestamp(self, data: bytes, now_s: float) -> None:
        """Look at a timestamp that has arrived."""
        if len(data) > MAX_TIMESTAMP_BYTES:
            logger.warning("dropped a timestamp of %d bytes", len(data))
            return
        self._do(self._refresh.ring(data), now_s)

    def look_again(self) -> None:
        """Judge the newest timestamp again: time has passed."""
        self._do(self._refresh.look_again())

    def looked(self, looked: Looked, now_ms: int, now_s: float) -> None:
        """Go on after a look."""
        if looked.bad_root:
            version, data = looked.bad_root
            if self._roots.get(version) == data:  # and not another one that has come since
                del self._roots[version]
        match looked.result:
            case Missing(blobs=blobs, roots=roots):
                self._do(self._refresh.missing(blobs, roots, now_ms), now_s)
            case Problem() as problem:
                self._fetcher.cancel(BATCH_OWNER)
                self._refused(problem)
                self._do(self._refresh.refused())
            case Resolved() as resolved:
                self._fetcher.cancel(BATCH_OWNER)
                self.resolved(resolved)
                self._do(self._refresh.taken())

    def resolved(self, resolved: Resolved) -> None:
        """Take over what verified metadata says."""
        self.standing = replace(
            self.standing,
            generation=resolved.generation,
            root_version=resolved.root_version,
            metadata_expires_ms=resolved.expires_ms,
            metadata=resolved.metadata,
        )
        self.groups = resolved.groups
        self.documents = resolved.documents
        self.differences = resolved.differences
        self._emit(wished_by(resolved))

    def fetched(self) -> None:
        """Go on after the missing blobs have arrived."""
        self._do(self._refresh.fetched())

    def failed(self, problem: Problem) -> None:
        """Note that the missing blobs cannot be stored."""
        self._refused(problem)
        self._do(self._refresh.refused())

    def tick(self, now_ms: int) -> None:
        """Give up on roots that do not come."""
        self._do(self._refresh.tick(now_ms))

    def next_deadline_ms(self) -> int | None:
        """Return when `tick` is due."""
        return self._refresh.next_deadline_ms()

    def _refused(self, problem: Problem) -> None:
        if self.standing.metadata != problem:
            logger.warning("metadata refused: %s: %s", problem.reason, problem.detail)
            self._emit(Happened(EventKind.METADATA_REFUSED, problem))
        self.standing = replace(self.standing, metadata=problem)

    def _do(self, action: Look | FetchBlobs | None, now_s: float = 0.0) -> None:
        match action:
            case Look():
                self._submit(action)
            case FetchBlobs():
                wants = tuple(Want.of(blob, BLOCK_BYTES) for blob in action.blobs)
                self._fetcher.add(Batch(BATCH_OWNER, wants, urgent=True), now_s)
            case None:
                pass

    def _submit(self, look: Look) -> None:
        truster, roots = self._truster, dict(self._roots)

        def job() -> Looked:
            if truster is None:
                return Looked(Missing(blobs=(), roots=(1,)))
            try:
                return Looked(truster.look(roots, look.timestamp, final=look.final))
            except TrustError as err:
                return Looked(err.problem, (err.root, roots[err.root]) if err.root else None)
            except StoreError as err:  # what cannot be saved must not be acted on
                return Looked(problem_of(err))

        self._lane.submit(job)


def wished_by(resolved: Resolved) -> Wished:
    """Return what verified metadata wishes, bound to the blobs that fulfil it."""
    targets = {
        slot: Target(wish, installed_by(wish, resolved.manifests[slot])) for slot, wish in resolved.wishes.items()
    }
    return Wished(targets, dict(resolved.refusals))


def installed_by(wish: ModelWish, manifest: ArtifactManifest) -> Installed:
    """Return what ``manifest`` puts on the device for ``wish``."""
    return Installed(
        deployment=wish.deployment_id(),
        version=wish.version,
        scheme=manifest.scheme,
        manifest=wish.manifest,
        model=manifest.blob(ROLE_MODEL).ref(),
        selftest=manifest.blob(ROLE_SELFTEST).ref(),
        percent=wish.percent,
    )
