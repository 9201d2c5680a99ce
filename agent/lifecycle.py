r"""The life of each model on a device: one pure function, ``step(state, event, now_ms) -> (state, effects)``.

Each slot, that is each label of each model, has its own deployment, so a bad model or canary never holds up a good one;
one deployment works at a time, others wait in name order, and a deployment that is only being watched holds up nobody.
Going back waits for nobody.

             wished                                                    watch over
    (idle) --------> FETCHING -> VERIFYING -> TRYING -> ACTIVATING -> WATCHING ---> (idle)
                        |            |           |          |            | fault
                        +-- failed --+-----------+----------+            v
                        |                                            ROLLING_BACK -> (idle)
                        +-- superseded by another wish

    phase         event that ends it     next           outcome         effect on entering
    FETCHING      Fetched                VERIFYING                      Fetch
    VERIFYING     Verified               TRYING                         Verify
    TRYING        TrialPassed            ACTIVATING                     Try
    ACTIVATING    Activated              WATCHING       active          Activate
    WATCHING      Tick after until_ms    (idle)                         -
    WATCHING      Faulted                ROLLING_BACK                   Restore, or Unload where nothing was before
    ROLLING_BACK  Restored               (idle)         rolled_back     -
    the first 4   Failed                 (idle)         failed          -
    the first 3   another wish           (idle)         superseded      Cancel
    (idle)        NotServed              FETCHING                       Fetch: what was active cannot be loaded again
    (idle)        wished, and loaded     ACTIVATING                     Activate: a label moves, nothing is loaded

Rules
1. The caller saves the state before it performs the effects: the save is the commit.
2. Every phase can be begun again: after a restart of the agent ``Booted``, after one of the serving process
   ``ServingStarted`` gives the effect of the phase once more.
3. TRYING and ACTIVATING end as failed when they were interrupted too often: the candidate may be the cause.
4. An event that names another deployment than the running one changes nothing.
5. What failed or was rolled back here is not tried again until its deployment id changes: another manifest, another
   version, or the operator's ``attempt``. Wished again as it is, it is reported again as it ended.
6. The old version is active until the new one has answered.
7. A slot whose version is about to serve in the stable slot is emptied after that, so that a promotion moves a label
   and loads nothing.
"""

from typing import assert_never

from msgspec.structs import replace

from edgeferry.agent.effects import Activate, Cancel, Collect, Effect, Fetch, Load, Restore, Try, Unload, Verify
from edgeferry.agent.events import (
    Activated,
    Booted,
    Failed,
    Faulted,
    Fetched,
    Happened,
    LifecycleEvent,
    Noted,
    NotServed,
    Restored,
    ServingStarted,
    Target,
    Tick,
    TrialPassed,
    Verified,
    Wished,
)
from edgeferry.agent.state import AgentState, Deployment, Installed, ModelRecord, Phase, label_of, model_of
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import Code, Event, EventKind, Outcome, Problem, Reason, Result

__all__ = ["is_wanted", "kept_blobs", "next_deadline_ms", "step"]

MAX_STARTS = 3  # of a phase that a crash of ours could be caused by
MAX_CRASHES = 3  # of the serving process while one model was being invoked
MAX_REFUSED = 16

_WORKING = {Phase.FETCHING, Phase.VERIFYING, Phase.TRYING, Phase.ACTIVATING, Phase.ROLLING_BACK}
_CANCELLABLE = {Phase.FETCHING, Phase.VERIFYING, Phase.TRYING}


def step(
    state: AgentState, event: LifecycleEvent, now_ms: int, *, watch_s: int = 30
) -> tuple[AgentState, tuple[Effect, ...]]:
    """Return the state after ``event`` and what is to be done once that state is saved.

    Args:
        state: What was saved last.
        event: What happened.
        now_ms: Unix time in milliseconds; only for reports and for the end of a watch.
        watch_s: How long a version is watched after it became active, in seconds.
    """
    change = _Change(state, now_ms, watch_s)
    change.apply(event)
    change.begin_next()
    return change.state, tuple(change.effects)


