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
    LifecycleEvent,
    NotServed,
    Restored,
    TrialPassed,
    Verified,
)
from edgeferry.agent.fetching import problem_of
from edgeferry.agent.gathering import Gatherer
from edgeferry.agent.lanes import Lane
from edgeferry.agent.serving_client import Serve, Takeover
from edgeferry.agent.state import Installed, label_of, model_of
from edgeferry.agent.store import Store
from edgeferry.wire.messages import Problem

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

    def load(self, wanted: Serve) -> Takeover:
        """Have a version served; raises `ServingLostError` or `LoadRefusedError`."""

    def unload(self, model: str, label: str) -> None:
        """Have a label name nothing; raises `ServingLostError`."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The worker threads."""

    deploy: Lane
    serving: Lane


class Performer:
    """Executes effects.

    Args:
        store: Blobs.
        gatherer: Gets what is missing.
        hands: The processes that run models.
        lanes: The worker threads.
        emit: Takes lifecycle events that are known at once.
        collect: Removes what nothing refers to.
    """

    def __init__(
        self,
        store: Store,
        gatherer: Gatherer,
        hands: Hands,
        lanes: Lanes,
        *,
        emit: Callable[[LifecycleEvent], None],
        collect: Callable[[], None],
    ) -> None:
        self._store = store
        self._gatherer = gatherer
        self._hands = hands
        self._lanes = lanes
        self._emit = emit
        self._collect = collect
        self._checking: Verify | Try | None = None  # what the lane `deploy` shall answer
        self._read_again: set[str] = set()  # models whose blobs were read since the start; the lane `serving` alone
        self.is_serving = False

    def perform(self, effect: Effect) -> None:  # noqa: C901 - the table of effects
        """Do ``effect`` or have it done."""
        match effect:
            case Fetch():
                self._gatherer.gather(effect.deployment, effect.target)
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

    # In the main loop

    def _cancel(self, deployment: str) -> None:
        self._checking = None
        self._gatherer.cancel(deployment)
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
            takeover = self._load(effect.slot, effect.target)
        except ServingLostError as err:
            logger.warning("%s: lost the serving process while loading: %s", effect.deployment[:12], err)
            return Again(effect)
        except LoadRefusedError as err:
            return Failed(effect.deployment, err.problem)
        return Activated(effect.deployment, takeover.swap, takeover.gap_ms)

    def _restore(self, effect: Restore) -> LifecycleEvent | Again:
        try:
            if effect.target is None:
                self._hands.unload(model_of(effect.slot), label_of(effect.slot))
                return Restored(effect.deployment)
            return self._restore_to(effect, effect.target)
        except ServingLostError as err:
            logger.warning("%s: lost the serving process while rolling back: %s", effect.deployment[:12], err)
            return Again(effect)

    def _restore_to(self, effect: Restore, target: Installed) -> LifecycleEvent:
        try:
            self._load(effect.slot, target)
        except LoadRefusedError as err:
            logger.error("cannot go back to %s %d: %s", effect.slot, target.version, err)  # noqa: TRY400 - foreseen
            self._hands.unload(model_of(effect.slot), label_of(effect.slot))
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
            self._load(effect.slot, target)
        except ServingLostError as err:
            logger.warning("%s %d: lost the serving process while loading: %s", effect.slot, target.version, err)
            return Again(effect)
        except LoadRefusedError as err:
            return NotServed(effect.slot, target.deployment, err.problem)
        except StoreError as err:
            return NotServed(effect.slot, target.deployment, problem_of(err))
        return None

    def _unload(self, effect: Unload) -> None:
        try:
            self._hands.unload(model_of(effect.slot), label_of(effect.slot))
        except ServingLostError as err:
            logger.warning("cannot unload %s: %s; it is gone with the process", effect.slot, err)

    def _load(self, slot: str, target: Installed) -> Takeover:
        path, manifest, _ = self._paths(target)
        wanted = Serve(model_of(slot), target.version, path, manifest, label_of(slot), target.percent)
        return self._hands.load(wanted)

    def _paths(self, target: Installed) -> tuple[Path, Path, Path]:
        blobs = (target.model, target.manifest, target.selftest)
        model, manifest, selftest = (self._store.blob_path(blob.sha256) for blob in blobs)
        return model, manifest, selftest
