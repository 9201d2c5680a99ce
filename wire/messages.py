"""What is said on the topics: availability, info, state, telemetry, events, requests, responses, and why things fail.

Times are integer unix milliseconds. Units stand in the names. A figure that is unknown is left out, never null.
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, UnsetType, field

from edgeferry.wire.codec import Message
from edgeferry.wire.desired import STABLE, Name, Sha256

__all__ = [
    "Availability",
    "Code",
    "DeadlineMs",
    "Event",
    "EventKind",
    "Info",
    "LabelState",
    "LabelTelemetry",
    "ModelState",
    "ModelTelemetry",
    "Outcome",
    "PipelineTelemetry",
    "Problem",
    "Reason",
    "Request",
    "RequestId",
    "Response",
    "Result",
    "State",
    "Swap",
    "Telemetry",
    "TransferState",
]

DeadlineMs = Annotated[int, Meta(ge=0, le=2**53)]  # as far as JSON's numbers are exact everywhere (RFC 8259, section 6)
RequestId = Annotated[str, Meta(max_length=128)]  # it is said again in the answer, which has to fit into a message


class Availability(StrEnum):
    """The whole payload of an availability topic (Home Assistant's defaults)."""

    ONLINE = "online"
    OFFLINE = "offline"


class Code(StrEnum):
    """Kind of an error: gRPC's names, the same on MQTT, REST and gRPC."""

    OK = "OK"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Reason(StrEnum):
    """Why a deployment did not end as wished, a request was refused, or a device waits. The list is closed."""

    # trust
    METADATA_UNSIGNED = "METADATA_UNSIGNED"
    METADATA_EXPIRED = "METADATA_EXPIRED"
    METADATA_ROLLBACK = "METADATA_ROLLBACK"
    METADATA_MALFORMED = "METADATA_MALFORMED"
    NO_ARTIFACT_FOR_PROFILE = "NO_ARTIFACT_FOR_PROFILE"
    MANIFEST_MISMATCH = "MANIFEST_MISMATCH"
    # transfer
    WAITING_FOR_ORIGIN = "WAITING_FOR_ORIGIN"
    SLOW_TRANSFER = "SLOW_TRANSFER"
    BLOB_MISMATCH = "BLOB_MISMATCH"
    DISK_FULL = "DISK_FULL"
    DISK_FAULT = "DISK_FAULT"
    # trial and serving
    SELFTEST_MISMATCH = "SELFTEST_MISMATCH"
    SELFTEST_INVALID = "SELFTEST_INVALID"
    MODEL_INVALID = "MODEL_INVALID"
    TRIAL_CRASHED = "TRIAL_CRASHED"
    TRIAL_TIMEOUT = "TRIAL_TIMEOUT"
    TRIAL_MEMORY = "TRIAL_MEMORY"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    SERVING_CRASHED = "SERVING_CRASHED"
    SERVING_UNAVAILABLE = "SERVING_UNAVAILABLE"
    MODEL_ERRORS = "MODEL_ERRORS"
    INTERRUPTED_TOO_OFTEN = "INTERRUPTED_TOO_OFTEN"
    # requests
    BAD_REQUEST = "BAD_REQUEST"
    UNKNOWN_METHOD = "UNKNOWN_METHOD"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    TOO_LARGE = "TOO_LARGE"
    BUSY = "BUSY"
    # hardware
    UNDERVOLTAGE = "UNDERVOLTAGE"
    THROTTLED = "THROTTLED"
    STORAGE_WORN = "STORAGE_WORN"


class Outcome(StrEnum):
    """How a deployment ended."""

    ACTIVE = "active"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


class Swap(StrEnum):
    """How a version took over from the one before."""

    BOTH = "both"  # both were in memory until the new one answered
    STOP_FIRST = "stop_first"  # there was no room for both, so nobody answered in between


class Problem(Message, frozen=True):
    """An error as it travels: what kind, why, and a sentence for the person who reads it."""

    code: Code
    reason: Reason
    detail: str = ""


class Info(Message, frozen=True):
    """What a device is: said once per connection, retained.

    Attributes:
        boot: Random id of this start of the agent.
        hardware: What the machine says of itself: model, cores, memory_bytes, arch.
        versions: Of edgeferry, python, runtime and os.
        endpoints: Where it listens, by protocol; empty where it does not.
        capabilities: What this agent can do, for workstations of another version.
        root_version: The newest TUF root that it trusts.
        max_packet_bytes: The largest MQTT message that it takes.
    """

    v: int
    id: str
    profile: str
    boot: str
    groups: tuple[str, ...] = ()
    hardware: dict[str, str | int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    root_version: int = 0
    max_packet_bytes: int = 0


class Result(Message, frozen=True):
    """How the last deployment of a model ended.

    Attributes:
        deployment: SHA-256 of the wish; empty when the wish could not be bound to an artifact.
        swap: How the version took over from the one before; absent where none served before.
        gap_ms: For how long neither answered.
    """

    deployment: str
    version: int
    outcome: Outcome
    ended_ms: int
    problem: Problem | None = None
    swap: Swap | None = None
    gap_ms: int = 0


class TransferState(Message, frozen=True):
    """How far the running transfer is."""

    sha256: Sha256
    done_bytes: int
    total_bytes: int
    origin: str = ""


class LabelTelemetry(Message, frozen=True):
    """Figures of a version over the last interval; totals since the serving process began."""

    version: int
    rps: float
    total: int
    errors_total: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    queue_p95_ms: float | None = None


class LabelState(Message, frozen=True):
    """What a device does about one label of a model.

    Attributes:
        wanted: The version that the signed documents wish; 0 when they no longer name it.
        phase: Of the lifecycle; ``idle`` when there is nothing to do.
        scheme: Of the version that the label names.
        deployment: The running or the last deployment.
        watched_until_ms: Until when the active version is watched for a rollback; 0 when it no longer is.
        transfer: How far the running transfer is.
        last: How the last deployment ended.
        quarantined: True when it crashed the serving process too often and is not being served.
        percent: Share of the requests without a version that it answers instead of ``stable``.
        figures: How it does, for a comparison; absent where there is nothing to compare with.
    """

    wanted: int
    phase: str
    scheme: str = ""
    deployment: str = ""
    watched_until_ms: int = 0
    transfer: TransferState | None = None
    last: Result | None = None
    quarantined: bool = False
    percent: int = 0
    figures: LabelTelemetry | None = None


class ModelState(LabelState, frozen=True):
    """What a device runs of one model; what `LabelState` says, it says of ``stable``.

    Attributes:
        labels: Versions that are being served, by label.
        previous: The version that served before and is still on the disk; 0 for none.
        others: What the device does about the labels other than ``stable``.
    """

    labels: dict[str, int] = field(default_factory=dict)
    previous: int = 0
    others: dict[Name, LabelState] = field(default_factory=dict)

    def of(self, label: str) -> LabelState | None:
        """Return what the device does about ``label``, or None when that is not known."""
        return self if label == STABLE else self.others.get(label)


class State(Message, frozen=True):
    """The reported state of a device.

    Attributes:
        generation: Version of the newest verified metadata (the timestamp's).
        root_version: Version of the trusted root.
        metadata_expires_ms: When the verified timestamp expires.
        metadata: Why newer metadata was not taken; absent when all is well.
        waiting: Why nothing happens although something is wished; absent otherwise.
    """

    v: int
    ts: int
    boot: str
    generation: int
    root_version: int
    metadata_expires_ms: int = 0
    models: dict[Name, ModelState] = field(default_factory=dict)
    metadata: Problem | None = None
    waiting: Problem | None = None
    serving: str = "stopped"


class ModelTelemetry(LabelTelemetry, frozen=True):
    """Figures of a model: those of the version that ``stable`` names, and beside them those of other labels."""

    labels: dict[Name, LabelTelemetry] = field(default_factory=dict)


class PipelineTelemetry(Message, frozen=True):
    """What a pipeline has done since it began.

    Attributes:
        taken_total: Samples that came from its source.
        answered_total: Samples that were answered, and whose answer was taken.
        dropped_total: Samples that made room for newer ones.
        left_out_total: Samples that came too soon after one another.
        errors_total: Samples that went wrong.
        p50_ms: From taking a sample up to its answer's end, over the newest.
        last_error: What went wrong last.
    """

    model: str
    taken_total: int
    answered_total: int
    dropped_total: int
    left_out_total: int
    errors_total: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    last_error: str = ""


class Telemetry(Message, frozen=True):
    """How machine and models are doing; a sensor that is absent is left out."""

    v: int
    ts: int
    boot: str
    seq: int
    interval_s: float
    uptime_s: int | None = None
    cpu_pct: float | None = None
    load1: float | None = None
    cpu_temp_c: float | None = None
    cpu_mhz: float | None = None
    throttled: bool | None = None
    undervoltage: bool | None = None
    wifi_dbm: float | None = None
    storage_used_pct: float | None = None
    mem_pct: float | None = None
    mem_used_bytes: int | None = None
    mem_avail_bytes: int | None = None
    agent_rss_bytes: int | None = None
    serving_rss_bytes: int | None = None
    disk_pct: float | None = None
    disk_free_bytes: int | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None
    infer_total: int | None = None
    infer_errors_total: int | None = None
    infer_rps: float | None = None
    queue_depth: int | None = None
    serving_share: float | None = None
    models: dict[Name, ModelTelemetry] = field(default_factory=dict)
    pipelines: dict[str, PipelineTelemetry] = field(default_factory=dict)


class EventKind(StrEnum):
    """What happened."""

    STARTED = "started"
    STOPPED = "stopped"
    DEPLOYMENT = "deployment"
    METADATA_REFUSED = "metadata_refused"
    SERVING_CRASHED = "serving_crashed"
    QUARANTINED = "quarantined"
    SPOOL_DROPPED = "spool_dropped"
    HARDWARE = "hardware"


class Event(Message, frozen=True):
    """Something that happened on a device; spooled on its disk until a broker has acknowledged it.

    Attributes:
        seq: Per device, rising, never used twice.
        label: Of the model, where it is another than ``stable``.
        swap: How a version took over from the one before.
        gap_ms: For how long neither answered.
    """

    v: int
    seq: int
    ts: int
    kind: EventKind
    model: str = ""
    version: int = 0
    deployment: str = ""
    outcome: Outcome | None = None
    code: Code = Code.OK
    reason: Reason | None = None
    detail: str = ""
    label: str = ""
    swap: Swap | None = None
    gap_ms: int = 0


class Request(Message, frozen=True):
    """A question to a device. MQTT 5 carries the first three in its properties; a body's own fields win.

    Attributes:
        id: Correlation, given back in the response.
        reply_to: Topic for the response.
        deadline_ms: After this the request is not carried out; 0 for none.
        parameters: Of the method.
    """

    id: RequestId = ""
    reply_to: str = ""
    deadline_ms: DeadlineMs = 0
    parameters: dict[str, Any] = field(default_factory=dict)


class Response(Message, frozen=True):
    """The answer to a request: ``ok``, any JSON, or ``error``."""

    id: str = ""
    ok: Raw | UnsetType = UNSET  # msgspec reads no `Raw | None`
    error: Problem | None = None
