"""What the agent remembers across restarts: one immutable value, one file.

The file is a line with the format and the body's SHA-256, then the body in JSON, so that a file that a bad disk has
altered is noticed and not believed.
"""

import hashlib
from enum import StrEnum

from msgspec import field
from msgspec.structs import replace

from edgeferry.wire.codec import Message, WireError, canonical, decode
from edgeferry.wire.desired import STABLE, BlobRef, ModelWish
from edgeferry.wire.messages import Event, Result

__all__ = [
    "AgentState",
    "Deployment",
    "Installed",
    "ModelRecord",
    "Phase",
    "decode_state",
    "encode_state",
    "label_of",
    "model_of",
    "slot_of",
]

MAX_STATE_BYTES = 8 * 1024 * 1024

_HEADER = b"edgeferry-state 1 "


def slot_of(model: str, label: str) -> str:
    """Return the slot in which the version serves that ``label`` of ``model`` names.

    ``digits`` for the label stable, ``digits/canary`` for another one; no name of a model has a slash.
    """
    return model if label == STABLE else f"{model}/{label}"


def model_of(slot: str) -> str:
    """Return the model whose slot it is."""
    return slot.partition("/")[0]


def label_of(slot: str) -> str:
    """Return the label whose slot it is."""
    return slot.partition("/")[2] or STABLE


class Phase(StrEnum):
    """Where a deployment is; see `lifecycle`."""

    FETCHING = "fetching"
    VERIFYING = "verifying"
    TRYING = "trying"
    ACTIVATING = "activating"
    WATCHING = "watching"
    ROLLING_BACK = "rolling_back"


class Installed(Message, frozen=True):
    """An artifact's blobs and what its deployment was called.

    Attributes:
        deployment: SHA-256 of the wish that it fulfils.
        percent: Share of requests without a version that it answers instead of the stable one.
    """

    deployment: str
    version: int
    scheme: str
    manifest: BlobRef
    model: BlobRef
    selftest: BlobRef
    percent: int = 0

    def blobs(self) -> tuple[BlobRef, ...]:
        """Return everything that has to be on the disk, the largest last."""
        return (self.manifest, self.selftest, self.model)


class Deployment(Message, frozen=True):
    """The work of getting one slot from what is active to what is wished.

    Attributes:
        starts: How often the phase has begun; it counts interruptions.
        until_ms: In WATCHING: until when.
        result: In ROLLING_BACK: how it will end.
    """

    wish: ModelWish
    target: Installed
    phase: Phase
    starts: int = 1
    until_ms: int = 0
    result: Result | None = None


class ModelRecord(Message, frozen=True):
    """What the agent knows of one slot: of a label of a model.

    Attributes:
        wanted: Version that the signed documents name; 0 for none.
        target: What fulfils it; absent when it cannot be fulfilled here.
        wish: The wish behind ``target``.
        active: What serves.
        previous: What served before and stays on the disk.
        deployment: The running one, or the one that is being watched.
        last: How the last one ended.
        refused: How deployments ended that failed or were rolled back here, newest last; none is tried again.
        crashes: How often it was suspected of a crash of the serving process since it became active.
        quarantined: True when it is no longer served because of that.
    """

    wanted: int = 0
    wish: ModelWish | None = None
    target: Installed | None = None
    active: Installed | None = None
    previous: Installed | None = None
    deployment: Deployment | None = None
    last: Result | None = None
    refused: tuple[Result, ...] = ()
    crashes: int = 0
    quarantined: bool = False


class AgentState(Message, frozen=True):
    """Everything that must survive a power cut, apart from blobs, metadata and spooled events.

    Attributes:
        models: By slot, see `slot_of`.
        next_seq: Number of the next event; never used twice.
        outbox: Events that are not in the spool yet; they are saved with the change that they tell of.
    """

    models: dict[str, ModelRecord] = field(default_factory=dict)
    next_seq: int = 1
    outbox: tuple[Event, ...] = ()

    def slots(self, model: str) -> dict[str, ModelRecord]:
        """Return the records of all slots of ``model``, the stable one first."""
        return {slot: record for slot, record in self.models.items() if model_of(slot) == model}

    def served(self) -> dict[str, dict[str, int]]:
        """Return the active versions by model and label."""
        served: dict[str, dict[str, int]] = {}
        for slot, record in self.models.items():
            if record.active:
                served.setdefault(model_of(slot), {})[label_of(slot)] = record.active.version
        return served

    def with_model(self, slot: str, record: ModelRecord | None) -> "AgentState":
        """Return this state with another record for ``slot``, or with none."""
        models = {key: value for key, value in self.models.items() if key != slot}
        if record is not None:
            models[slot] = record
        return replace(self, models=dict(sorted(models.items())))


def encode_state(state: AgentState) -> bytes:
    """Return the content of the state file."""
    body = canonical(state)
    return _HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode_state(data: bytes) -> AgentState:
    """Return the state that ``data`` holds.

    Raises:
        WireError: It is cut, altered or of another format.
    """
    header, _, body = data.partition(b"\n")
    if header != _HEADER + hashlib.sha256(body).hexdigest().encode():
        raise WireError("state: its checksum differs, or it was written by another version")
    return decode(AgentState, body, max_bytes=MAX_STATE_BYTES)
