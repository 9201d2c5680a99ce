"""What the agent says of itself: state and info, made from what it remembers. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from edgeferry.agent.state import AgentState, ModelRecord, Phase
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import ModelState, Problem, State, TransferState

__all__ = ["Standing", "state_message"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the agent knows beside its models.

    Attributes:
        generation: Version of the newest verified timestamp.
        metadata: Why newer metadata was not taken.
        waiting: Why nothing happens although something is wished.
        serving: ``stopped``, ``starting`` or ``running``.
    """

    generation: int = 0
    root_version: int = 0
    metadata_expires_ms: int = 0
    metadata: Problem | None = None
    waiting: Problem | None = None
    serving: str = "starting"


def state_message(
    state: AgentState,
    standing: Standing,
    *,
    boot: str,
    now_ms: int,
    transfer_of: Callable[[str], TransferState | None],
) -> State:
    """Return the reported state.

    Args:
        state: What the lifecycle remembers.
        standing: What the agent knows beside it.
        boot: Random id of this start of the agent.
        now_ms: Unix time in milliseconds.
        transfer_of: Tells how far the transfer of a deployment is.
    """
    return State(
        v=1,
        ts=now_ms,
        boot=boot,
        generation=standing.generation,
        root_version=standing.root_version,
        metadata_expires_ms=standing.metadata_expires_ms,
        models={name: _model_state(record, transfer_of) for name, record in state.models.items()},
        metadata=standing.metadata,
        waiting=standing.waiting,
        serving=standing.serving,
    )


def _model_state(record: ModelRecord, transfer_of: Callable[[str], TransferState | None]) -> ModelState:
    deployment, active = record.deployment, record.active
    identity = deployment.target.deployment if deployment else (record.last.deployment if record.last else "")
    is_watched = deployment is not None and deployment.phase is Phase.WATCHING
    is_fetching = deployment is not None and deployment.phase is Phase.FETCHING
    return ModelState(
        wanted=record.wanted,
        phase=deployment.phase if deployment else "idle",
        labels={STABLE: active.version} if active else {},
        previous=record.previous.version if record.previous else 0,
        scheme=active.scheme if active else "",
        deployment=identity,
        watched_until_ms=deployment.until_ms if deployment and is_watched else 0,
        transfer=transfer_of(identity) if is_fetching else None,
        last=record.last,
        quarantined=record.quarantined,
    )
