"""What devices say, in short, for tests of what is made of it."""

from typing import Any

from edgeferry.fleet.monitor.view import FleetView
from edgeferry.wire.codec import encode
from edgeferry.wire.messages import Code, ModelState, Outcome, Problem, Reason, Result, State, Telemetry
from edgeferry.wire.topics import TopicKind, Topics

TOPICS = Topics()
DEPLOYMENT = "d" * 64
OTHER_DEPLOYMENT = "e" * 64
PROBLEM = Problem(code=Code.FAILED_PRECONDITION, reason=Reason.SELFTEST_MISMATCH, detail="4 of 8 differ")


def view() -> FleetView:
    """Return a view that has heard nothing."""
    return FleetView(TOPICS)


def heard(
    state: State | None = None, *, at: float = 0.0, online: bool | None = True, telemetry: Telemetry | None = None
) -> FleetView:
    """Return a view of one device, ``pi``, that said this at ``at``."""
    made = view()
    if online is not None:
        made.apply(TOPICS.device("pi", TopicKind.AVAILABILITY), b"online" if online else b"offline", at)
    if state is not None:
        made.apply(TOPICS.device("pi", TopicKind.STATE), encode(state), at)
    if telemetry is not None:
        made.apply(TOPICS.device("pi", TopicKind.TELEMETRY), encode(telemetry), at)
    return made


def state(model: ModelState | None = None, *, generation: int = 5, **more: Any) -> State:
    """Return a reported state with one model, ``digits``."""
    models = {"digits": model} if model else {}
    return State(v=1, ts=0, boot="b", generation=generation, root_version=1, models=models, **more)


def running(version: int, **more: Any) -> ModelState:
    """Return a model of which ``version`` runs."""
    fields: dict[str, Any] = {"wanted": version, "phase": "idle", "labels": {"stable": version}, "scheme": "int8"}
    return ModelState(**{**fields, **more})


def ended(version: int, outcome: Outcome, *, deployment: str = DEPLOYMENT, problem: Problem | None = PROBLEM) -> Result:
    """Return how a deployment ended."""
    return Result(deployment=deployment, version=version, outcome=outcome, ended_ms=1, problem=problem)


def telemetry(**figures: Any) -> Telemetry:
    """Return telemetry with an interval of 10 s."""
    return Telemetry(v=1, ts=1, boot="b", seq=1, interval_s=10.0, **figures)
