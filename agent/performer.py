"""Does what the lifecycle wants done: one executor for each effect. Owned by the main loop.

What may block goes to a lane: ``deploy`` reads and tries candidates, ``serving`` talks to the serving process, in
order, so that an old version can never be loaded after a newer one. Answers come back as lifecycle events.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, assert_never

from edgeferry.agent.effects import Activate, Cancel, Collect, Effect, Fetch, Load, Restore, Try, Unload, Verify
from edgeferry.agent.errors import StoreError
from edgeferry.agent.events import (
    Activated,
    Failed,
    Fetched,
    LifecycleEvent,
    NotServed,
    Restored,
    TrialPassed,
    Verified,
)
from edgeferry.agent.fetching import Batch, Fetcher, problem_of
from edgeferry.agent.lanes import Lane
from edgeferry.agent.state import Installed
from edgeferry.agent.store import Store
from edgeferry.agent.transfer import Want
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import STABLE, ArtifactManifest, decode_manifest
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["Again", "Hands", "LoadRefusedError", "Performer", "ServingLostError"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Again:
    """An effect that found nobody to do it; it is to be done again in a while, if it is wanted then."""

    effect: Activate | Restore | Load


class ServingLostError(Exception):
    """The serving process is gone, does not answer or is busy; that says nothing of the model."""


class LoadRefusedError(Exception):
    """The serving process will not serve this artifact.

    Attributes:
        problem: Why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Hands(Protocol):
    """The processes that run models, as the performer needs them; every call may block."""

    def try_model(self, model: Path, manifest: Path, selftest: Path) -> Problem | None:
        """Return why the candidate must not serve, or None when it passed its self-test."""

    def cancel_trial(self) -> None:
        """End a running trial; from any thread."""

    def load(self, name: str, version: int, model: Path, manifest: Path, label: str) -> None:
        """Have a version served; raises `ServingLostError` or `LoadRefusedError`."""

    def unload(self, name: str) -> None:
        """Have a model forgotten; raises `ServingLostError`."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The worker threads."""

    deploy: Lane
    serving: Lane


