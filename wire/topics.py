"""Every MQTT topic of edgeferry: one builder and one parser each.

Below the root (``edgeferry/v1`` unless configured):

    d/{id}/availability|info|state|telemetry|event     what a device says
    d/{id}/req/{method}    all/req/{method}             what it is asked
    d/{id}/res/{client}                                 what it answers
    d/{id}/infer/{model}[/{version or label}]           inference on one device
    g/{group}/infer/{model}                             inference on any device of a group
    tuf/root.{n}    tuf/timestamp                       signed metadata, retained
    blob/req/{id}    d/{id}/blk                         a device asks for blocks and gets them
    origin/{oid}/availability                           who serves blocks
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from edgeferry.wire.codec import WireError

__all__ = ["DEFAULT_ROOT", "Topic", "TopicKind", "Topics", "check_id", "check_name", "check_root"]

DEFAULT_ROOT = "edgeferry/v1"
ID_WANTED = "1 to 64 of a-z A-Z 0-9 _ -"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")  # no dot first: a name stands in paths, where .. is a way up


class TopicKind(StrEnum):
    """What a topic is for."""

    AVAILABILITY = "availability"
    INFO = "info"
    STATE = "state"
    TELEMETRY = "telemetry"
    EVENT = "event"
    REQUEST = "req"
    REQUEST_ALL = "req_all"
    RESPONSE = "res"
    INFER = "infer"
    INFER_GROUP = "infer_group"
    BLOCK = "blk"
    BLOB_REQUEST = "blob_req"
    TUF_ROOT = "tuf_root"
    TUF_TIMESTAMP = "tuf_timestamp"
    ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic.

    Attributes:
        kind: What it is for.
        owner: The device, group or origin that it belongs to; empty for what belongs to the fleet.
        name: Method, client, model or root version; empty where there is none.
        version: Version or label in an inference topic; empty for the stable one.
    """

    kind: TopicKind
    owner: str = ""
    name: str = ""
    version: str = ""


_DEVICE_KINDS = {
    kind.value: kind
    for kind in (
        TopicKind.AVAILABILITY,
        TopicKind.INFO,
        TopicKind.STATE,
        TopicKind.TELEMETRY,
        TopicKind.EVENT,
        TopicKind.BLOCK,
    )
}


def check_id(value: str, *, what: str = "id") -> str:
    """Return ``value`` when it can name a device, group, client or origin.

    Raises:
        WireError: It has other characters than ``a-z A-Z 0-9 _ -`` or is longer than 64.
    """
    if not _ID.fullmatch(value):
        raise WireError(f"{what} {value[:80]!r} cannot stand in a topic; wanted {ID_WANTED}")
    return value


def check_name(value: str, *, what: str = "model") -> str:
    """Return ``value`` when it can name a model, a method or a version; like an id, but dots are allowed inside.

    Raises:
        WireError: It is empty, too long, begins with a dot or has other characters.
    """
    if not _NAME.fullmatch(value):
        raise WireError(f"{what} {value[:80]!r} cannot stand in a topic; wanted 1 to 64 of a-z A-Z 0-9 _ - .")
    return value


def check_root(value: str) -> str:
    """Return ``value`` when it can be the root of all topics.

    Raises:
        WireError: It is empty, has a wildcard or an empty level, or a level begins with ``$`` or a dot.
    """
    levels = value.split("/")
    if not all(_NAME.fullmatch(level) for level in levels):
        raise WireError(f"topic root {value[:80]!r} is not usable; wanted levels of a-z A-Z 0-9 _ - . joined by /")
    return value


