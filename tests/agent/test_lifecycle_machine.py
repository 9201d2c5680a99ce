"""The lifecycle under everything that can happen, in any order, as Hypothesis finds it.

One rule for each thing that can happen to a device: wishes, answers, failures, answers that come twice or too late,
kills, new serving processes, faults, time. After each of them the invariants hold, and when failures stop, everything
converges.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeferry.agent.effects import Activate, Fetch, Restore, Try, Verify
from edgeferry.agent.events import (
    Activated,
    Failed,
    Fetched,
    Happened,
    LifecycleEvent,
    Noted,
    Restored,
    Tick,
    TrialPassed,
    Verified,
)
from edgeferry.agent.lifecycle import kept_blobs
from edgeferry.agent.state import Deployment, ModelRecord, Phase, decode_state, encode_state
from edgeferry.wire.messages import Event, EventKind, Outcome, Reason

from .lifecycle_device import WATCH_S, Device, problem, target

SLOTS = ("cats", "cats/canary", "dogs", "eels")
FORWARD = {Phase.FETCHING, Phase.VERIFYING, Phase.TRYING, Phase.ACTIVATING}
WORKING = FORWARD | {Phase.ROLLING_BACK}

ANSWERS = {
    Fetch: Fetched | Failed,
    Verify: Verified | Failed,
    Try: TrialPassed | Failed,
    Activate: Activated | Failed,
    Restore: Restored,
}

names = st.sampled_from(SLOTS)
wishes = st.dictionaries(names, st.tuples(st.integers(1, 3), st.integers(0, 1)))
refusals = st.dictionaries(names, st.integers(1, 3), max_size=1)


class Lifecycle(RuleBasedStateMachine):
    """A device to which anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.device.boot()
        self.numbered: dict[int, Event] = {}

    # What happens

    @rule(wishes=wishes, refusals=refusals)
    def wish(self, wishes: dict[str, tuple[int, int]], refusals: dict[str, int]) -> None:
        targets = [target(version, model, attempt) for model, (version, attempt) in wishes.items()]
        why = problem(Reason.NO_ARTIFACT_FOR_PROFILE)
        refused = {model: (version, why) for model, version in refusals.items() if model not in wishes}
        self.device.wish(*targets, refusals=refused)

    @precondition(lambda self: self.device.pending)
    @rule(count=st.integers(1, 6))
    def succeed(self, count: int) -> None:
        for _ in range(min(count, len(self.device.pending))):
            if self.device.pending:
                self.device.answer()

    @precondition(lambda self: self.device.pending)
    @rule()
    def fail(self) -> None:
        effect = self.device.pending[0]
        if not isinstance(effect, Restore):  # it is tried for ever
            self.device.failures[type(effect)] = problem()
            self.device.answer()
            self.device.failures.clear()

    @precondition(lambda self: self.device.pending and isinstance(self.device.pending[0], Restore))
    @rule()
    def lose_the_version_before(self) -> None:
        effect = self.device.pending.pop(0)
        assert isinstance(effect, Restore)
        self.device.serving.pop(effect.slot, None)
        self.device.tell(Restored(effect.deployment, is_lost=True))

    @precondition(lambda self: self.device.answers)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.device.answers))
        if not self._is_awaited(event):
            self.device.tell(event)

    @rule()
    def kill(self) -> None:
        self.device.kill()
        self.device.boot()

    @rule()
    def restart_serving(self) -> None:
        self.device.restart_serving()

    @rule(model=names, proven=st.booleans())
    def crash_serving(self, model: str, *, proven: bool) -> None:
        self.device.crash_serving(model, proven=proven)

    @precondition(lambda self: self._watched())
    @rule(data=st.data())
    def fail_requests(self, data: st.DataObject) -> None:
        self.device.fault(proven=True, slot=data.draw(st.sampled_from(self._watched())))

    @rule(seconds=st.integers(-2 * WATCH_S, 2 * WATCH_S))
    def let_time_pass(self, seconds: int) -> None:
        self.device.now_ms += 1000 * seconds
        self.device.tell(Tick())

    @rule()
    def spool(self) -> None:
        self.device.tell(Noted(self.device.state.next_seq - 1))

    @rule()
    def happen(self) -> None:
        self.device.tell(Happened(EventKind.METADATA_REFUSED, problem(Reason.METADATA_EXPIRED)))

    # What always holds

    @invariant()
    def at_most_one_deployment_goes_forward(self) -> None:
        assert sum(d.phase in FORWARD for d in self._deployments()) <= 1

    @invariant()
    def no_two_deployments_have_the_same_id(self) -> None:
        identities = [d.target.deployment for d in self._deployments()]
        assert len(identities) == len(set(identities))

    @invariant()
    def what_works_awaits_exactly_one_answer(self) -> None:
        working = [d.target.deployment for d in self._deployments() if d.phase in WORKING]
        awaited = {getattr(effect, "deployment", "") for effect in self.device.pending}
        assert awaited == set(working)

    @invariant()
    def what_serves_is_what_is_active(self) -> None:
        for model, record in self.device.state.models.items():
            if not (record.deployment and record.deployment.phase is Phase.ROLLING_BACK):
                expected = record.active.version if record.active and not record.quarantined else None
                assert self.device.serving.get(model) == expected, model
        assert set(self.device.serving) <= set(self.device.state.models)

    @invariant()
    def no_number_is_used_for_two_events(self) -> None:
        for event in self.device.state.outbox:
            assert self.numbered.setdefault(event.seq, event) == event
            assert event.seq < self.device.state.next_seq

    @invariant()
    def what_is_needed_is_kept(self) -> None:
        kept = kept_blobs(self.device.state)
        for record in self._records():
            for installed in (record.active, record.previous):
                assert installed is None or {blob.sha256 for blob in installed.blobs()} <= kept

    @invariant()
    def the_state_can_be_saved_and_read(self) -> None:
        assert decode_state(encode_state(self.device.state)) == self.device.state

    # What holds in the end

    def teardown(self) -> None:
        for _ in range(4):  # a model that is being watched or waits for another one takes a turn more
            self.device.run()
            self.device.end_watch()
        assert list(self._deployments()) == []
        for model, record in self.device.state.models.items():
            assert record.wanted, f"{model} is in no document and still there"
            if record.target:
                refused = {result.deployment for result in record.refused}
                is_active = record.active is not None and record.active.deployment == record.target.deployment
                assert is_active or record.target.deployment in refused, f"{model} is neither active nor reported"
            assert record.last is not None
            assert record.last.outcome in set(Outcome)
        self.what_serves_is_what_is_active()

    # Parts of the above

    def _is_awaited(self, event: LifecycleEvent) -> bool:
        identity = getattr(event, "deployment", None)
        awaited = [type(effect) for effect in self.device.pending if getattr(effect, "deployment", "") == identity]
        return any(isinstance(event, ANSWERS[kind]) for kind in awaited)

    def _watched(self) -> list[str]:
        models = self.device.state.models.items()
        return [name for name, r in models if r.deployment and r.deployment.phase is Phase.WATCHING]

    def _records(self) -> list[ModelRecord]:
        return list(self.device.state.models.values())

    def _deployments(self) -> list[Deployment]:
        return [record.deployment for record in self._records() if record.deployment]


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