class Performer:
    """Executes effects.

    Args:
        store: Blobs.
        fetcher: Pulls what is missing.
        hands: The processes that run models.
        lanes: The worker threads.
        emit: Takes lifecycle events that are known at once.
        collect: Removes what nothing refers to.
        now_s: Monotonic time.
    """

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        hands: Hands,
        lanes: Lanes,
        *,
        emit: Callable[[LifecycleEvent], None],
        collect: Callable[[], None],
        now_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._hands = hands
        self._lanes = lanes
        self._emit = emit
        self._collect = collect
        self._now_s = now_s
        self._fetching: dict[str, Installed] = {}
        self._checking: Verify | Try | None = None  # what the lane `deploy` shall answer
        self._read_again: set[str] = set()  # models whose blobs were read since the start; the lane `serving` alone
        self.is_serving = False

    def perform(self, effect: Effect) -> None:  # noqa: C901 - the table of effects
        """Do ``effect`` or have it done."""
        match effect:
            case Fetch():
                self._fetch(effect.deployment, effect.target)
            case Verify() | Try():
                self._checking = effect
                self._lanes.deploy.submit(partial(self._check, effect))
            case Activate():
                if self.is_serving:  # else ServingStarted brings it again
                    self._lanes.serving.submit(partial(self._activate, effect))
            case Restore():
                if self.is_serving:
                    self._lanes.serving.submit(partial(self._restore, effect))
            case Load():
                self._lanes.serving.submit(partial(self._load_again, effect))
            case Unload():
                if self.is_serving:
                    self._lanes.serving.submit(partial(self._unload, effect))
            case Cancel():
                self._cancel(effect.deployment)
            case Collect():
                self._collect()
            case _ as never:
                assert_never(never)

    def fetched(self, deployment: str) -> None:
        """Note that a batch of a deployment has arrived: the manifest alone, or everything."""
        target = self._fetching.pop(deployment, None)
        if target:
            self._fetch(deployment, target)

    # In the main loop

    def _fetch(self, deployment: str, target: Installed) -> None:
        """Pull the manifest when it is not here, else what it names; emit Fetched when nothing is left to pull."""
        try:
            wants = self._wants(target)
        except WireError as err:
            problem = Problem(code=Code.DATA_LOSS, reason=Reason.METADATA_MALFORMED, detail=str(err))
            self._emit(Failed(deployment, problem))
            return
        missing = tuple(want for want in wants if not self._store.is_complete(want))
        if not missing:
            self._emit(Fetched(deployment))
            return
        self._fetching[deployment] = target
        self._fetcher.add(Batch(deployment, missing), self._now_s())

    def _wants(self, target: Installed) -> tuple[Want, ...]:
        manifest = self._manifest(target)
        if manifest is None:
            return (Want.of(target.manifest, BLOCK_BYTES),)
        blobs = [blob for blob in manifest.blobs if blob.sha256 in {target.model.sha256, target.selftest.sha256}]
        return tuple(Want(blob.ref(), blob.block_bytes, blob.digests()) for blob in blobs)

    def _manifest(self, target: Installed) -> ArtifactManifest | None:
        data = self._store.read_blob(target.manifest)
        return decode_manifest(data) if data is not None else None

    def _cancel(self, deployment: str) -> None:
        self._checking = None
        self._fetching.pop(deployment, None)
        self._fetcher.cancel(deployment)
        self._hands.cancel_trial()

    # In the lane `deploy`

    def _check(self, effect: Verify | Try) -> LifecycleEvent | None:
        """Return the answer, or None when it was cancelled: the same deployment may be wished again by then."""
        if self._checking is not effect:
            return None
        answer = self._verify(effect) if isinstance(effect, Verify) else self._try(effect)
        return answer if self._checking is effect else None

    def _verify(self, effect: Verify) -> LifecycleEvent:
        try:
            for blob in effect.target.blobs():
                self._store.check_blob(blob)
        except StoreError as err:
            return Failed(effect.deployment, problem_of(err))
        return Verified(effect.deployment)

    def _try(self, effect: Try) -> LifecycleEvent:
        model, manifest, selftest = self._paths(effect.target)
        problem = self._hands.try_model(model, manifest, selftest)
        return Failed(effect.deployment, problem) if problem else TrialPassed(effect.deployment)

    # In the lane `serving`

    def _activate(self, effect: Activate) -> LifecycleEvent | Again:
        try:
            self._load(effect.model, effect.target)
        except ServingLostError as err:
            logger.warning("%s: lost the serving process while loading: %s", effect.deployment[:12], err)
            return Again(effect)
        except LoadRefusedError as err:
            return Failed(effect.deployment, err.problem)
        return Activated(effect.deployment)

    def _restore(self, effect: Restore) -> LifecycleEvent | Again:
        try:
            if effect.target is None:
                self._hands.unload(effect.model)
                return Restored(effect.deployment)
            return self._restore_to(effect, effect.target)
        except ServingLostError as err:
            logger.warning("%s: lost the serving process while rolling back: %s", effect.deployment[:12], err)
            return Again(effect)

    def _restore_to(self, effect: Restore, target: Installed) -> LifecycleEvent:
        try:
            self._load(effect.model, target)
        except LoadRefusedError as err:
            logger.error("cannot go back to %s %d: %s", effect.model, target.version, err)  # noqa: TRY400 - foreseen
            self._hands.unload(effect.model)
            return Restored(effect.deployment, is_lost=True)
        return Restored(effect.deployment)

    def _load_again(self, effect: Load) -> LifecycleEvent | Again | None:
        """Load what was active before a start; its blobs are read again once in the life of this process."""
        target = effect.target
        try:
            if target.model.sha256 not in self._read_again:
                for blob in target.blobs():
                    self._store.check_blob(blob)
                self._read_again.add(target.model.sha256)
            self._load(effect.model, target)
        except ServingLostError as err:
            logger.warning("%s %d: lost the serving process while loading: %s", effect.model, target.version, err)
            return Again(effect)
        except LoadRefusedError as err:
            return NotServed(effect.model, target.deployment, err.problem)
        except StoreError as err:
            return NotServed(effect.model, target.deployment, problem_of(err))
        return None

    def _unload(self, effect: Unload) -> None:
        try:
            self._hands.unload(effect.model)
        except ServingLostError as err:
            logger.warning("cannot unload %s: %s; it is gone with the process", effect.model, err)

    def _load(self, name: str, target: Installed) -> None:
        model, manifest, _ = self._paths(target)
        self._hands.load(name, target.version, model, manifest, STABLE)

    def _paths(self, target: Installed) -> tuple[Path, Path, Path]:
        blobs = (target.model, target.manifest, target.selftest)
        model, manifest, selftest = (self._store.blob_path(blob.sha256) for blob in blobs)
        return model, manifest, selftest