@dataclass(frozen=True, slots=True)
class Topics:
    """Builder and parser of all topics below one root."""

    root: str = DEFAULT_ROOT

    def device(self, device: str, kind: TopicKind) -> str:
        """Return the topic of one of a device's own kinds: availability, info, state, telemetry, event or blk."""
        return f"{self.root}/d/{device}/{kind.value}"

    def request(self, device: str, method: str) -> str:
        """Return the topic on which ``device`` is asked for ``method``."""
        return f"{self.root}/d/{device}/req/{method}"

    def request_all(self, method: str) -> str:
        """Return the topic on which every device is asked for ``method``."""
        return f"{self.root}/all/req/{method}"

    def response(self, device: str, client: str) -> str:
        """Return the topic on which ``device`` answers ``client``."""
        return f"{self.root}/d/{device}/res/{client}"

    def infer(self, device: str, model: str, version: str = "") -> str:
        """Return the topic for inference with a device's model; its stable version unless one is named."""
        return f"{self.root}/d/{device}/infer/{model}" + (f"/{version}" if version else "")

    def infer_group(self, group: str, model: str) -> str:
        """Return the topic for inference on any device of ``group``."""
        return f"{self.root}/g/{group}/infer/{model}"

    def tuf_root(self, version: int) -> str:
        """Return the topic of the root metadata of ``version``."""
        return f"{self.root}/tuf/root.{version}"

    def tuf_timestamp(self) -> str:
        """Return the topic of the timestamp: the doorbell."""
        return f"{self.root}/tuf/timestamp"

    def blob_request(self, device: str) -> str:
        """Return the topic on which ``device`` asks for blocks."""
        return f"{self.root}/blob/req/{device}"

    def origin(self, origin: str) -> str:
        """Return the topic of an origin's availability."""
        return f"{self.root}/origin/{origin}/availability"

    def device_subscriptions(self, device: str) -> tuple[str, ...]:
        """Return the filters to which an agent subscribes."""
        below = f"{self.root}/d/{device}"
        return (
            f"{self.root}/tuf/#",
            f"{self.root}/origin/+/availability",
            f"{below}/availability",
            f"{below}/req/+",
            f"{self.root}/all/req/+",
            f"{below}/infer/#",
            f"{below}/blk",
        )

    def group_subscription(self, group: str) -> str:
        """Return the filter by which devices share their group's inference: the broker gives each request to one."""
        return f"$share/{group}/{self.root}/g/{group}/infer/+"

    def parse(self, topic: str) -> Topic:
        """Return what ``topic`` says.

        Raises:
            WireError: It is not a topic of ours.
        """
        prefix = self.root + "/"
        parsed = _parse(topic.removeprefix(prefix).split("/")) if topic.startswith(prefix) else None
        if parsed is None:
            raise WireError(f"topic {topic[:200]!r} is not one of {self.root}")
        return parsed


def _parse(levels: list[str]) -> Topic | None:
    if not all(_NAME.fullmatch(level) for level in levels):
        return None
    match levels:
        case ["d", device, kind] if kind in _DEVICE_KINDS and _is_id(device):
            return Topic(_DEVICE_KINDS[kind], device)
        case ["d", device, *rest] if _is_id(device):
            return _parse_below_device(device, rest)
        case ["g", group, "infer", model] if _is_id(group):
            return Topic(TopicKind.INFER_GROUP, group, model)
        case _:
            return _parse_shared(levels)


def _parse_below_device(device: str, levels: list[str]) -> Topic | None:
    match levels:
        case ["req", method]:
            return Topic(TopicKind.REQUEST, device, method)
        case ["res", client] if _is_id(client):
            return Topic(TopicKind.RESPONSE, device, client)
        case ["infer", model]:
            return Topic(TopicKind.INFER, device, model)
        case ["infer", model, version]:
            return Topic(TopicKind.INFER, device, model, version)
        case _:
            return None


def _parse_shared(levels: list[str]) -> Topic | None:
    match levels:
        case ["all", "req", method]:
            return Topic(TopicKind.REQUEST_ALL, "", method)
        case ["blob", "req", device] if _is_id(device):
            return Topic(TopicKind.BLOB_REQUEST, device)
        case ["origin", origin, "availability"] if _is_id(origin):
            return Topic(TopicKind.ORIGIN, origin)
        case ["tuf", "timestamp"]:
            return Topic(TopicKind.TUF_TIMESTAMP)
        case ["tuf", root] if re.fullmatch(r"root\.[1-9][0-9]{0,8}", root):
            return Topic(TopicKind.TUF_ROOT, "", root.removeprefix("root."))
        case _:
            return None


def _is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None
