"""The fleet as its devices report it, put together from messages. Pure: times are numbers that the caller has.

Decides what a message changes and when a device counts as stale: three of its intervals without telemetry, by the time
of receipt and never by the device's clock, which may be years off.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from edgeferry.wire.codec import WireError, decode
from edgeferry.wire.messages import Availability, Info, Problem, State, Telemetry
from edgeferry.wire.topics import Topic, TopicKind, Topics

__all__ = ["DeviceView", "FleetView", "Liveness", "told"]

MAX_DEVICES = 50_000  # what a broker that lies can make us remember
DEFAULT_INTERVAL_S = 10.0
STALE_AFTER_INTERVALS = 3


class Liveness(StrEnum):
    """Whether a device can be spoken to."""

    ONLINE = "online"
    OFFLINE = "offline"
    STALE = "stale"
    UNKNOWN = "unknown"


def told(problem: Problem) -> str:
    """Return what a device gives as its reason, in one line."""
    return f"{problem.reason}: {problem.detail}" if problem.detail else str(problem.reason)


@dataclass(slots=True)
class DeviceView:
    """The last that a device said of each kind; times are of the receiver's monotonic clock, in seconds.

    Attributes:
        availability_at: When ``availability`` last changed.
        heard_at: When telemetry came, or, before the first, when anything did.
    """

    id: str
    availability: Availability | None = None
    availability_at: float = 0.0
    info: Info | None = None
    state: State | None = None
    telemetry: Telemetry | None = None
    heard_at: float = 0.0

    def liveness(self, now: float) -> Liveness:
        """Return whether the device can be spoken to at ``now``."""
        if self.availability is None:
            return Liveness.UNKNOWN
        if self.availability is Availability.OFFLINE:
            return Liveness.OFFLINE
        interval_s = self.telemetry.interval_s if self.telemetry else DEFAULT_INTERVAL_S
        is_stale = now - self.heard_at > STALE_AFTER_INTERVALS * interval_s
        return Liveness.STALE if is_stale else Liveness.ONLINE


@dataclass(slots=True)
class FleetView:
    """All devices that said anything.

    Attributes:
        refused: How many messages were not what their topic promises.
    """

    topics: Topics
    devices: dict[str, DeviceView] = field(default_factory=dict)
    refused: int = 0

    def apply(self, topic: str, payload: bytes, received_at: float) -> str | None:
        """Take in a message and return the id of the device that it changed, or None."""
        try:
            parsed = self.topics.parse(topic)
            return self._apply(parsed, payload, received_at)
        except WireError:
            self.refused += 1
            return None

    def get(self, device: str) -> DeviceView:
        """Return what ``device`` said; nothing at all when it was never heard."""
        return self.devices.get(device) or DeviceView(device)

    def _apply(self, topic: Topic, payload: bytes, now: float) -> str | None:
        if topic.kind not in _KINDS:
            return None
        device = self.devices.get(topic.owner)
        if device is None:
            if len(self.devices) >= MAX_DEVICES:
                raise WireError(f"more than {MAX_DEVICES} devices")
            device = DeviceView(topic.owner, heard_at=now)
        _KINDS[topic.kind](device, payload, now)
        self.devices[topic.owner] = device
        return topic.owner


def _availability(device: DeviceView, payload: bytes, now: float) -> None:
    try:
        said = Availability(payload.decode()) if payload else None
    except ValueError as err:
        raise WireError(f"availability: {payload[:20]!r}, wanted online or offline") from err
    if said is not device.availability:
        device.availability = said
        device.availability_at = now
        device.heard_at = now


def _info(device: DeviceView, payload: bytes, _now: float) -> None:
    device.info = decode(Info, payload) if payload else None


def _state(device: DeviceView, payload: bytes, _now: float) -> None:
    device.state = decode(State, payload) if payload else None


def _telemetry(device: DeviceView, payload: bytes, now: float) -> None:
    device.telemetry = decode(Telemetry, payload) if payload else None
    device.heard_at = now


_KINDS = {
    TopicKind.AVAILABILITY: _availability,
    TopicKind.INFO: _info,
    TopicKind.STATE: _state,
    TopicKind.TELEMETRY: _telemetry,
}
