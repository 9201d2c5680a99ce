"""What the agent says of itself: state and info, made from what it remembers. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from edgeferry.agent.state import AgentState, ModelRecord, Phase, label_of, model_of
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import (
    LabelState,
    LabelTelemetry,
    ModelState,
    ModelTelemetry,
    Problem,
    State,
    TransferState,
)

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
    figures: Mapping[str, ModelTelemetry],
) -> State:
    """Return the reported state.

    Args:
        state: What the lifecycle remembers.
        standing: What the agent knows beside it.
        boot: Random id of this start of the agent.
        now_ms: Unix time in milliseconds.
        transfer_of: Tells how far the transfer of a deployment is.
        figures: How the versions of each model do, as telemetry told it last.
    """
    models = dict.fromkeys(map(model_of, state.models))
    return State(
        v=1,
        ts=now_ms,
        boot=boot,
        generation=standing.generation,
        root_version=standing.root_version,
        metadata_expires_ms=standing.metadata_expires_ms,
        models={name: _model_state(state.slots(name), figures.get(name), transfer_of) for name in models},
        metadata=standing.metadata,
        waiting=standing.waiting,
        serving=standing.serving,
    )


def _model_state(
    slots: Mapping[str, ModelRecord],
    figures: ModelTelemetry | None,
    transfer_of: Callable[[str], TransferState | None],
) -> ModelState:
    records = {label_of(slot): record for slot, record in slots.items()}
    compared = _compared(records, figures)
    states = {label: _label_state(record, compared.get(label), transfer_of) for label, record in records.items()}
    served = {label: record.active.version for label, record in records.items() if record.active}
    stable = records.get(STABLE, ModelRecord())
    others = {label: state for label, state in states.items() if label != STABLE}
    return ModelState(
        **msgspec.structs.asdict(states.get(STABLE) or LabelState(wanted=0, phase="idle")),
        labels=served,
        previous=stable.previous.version if stable.previous else 0,
        others=others,
    )


def _compared(records: Mapping[str, ModelRecord], figures: ModelTelemetry | None) -> dict[str, LabelTelemetry]:
    """Return the figures by label where there are several to compare, of the versions that are active now."""
    if figures is None or len(records) < 2:
        return {}
    stable = LabelTelemetry(**{name: getattr(figures, name) for name in LabelTelemetry.__struct_fields__})
    told = {STABLE: stable, **figures.labels}
    active = {label: record.active.version for label, record in records.items() if record.active}
    return {label: one for label, one in told.items() if active.get(label) == one.version}


def _label_state(
    record: ModelRecord, figures: LabelTelemetry | None, transfer_of: Callable[[str], TransferState | None]
) -> LabelState:
    deployment, active = record.deployment, record.active
    identity = deployment.target.deployment if deployment else (record.last.deployment if record.last else "")
    is_watched = deployment is not None and deployment.phase is Phase.WATCHING
    is_fetching = deployment is not None and deployment.phase is Phase.FETCHING
    return LabelState(
        wanted=record.wanted,
        phase=deployment.phase if deployment else "idle",
        scheme=active.scheme if active else "",
        deployment=identity,
        watched_until_ms=deployment.until_ms if deployment and is_watched else 0,
        transfer=transfer_of(identity) if is_fetching else None,
        last=record.last,
        quarantined=record.quarantined,
        percent=active.percent if active else 0,
        figures=figures,
    )