def next_deadline_ms(state: AgentState) -> int | None:
    """Return when a Tick is due next, or None."""
    watches = [d.until_ms for _, d in _deployments(state) if d.phase is Phase.WATCHING]
    return min(watches, default=None)


def is_wanted(state: AgentState, effect: Activate | Restore | Load) -> bool:
    """Tell whether ``effect``, which could not be done before, is still to be done."""
    record = state.models.get(effect.slot)
    if record is None:
        return False
    if isinstance(effect, Load):
        return record.active == effect.target and not record.quarantined and not _is_rolling_back(record)
    deployment = record.deployment
    phase = Phase.ACTIVATING if isinstance(effect, Activate) else Phase.ROLLING_BACK
    return deployment is not None and deployment.phase is phase and deployment.target.deployment == effect.deployment


def kept_blobs(state: AgentState) -> set[str]:
    """Return the SHA-256 of every blob that an active, previous, wished or running version needs."""
    kept: set[str] = set()
    for record in state.models.values():
        running = record.deployment.target if record.deployment else None
        for installed in (record.active, record.previous, record.target, running):
            if installed:
                kept.update(blob.sha256 for blob in installed.blobs())
    return kept


def _deployments(state: AgentState) -> list[tuple[str, Deployment]]:
    return [(name, record.deployment) for name, record in state.models.items() if record.deployment]


def _effect_of(slot: str, record: ModelRecord, deployment: Deployment) -> Effect | None:
    identity = deployment.target.deployment
    match deployment.phase:
        case Phase.FETCHING:
            return Fetch(identity, deployment.target)
        case Phase.VERIFYING:
            return Verify(identity, deployment.target)
        case Phase.TRYING:
            return Try(identity, slot, deployment.target)
        case Phase.ACTIVATING:
            return Activate(identity, slot, deployment.target)
        case Phase.ROLLING_BACK:
            return Restore(identity, slot, record.previous)
        case Phase.WATCHING:
            return None
        case _ as never:
            assert_never(never)


