"""What the agent remembers across restarts: one immutable value, one file.

The file is a line with the format and the body's SHA-256, then the body in JSON, so that a file that a bad disk has
altered is noticed and not believed.
"""

import hashlib
from enum import StrEnum

from msgspec import field
from msgspec.structs import replace

from edgeferry.wire.codec import Message, WireError, canonical, decode
from edgeferry.wire.desired import BlobRef, ModelWish
from edgeferry.wire.messages import Event, Result

__all__ = ["AgentState", "Deployment", "Installed", "ModelRecord", "Phase", "decode_state", "encode_state"]

MAX_STATE_BYTES = 8 * 1024 * 1024

_HEADER = b"edgeferry-state 1 "


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
    """

    deployment: str
    version: int
    scheme: str
    manifest: BlobRef
    model: BlobRef
    selftest: BlobRef

    def blobs(self) -> tuple[BlobRef, ...]:
        """Return everything that has to be on the disk, the largest last."""
        return (self.manifest, self.selftest, self.model)


class Deployment(Message, frozen=True):
    """The work of getting one model from what is active to what is wished.

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
    """What the agent knows of one model.

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
        models: By name.
        next_seq: Number of the next event; never used twice.
        outbox: Events that are not in the spool yet; they are saved with the change that they tell of.
    """

    models: dict[str, ModelRecord] = field(default_factory=dict)
    next_seq: int = 1
    outbox: tuple[Event, ...] = ()

    def with_model(self, name: str, record: ModelRecord | None) -> "AgentState":
        """Return this state with another record for ``name``, or with none."""
        models = {key: value for key, value in self.models.items() if key != name}
        if record is not None:
            models[name] = record
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
