"""What ``edgeferry-agent status`` tells: what runs here, since when, and how each last deployment ended. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeferry.agent.state import AgentState, ModelRecord
from edgeferry.wire.messages import Event, EventKind, Outcome, Problem, Result

__all__ = ["AgentStatus", "ModelStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model on this device.

    Attributes:
        active: Version that serves while the agent runs; 0 for none.
        size_bytes: Of its ``.tflite`` file.
        since_ms: When it became active; 0 when that is not known any more.
        wanted: Version that the signed documents name; 0 for none.
        phase: Of the running deployment; ``idle`` without one.
        previous: Version that served before and is still here; 0 for none.
        last: How the last deployment ended.
        is_refused: Whether what is wanted failed here, and is not tried again before the operator asks for it.
        quarantined: Whether it crashed the serving process too often and is not served any more.
    """

    name: str
    active: int
    scheme: str
    size_bytes: int
    since_ms: int
    wanted: int
    phase: str
    previous: int
    last: Result | None
    is_refused: bool
    quarantined: bool


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One device.

    Attributes:
        pid: Of the agent; 0 when none runs, None when the system does not tell which process it is.
        since_ms: When that process began; 0 when it is not known.
        damage: Why nothing can be said of the models; empty when all is well.
    """

    device: str
    profile: str
    pid: int | None
    since_ms: int
    models: tuple[ModelStatus, ...]
    damage: str = ""

    @property
    def is_running(self) -> bool:
        """Whether an agent holds the state folder."""
        return self.pid != 0

    def lines(self, now_ms: int) -> Iterator[str]:
        """Yield what a person reads."""
        yield f"{self.device} ({self.profile}): {self._process(now_ms)}"
        if self.damage:
            yield self.damage
        elif not self.models:
            yield "no model yet; push one from the workstation: edgeferry push ARTIFACT"
        for model in self.models:
            yield f"{model.name}"
            yield from (f"  {line}" for line in _model_lines(model, now_ms, is_running=self.is_running))

    def _process(self, now_ms: int) -> str:
        if not self.is_running:
            return "no agent is running"
        process = f"process {self.pid}" if self.pid else "in another container"
        return f"the agent runs ({process}{_since(self.since_ms, now_ms)})"


def status_of(
    device: str, profile: str, state: AgentState | None, events: Sequence[Event], *, pid: int | None, since_ms: int
) -> AgentStatus:
    """Return the status that an agent's state and its newest events tell.

    Args:
        device: Its id.
        profile: Name of its profile.
        state: None when it cannot be believed.
        events: Oldest first.
        pid: As in `AgentStatus`.
        since_ms: As in `AgentStatus`.
    """
    if state is None:
        damage = "the state file is damaged or of another version; the agent sets it aside when it starts"
        return AgentStatus(device, profile, pid, since_ms, (), damage)
    models = tuple(_model_status(name, record, events) for name, record in state.models.items())
    return AgentStatus(device, profile, pid, since_ms, models)


def _model_status(name: str, record: ModelRecord, events: Sequence[Event]) -> ModelStatus:
    active, deployment = record.active, record.deployment
    wanted_is = record.target.deployment if record.target else ""
    return ModelStatus(
        name=name,
        active=active.version if active else 0,
        scheme=active.scheme if active else "",
        size_bytes=active.model.size_bytes if active else 0,
        since_ms=_active_since_ms(name, record, events),
        wanted=record.wanted,
        phase=deployment.phase if deployment else "idle",
        previous=record.previous.version if record.previous else 0,
        last=record.last,
        is_refused=bool(wanted_is) and wanted_is in {result.deployment for result in record.refused},
        quarantined=record.quarantined,
    )


def _active_since_ms(name: str, record: ModelRecord, events: Sequence[Event]) -> int:
    if record.active is None:
        return 0
    last = record.last
    if last and last.outcome is Outcome.ACTIVE and last.deployment == record.active.deployment:
        return last.ended_ms
    for event in reversed(events):
        is_start = event.kind is EventKind.DEPLOYMENT and event.outcome is Outcome.ACTIVE
        if is_start and event.model == name and event.deployment == record.active.deployment:
            return event.ts
    return 0


def _model_lines(model: ModelStatus, now_ms: int, *, is_running: bool) -> Iterator[str]:
    yield f"{'serves' if is_running else 'served':9} {_serves(model, now_ms)}"
    if model.wanted != model.active:
        yield f"{'wanted':9} {f'version {model.wanted}' if model.wanted else 'nothing: it will be unloaded'}"
    if model.phase != "idle":
        yield f"{'doing':9} {model.phase}"
    if model.previous:
        yield f"{'previous':9} version {model.previous}"
    if model.last:
        yield f"{'last':9} {_ending(model.last, now_ms)}"
    if model.is_refused:
        yield f"{'':9} it is not tried again before the workstation says: edgeferry push --retry"


def _serves(model: ModelStatus, now_ms: int) -> str:
    if not model.active:
        return "nothing"
    text = f"version {model.active} ({model.scheme}, {model.size_bytes / 1000:.1f} kB){_since(model.since_ms, now_ms)}"
    return f"{text}; quarantined: it crashed the serving process too often" if model.quarantined else text


def _ending(result: Result, now_ms: int) -> str:
    text = f"version {result.version} {result.outcome.replace('_', ' ')} on {_moment(result.ended_ms, now_ms)}"
    return f"{text}: {_words(result.problem)}" if result.problem else text


def _words(problem: Problem) -> str:
    return f"{problem.reason}: {problem.detail}" if problem.detail else str(problem.reason)


def _since(time_ms: int, now_ms: int) -> str:
    return f", since {_moment(time_ms, now_ms)}" if time_ms else ""


def _moment(time_ms: int, now_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC, {_duration(now_ms - time_ms)}"


def _duration(passed_ms: int) -> str:
    if passed_ms < 0:
        return "in the future by this clock"
    minutes = passed_ms // 60_000
    for size, unit in ((24 * 60, "d"), (60, "h"), (1, "min")):
        if minutes >= size:
            return f"{minutes // size} {unit} ago"
    return "just now"
