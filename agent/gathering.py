"""Gets the blobs of a deployment: its manifest, then what that names, by differences where they cost less.

    manifest ──► differences that the signed metadata offers ──► made from them ──► what is still missing ──► Fetched
                 from a blob that is here                        in the lane

Decides how each blob comes. A difference that nobody has, or that does not give what it promised, is tried once, and
what it did not give is fetched as blocks. Owned by the main loop.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from edgeferry.agent.errors import StoreError
from edgeferry.agent.events import Failed, Fetched, LifecycleEvent
from edgeferry.agent.fetching import Batch, Fetcher, problem_of
from edgeferry.agent.lanes import Lane
from edgeferry.agent.rebuilding import best_difference, rebuild
from edgeferry.agent.state import Installed
from edgeferry.agent.store import Store
from edgeferry.agent.transfer import Want
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import ArtifactManifest, DifferenceRef, decode_manifest
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["Gatherer", "Rebuilt"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What could be made from differences for a deployment has been made, or the disk has refused it."""

    deployment: str
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A deployment that waits for blobs.

    Attributes:
        differences: SHA-256 of those that it waits for, where it waits for differences.
    """

    target: Installed
    differences: frozenset[str]


class Gatherer:
    """Gets the blobs of deployments.

    Args:
        store: Blobs.
        fetcher: Pulls blobs from origins.
        lane: Where blobs are made from differences.
        offered: Returns the differences that the signed metadata offers.
        emit: Takes lifecycle events that are known at once.
        now_s: Monotonic time.
    """

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        lane: Lane,
        *,
        offered: Callable[[], tuple[DifferenceRef, ...]],
        emit: Callable[[LifecycleEvent], None],
        now_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._lane = lane
        self._offered = offered
        self._emit = emit
        self._now_s = now_s
        self._waiting: dict[str, _Waiting] = {}
        self._spent: dict[str, frozenset[str]] = {}  # differences that were tried, by the deployment that runs

    def gather(self, deployment: str, target: Installed) -> None:
        """Get the manifest when it is not here, else what it names; emit Fetched when nothing is missing."""
        try:
            wants = self._wants(target)
        except WireError as err:
            problem = Problem(code=Code.DATA_LOSS, reason=Reason.METADATA_MALFORMED, detail=str(err))
            self._emit(Failed(deployment, problem))
            return
        missing = tuple(want for want in wants if not self._store.is_complete(want))
        if missing:
            self._get(deployment, target, missing)
        else:
            self._emit(Fetched(deployment))

    def fetched(self, deployment: str) -> None:
        """Go on after a batch has arrived: the manifest alone, differences, or everything."""
        waiting = self._waiting.pop(deployment, None)
        if waiting:
            self.gather(deployment, waiting.target)

    def not_fetched(self, deployment: str, problem: Problem) -> None:
        """Go on without differences after a batch of them could not be completed; emit Failed after another one."""
        waiting = self._waiting.pop(deployment, None)
        if waiting and waiting.differences:
            logger.warning("%s goes on without differences: %s", deployment[:12], problem.detail)
            self._go_on_without(waiting.differences, deployment, waiting.target)
        else:
            self._emit(Failed(deployment, problem))

    def rebuilt(self, rebuilt: Rebuilt) -> None:
        """Go on after differences were used: what they did not give is fetched."""
        waiting = self._waiting.pop(rebuilt.deployment, None)
        if waiting and rebuilt.problem:
            self._emit(Failed(rebuilt.deployment, rebuilt.problem))
        elif waiting:
            self._go_on_without(waiting.differences, rebuilt.deployment, waiting.target)

    def cancel(self, deployment: str) -> None:
        """Stop getting anything for ``deployment``; what is here stays."""
        self._waiting.pop(deployment, None)
        self._fetcher.cancel(deployment)

    def unfinished(self, wanted: Collection[str]) -> set[str]:
        """Return the differences by which those blobs of ``wanted`` can be made that are not whole on the disk yet."""
        return {
            one.sha256 for one in self._offered() if one.made in wanted and self._store.size_of_blob(one.made) is None
        }

    def _wants(self, target: Installed) -> tuple[Want, ...]:
        manifest = self._manifest(target)
        if manifest is None:
            return (Want.of(target.manifest, BLOCK_BYTES),)
        blobs = [blob for blob in manifest.blobs if blob.sha256 in {target.model.sha256, target.selftest.sha256}]
        return tuple(Want(blob.ref(), blob.block_bytes, blob.digests()) for blob in blobs)

    def _manifest(self, target: Installed) -> ArtifactManifest | None:
        data = self._store.read_blob(target.manifest)
        return decode_manifest(data) if data is not None else None

    def _get(self, deployment: str, target: Installed, missing: tuple[Want, ...]) -> None:
        differences = self._differences(deployment, missing)
        names = frozenset(one.sha256 for one in differences.values())
        lacking = [one.ref() for one in differences.values() if not self._store.has_blob(one.ref())]
        self._waiting[deployment] = waiting = _Waiting(target, names)
        if lacking:
            wants = tuple(Want.of(blob, BLOCK_BYTES) for blob in lacking)
            self._fetcher.add(Batch(deployment, wants, optional=True), self._now_s())
        elif differences:
            self._lane.submit(partial(self._rebuild, deployment, waiting, differences))
        else:
            self._fetcher.add(Batch(deployment, missing), self._now_s())

    def _differences(self, deployment: str, missing: tuple[Want, ...]) -> dict[Want, DifferenceRef]:
        """Return by which difference each of ``missing`` is best made, where there is one that was not tried yet."""
        spent = self._spent.get(deployment, frozenset())
        offered = [one for one in self._offered() if one.sha256 not in spent]
        best = {want: best_difference(want, offered, self._is_here, self._store.left_bytes(want)) for want in missing}
        return {want: one for want, one in best.items() if one}

    def _is_here(self, sha256: str) -> bool:
        return self._store.size_of_blob(sha256) is not None

    def _go_on_without(self, differences: frozenset[str], deployment: str, target: Installed) -> None:
        self._spent = {deployment: self._spent.get(deployment, frozenset()) | differences}
        self.gather(deployment, target)

    def _rebuild(self, deployment: str, waiting: _Waiting, differences: Mapping[Want, DifferenceRef]) -> Rebuilt | None:
        """Make what can be made, in the lane; return None when it was cancelled."""

        def is_cancelled() -> bool:
            return self._waiting.get(deployment) is not waiting

        try:
            for want, difference in differences.items():
                rebuild(self._store, want, difference, is_cancelled)
        except StoreError as err:
            return Rebuilt(deployment, problem_of(err))
        return None if is_cancelled() else Rebuilt(deployment)
