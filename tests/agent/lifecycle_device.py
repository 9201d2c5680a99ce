"""A device without a machine: the lifecycle with simulated blobs, trials and serving process, to drive step by step."""

import hashlib
from collections.abc import Callable

from edgeferry.agent import lifecycle
from edgeferry.agent.effects import Activate, Cancel, Collect, Effect, Fetch, Load, Restore, Try, Unload, Verify
from edgeferry.agent.events import (
    Activated,
    Booted,
    Failed,
    Faulted,
    Fetched,
    LifecycleEvent,
    Restored,
    ServingStarted,
    Target,
    Tick,
    TrialPassed,
    Verified,
    Wished,
)
from edgeferry.agent.state import AgentState, Installed, Phase, decode_state, encode_state, label_of, model_of, slot_of
from edgeferry.wire.desired import STABLE, BlobRef, ModelWish
from edgeferry.wire.messages import Code, Outcome, Problem, Reason

MODEL = "cats"
WATCH_S = 30


def blob(name: str) -> BlobRef:
    return BlobRef(sha256=hashlib.sha256(name.encode()).hexdigest(), size_bytes=1000)


def target(version: int, slot: str = MODEL, attempt: int = 0, *, percent: int = 0) -> Target:
    model = model_of(slot)
    manifest = blob(f"{model} {version} manifest")
    label = "" if slot == model else label_of(slot)
    wish = ModelWish(model, version, manifest, attempt, label, percent)
    installed = Installed(
        deployment=wish.deployment_id(),
        version=version,
        scheme="int8",
        manifest=wish.manifest,
        model=blob(f"{model} {version} model"),
        selftest=blob(f"{model} {version} selftest"),
        percent=percent,
    )
    return Target(wish, installed)


def problem(reason: Reason = Reason.SELFTEST_MISMATCH) -> Problem:
    return Problem(code=Code.FAILED_PRECONDITION, reason=reason, detail=f"simulated {reason}")


class Device:
    """The lifecycle of one device; every effect that is awaited succeeds unless it is told to fail.

    Attributes:
        serving: Version that the serving process answers with, by slot.
        failures: What the effect of a kind answers instead of success.
        pending: Effects that wait for an answer.
        effects: Everything that was wanted so far.
        answers: Everything that was answered so far.
    """

    def __init__(self) -> None:
        self.state = AgentState()
        self.now_ms = 1_000_000
        self.serving: dict[str, int] = {}
        self.failures: dict[type, Problem] = {}
        self.pending: list[Effect] = []
        self.effects: list[Effect] = []
        self.answers: list[LifecycleEvent] = []

    def tell(self, event: LifecycleEvent) -> tuple[Effect, ...]:
        self.state, effects = lifecycle.step(self.state, event, self.now_ms, watch_s=WATCH_S)
        for effect in effects:
            self._take(effect)
        return effects

    def wish(self, *targets: Target, refusals: dict[str, tuple[int, Problem]] | None = None) -> None:
        self.tell(Wished({slot_of(t.wish.model, t.wish.label or STABLE): t for t in targets}, refusals or {}))

    def run(self) -> None:
        """Answer effects until nothing is awaited."""
        while self.pending:
            self.answer()

    def run_until(self, phase: Phase, model: str = MODEL) -> None:
        """Answer effects until ``model`` is in ``phase``."""
        while self.phase(model) is not phase:
            assert self.pending, f"{model} is {self.phase(model)} and nothing is awaited"
            self.answer()

    def answer(self) -> None:
        effect = self.pending.pop(0)
        failure = self.failures.get(type(effect))
        event = Failed(effect.deployment, failure) if failure else _success_of(effect, self.serving)
        self.answers.append(event)
        self.tell(event)

    def kill(self) -> None:
        """Cut the power: everything but the saved state is gone."""
        self.state = decode_state(encode_state(self.state))
        self.pending.clear()
        self.serving.clear()

    def boot(self) -> None:
        self.tell(Booted())
        self.tell(ServingStarted())

    def restart_serving(self) -> tuple[Effect, ...]:
        self._lose_serving()
        return self.tell(ServingStarted())

    def crash_serving(self, suspect: str, *, proven: bool) -> None:
        """End the serving process while it runs what is active in the slot ``suspect``, and start another one."""
        self._lose_serving()
        self.fault_of(suspect, proven=proven)
        self._lose_serving()  # it is down: what was wanted of it just now comes to nothing
        self.tell(ServingStarted())

    def fault(self, *, proven: bool, model: str = MODEL, version: int = 0, slot: str = "") -> None:
        self.tell(Faulted(model, problem(Reason.SERVING_CRASHED), proven, version, slot))

    def fault_of(self, slot: str, *, proven: bool) -> None:
        record = self.state.models.get(slot)
        version = record.active.version if record and record.active else 0
        self.fault(proven=proven, model=model_of(slot), version=version)

    def end_watch(self) -> None:
        self.now_ms += WATCH_S * 1000
        self.tell(Tick())

    def phase(self, model: str = MODEL) -> Phase | None:
        deployment = self.state.models[model].deployment
        return deployment.phase if deployment else None

    def outcome(self, model: str = MODEL) -> tuple[int, Outcome, Reason | None]:
        last = self.state.models[model].last
        assert last is not None
        return last.version, last.outcome, last.problem.reason if last.problem else None

    def outcomes(self) -> list[tuple[int, Outcome | None]]:
        return [(event.version, event.outcome) for event in self.state.outbox if event.outcome]

    def _lose_serving(self) -> None:
        self.serving.clear()
        self.pending = [effect for effect in self.pending if not isinstance(effect, Activate | Restore)]

    def _take(self, effect: Effect) -> None:
        self.effects.append(effect)
        match effect:
            case Fetch() | Verify() | Try() | Activate() | Restore():
                self.pending.append(effect)
            case Cancel(deployment=identity):
                self.pending = [e for e in self.pending if getattr(e, "deployment", None) != identity]
            case Load(slot=slot, target=installed):
                self.serving[slot] = installed.version
            case Unload(slot=slot):
                self.serving.pop(slot, None)
            case Collect():
                pass


def _success_of(effect: Effect, serving: dict[str, int]) -> LifecycleEvent:
    match effect:
        case Fetch(deployment=identity):
            return Fetched(identity)
        case Verify(deployment=identity):
            return Verified(identity)
        case Try(deployment=identity):
            return TrialPassed(identity)
        case Activate(deployment=identity, slot=slot, target=installed):
            serving[slot] = installed.version
            return Activated(identity)
        case Restore(deployment=identity, slot=slot, target=installed):
            serving.pop(slot, None)
            if installed:
                serving[slot] = installed.version
            return Restored(identity)
        case _:
            raise AssertionError(effect)


DeviceFactory = Callable[[], Device]