class _Change:
    """One step under way: the state so far and the effects so far."""

    def __init__(self, state: AgentState, now_ms: int, watch_s: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self.watch_s = watch_s
        self.effects: list[Effect] = []

    def apply(self, event: LifecycleEvent) -> None:  # noqa: C901, PLR0912 - the table of events
        match event:
            case Booted():
                self._boot()
            case Wished():
                self._wish(event)
            case Fetched():
                self._advance(event.deployment, Phase.FETCHING, Phase.VERIFYING)
            case Verified():
                self._advance(event.deployment, Phase.VERIFYING, Phase.TRYING)
            case TrialPassed():
                self._advance(event.deployment, Phase.TRYING, Phase.ACTIVATING)
            case Activated():
                self._activated(event)
            case Restored():
                self._restored(event)
            case Failed():
                self._failed(event.deployment, event.problem)
            case Faulted():
                self._faulted(event)
            case NotServed():
                self._not_served(event)
            case ServingStarted():
                self._serving_started()
            case Tick():
                self._end_watches()
            case Happened():
                self._note(event.kind, problem=event.problem)
            case Noted():
                kept = tuple(e for e in self.state.outbox if e.seq > event.seq)
                self.state = replace(self.state, outbox=kept)
            case _ as never:
                assert_never(never)

    def begin_next(self) -> None:
        """Begin the first deployment that is due, unless one is working."""
        if any(d.phase in _WORKING for _, d in _deployments(self.state)):
            return
        for slot, record in self.state.models.items():
            if record.wish and record.target and _is_due(record, record.target):
                phase = Phase.ACTIVATING if self._serves_already(slot, record.target) else Phase.FETCHING
                self._enter(slot, record, Deployment(record.wish, record.target, phase))
                return

    # A restart

    def _boot(self) -> None:
        for slot, deployment in _deployments(self.state):
            if deployment.phase in _CANCELLABLE:
                self._begin_again(slot, deployment)
        self.effects.append(Collect())

    def _serving_started(self) -> None:
        for slot, record in self.state.models.items():
            if record.active and not record.quarantined and not _is_rolling_back(record):
                self.effects.append(Load(slot, record.active))
        for slot, deployment in _deployments(self.state):
            if deployment.phase in {Phase.ACTIVATING, Phase.ROLLING_BACK}:
                self._begin_again(slot, deployment)

    def _begin_again(self, slot: str, deployment: Deployment) -> None:
        record = self.state.models[slot]
        if deployment.starts >= MAX_STARTS and deployment.phase in {Phase.TRYING, Phase.ACTIVATING}:
            detail = f"{deployment.phase} was interrupted {deployment.starts} times"
            problem = Problem(code=Code.ABORTED, reason=Reason.INTERRUPTED_TOO_OFTEN, detail=detail)
            self._end_failed(slot, record, deployment, problem)
        else:
            self._enter(slot, record, replace(deployment, starts=deployment.starts + 1))

    # Wishes

    def _wish(self, event: Wished) -> None:
        for slot in sorted({*self.state.models, *event.targets, *event.refusals}):
            record = self.state.models.get(slot, ModelRecord())
            if slot in event.targets:
                self._wish_target(slot, record, event.targets[slot])
            elif slot in event.refusals:
                self._refuse_wish(slot, record, *event.refusals[slot])
            else:
                self._forget(slot, record)

    def _wish_target(self, slot: str, record: ModelRecord, target: Target) -> None:
        wished = replace(record, wanted=target.wish.version, wish=target.wish, target=target.installed)
        self._set(slot, wished)
        self._supersede(slot, target.installed.deployment)
        if record.wish != target.wish:
            self._report_refused(slot, target.installed)

    def _report_refused(self, slot: str, target: Installed) -> None:
        record = self.state.models[slot]
        ended = next((result for result in record.refused if result.deployment == target.deployment), None)
        if ended and not _is_active(record, target):
            self._conclude(slot, record, replace(ended, ended_ms=self.now_ms))

    def _refuse_wish(self, slot: str, record: ModelRecord, version: int, problem: Problem) -> None:
        is_known = record.last is not None and (record.last.version, record.last.problem) == (version, problem)
        self._set(slot, replace(record, wanted=version, wish=None, target=None))
        self._supersede(slot, "")
        if not is_known:
            self._conclude(slot, self.state.models[slot], _result("", version, Outcome.FAILED, self.now_ms, problem))

    def _forget(self, slot: str, record: ModelRecord) -> None:
        self._set(slot, replace(record, wanted=0, wish=None, target=None))
        self._supersede(slot, "")
        self._settle(slot)

    def _supersede(self, slot: str, wished: str) -> None:
        """End a deployment that can still be stopped and is no longer wished."""
        record = self.state.models[slot]
        deployment = record.deployment
        if deployment and deployment.phase in _CANCELLABLE and deployment.target.deployment != wished:
            identity, version = deployment.target.deployment, deployment.target.version
            self.effects.append(Cancel(identity))
            result = _result(identity, version, Outcome.SUPERSEDED, self.now_ms)
            self._conclude(slot, replace(record, deployment=None), result)

    # Phases

    def _advance(self, identity: str, phase: Phase, following: Phase) -> None:
        slot, record, deployment = self._running(identity, phase)
        if deployment:
            self._enter(slot, record, replace(deployment, phase=following, starts=1))

    def _activated(self, event: Activated) -> None:
        slot, record, deployment = self._running(event.deployment, Phase.ACTIVATING)
        if not deployment:
            return
        target = deployment.target
        previous = record.active if record.active and record.active.version != target.version else record.previous
        watching = replace(deployment, phase=Phase.WATCHING, starts=1, until_ms=self.now_ms + 1000 * self.watch_s)
        self._enter(slot, replace(record, active=target, previous=previous, crashes=0, quarantined=False), watching)
        result = _result(event.deployment, target.version, Outcome.ACTIVE, self.now_ms)
        self._conclude(slot, self.state.models[slot], replace(result, swap=event.swap, gap_ms=event.gap_ms))
        self._settle(slot)

    def _restored(self, event: Restored) -> None:
        slot, record, deployment = self._running(event.deployment, Phase.ROLLING_BACK)
        if not deployment or not deployment.result:
            return
        active = None if event.is_lost else record.previous
        restored = replace(record, active=active, previous=None, deployment=None, crashes=0, quarantined=False)
        result = replace(deployment.result, ended_ms=self.now_ms)
        self._conclude(slot, _with_refused(restored, result), result)
        self._settle(slot)

    def _failed(self, identity: str, problem: Problem) -> None:
        for slot, deployment in _deployments(self.state):
            if deployment.target.deployment == identity and deployment.phase in _WORKING - {Phase.ROLLING_BACK}:
                self._end_failed(slot, self.state.models[slot], deployment, problem)
                return

    def _end_failed(self, slot: str, record: ModelRecord, deployment: Deployment, problem: Problem) -> None:
        target = deployment.target
        result = _result(target.deployment, target.version, Outcome.FAILED, self.now_ms, problem)
        self._conclude(slot, _with_refused(replace(record, deployment=None), result), result)
        if deployment.phase is Phase.ACTIVATING and record.active:
            self.effects.append(Load(slot, record.active))
        self._settle(slot)

    # Faults and watches

    def _faulted(self, event: Faulted) -> None:
        slot = event.slot or self._suspected(event)
        record = self.state.models.get(slot)
        deployment = record.deployment if record else None
        if record and deployment and event.proven and _is_activating(deployment, event.version):
            self._end_failed(slot, record, deployment, event.problem)
            return
        if not record or not record.active or record.quarantined or _is_rolling_back(record):
            return
        if event.version not in {0, record.active.version}:
            return  # the candidate that is being loaded, or the version before, which goes
        record = replace(record, crashes=record.crashes + 1)
        self._set(slot, record)
        if not event.proven and record.crashes < MAX_CRASHES:
            return
        if record.deployment and record.deployment.phase is Phase.WATCHING:
            self._roll_back(slot, record, record.deployment, event.problem)
        elif record.crashes >= MAX_CRASHES:
            self._quarantine(slot, record, event.problem)

    def _suspected(self, event: Faulted) -> str:
        """Return the slot of the version that is suspected: the one that is being activated before the active one."""
        slots = self.state.slots(event.model) if event.version else {}
        activating = [s for s, r in slots.items() if r.deployment and _is_activating(r.deployment, event.version)]
        active = [s for s, r in slots.items() if r.active and r.active.version == event.version]
        return next(iter([*activating, *active]), event.model)

    def _not_served(self, event: NotServed) -> None:
        """Deploy the active version anew, from its blobs on."""
        record = self.state.models.get(event.slot)
        if record and record.active and record.active.deployment == event.deployment:
            self._set(event.slot, replace(record, active=None))
            self._note(
                EventKind.SERVING_CRASHED, event.slot, record.active.version, event.deployment, problem=event.problem
            )

    def _roll_back(self, slot: str, record: ModelRecord, deployment: Deployment, problem: Problem) -> None:
        target = deployment.target
        result = _result(target.deployment, target.version, Outcome.ROLLED_BACK, self.now_ms, problem)
        self._enter(slot, record, replace(deployment, phase=Phase.ROLLING_BACK, starts=1, result=result))

    def _quarantine(self, slot: str, record: ModelRecord, problem: Problem) -> None:
        self._set(slot, replace(record, quarantined=True))
        version = record.active.version if record.active else 0
        self._note(EventKind.QUARANTINED, slot, version, problem=problem)
        self.effects.append(Unload(slot))

    def _end_watches(self) -> None:
        for slot, deployment in _deployments(self.state):
            # A clock that was set back must not make a watch last for months.
            left_ms = deployment.until_ms - self.now_ms
            if deployment.phase is Phase.WATCHING and not 0 < left_ms <= 1000 * self.watch_s:
                self._set(slot, replace(self.state.models[slot], deployment=None))

    # Parts of the above

    def _running(self, identity: str, phase: Phase) -> tuple[str, ModelRecord, Deployment | None]:
        for slot, deployment in _deployments(self.state):
            if deployment.target.deployment == identity and deployment.phase is phase:
                return slot, self.state.models[slot], deployment
        return "", ModelRecord(), None

    def _enter(self, slot: str, record: ModelRecord, deployment: Deployment) -> None:
        self._set(slot, replace(record, deployment=deployment))
        effect = _effect_of(slot, record, deployment)
        if effect:
            self.effects.append(effect)

    def _conclude(self, slot: str, record: ModelRecord, result: Result) -> None:
        self._set(slot, replace(record, last=result))
        self._note(EventKind.DEPLOYMENT, slot, result.version, result.deployment, result=result, problem=result.problem)
        self.effects.append(Collect())

    def _settle(self, slot: str) -> None:
        """Empty a slot that is no longer wished once its deployment has ended, and those that waited for that."""
        waiting = self.state.slots(slot) if label_of(slot) == STABLE else {}
        for each in (slot, *(other for other in waiting if other != slot)):
            record = self.state.models[each]
            if not record.wanted and not self._is_handed_over(each, record):
                self._empty(each, record)

    def _empty(self, slot: str, record: ModelRecord) -> None:
        if not (record.deployment and record.deployment.phase in _WORKING):
            self.state = self.state.with_model(slot, None)
            self.effects += [Unload(slot), Collect()]

    def _is_handed_over(self, slot: str, record: ModelRecord) -> bool:
        """Tell whether what serves in ``slot`` is about to serve in the stable one."""
        stable = self.state.models.get(model_of(slot))
        if label_of(slot) == STABLE or not (stable and stable.target and record.active):
            return False
        return _is_same_artifact(stable.target, record.active) and _is_due(stable, stable.target)

    def _serves_already(self, slot: str, target: Installed) -> bool:
        """Tell whether the artifact of ``target`` is loaded for some label of the model."""
        records = self.state.slots(model_of(slot)).values()
        served = [record.active for record in records if not (record.quarantined or _is_rolling_back(record))]
        return any(active is not None and _is_same_artifact(active, target) for active in served)

    def _set(self, slot: str, record: ModelRecord) -> None:
        self.state = self.state.with_model(slot, record)

    def _note(
        self,
        kind: EventKind,
        slot: str = "",
        version: int = 0,
        deployment: str = "",
        *,
        result: Result | None = None,
        problem: Problem | None = None,
    ) -> None:
        label = label_of(slot)
        event = Event(
            v=1,
            seq=self.state.next_seq,
            ts=self.now_ms,
            kind=kind,
            model=model_of(slot),
            version=version,
            deployment=deployment,
            outcome=result.outcome if result else None,
            code=problem.code if problem else Code.OK,
            reason=problem.reason if problem else None,
            detail=problem.detail if problem else "",
            label=label if label != STABLE else "",
            swap=result.swap if result else None,
            gap_ms=result.gap_ms if result else 0,
        )
        self.state = replace(self.state, next_seq=event.seq + 1, outbox=(*self.state.outbox, event))


def _is_due(record: ModelRecord, target: Installed) -> bool:
    is_refused = any(result.deployment == target.deployment for result in record.refused)
    return not is_refused and not _is_active(record, target)


def _is_active(record: ModelRecord, target: Installed) -> bool:
    return record.active is not None and record.active.deployment == target.deployment


def _is_same_artifact(one: Installed, other: Installed) -> bool:
    return one.blobs() == other.blobs()


def _is_activating(deployment: Deployment, version: int) -> bool:
    return deployment.phase is Phase.ACTIVATING and version in {0, deployment.target.version}


def _is_rolling_back(record: ModelRecord) -> bool:
    return record.deployment is not None and record.deployment.phase is Phase.ROLLING_BACK


def _with_refused(record: ModelRecord, result: Result) -> ModelRecord:
    others = tuple(other for other in record.refused if other.deployment != result.deployment)
    return replace(record, refused=(*others, result)[-MAX_REFUSED:])


def _result(identity: str, version: int, outcome: Outcome, ended_ms: int, problem: Problem | None = None) -> Result:
    return Result(deployment=identity, version=version, outcome=outcome, ended_ms=ended_ms, problem=problem)
