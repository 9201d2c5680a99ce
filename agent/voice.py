"""What the agent says on MQTT and when: availability, info, state, telemetry, events. Owned by the main loop."""

from collections import deque
from typing import Protocol

from msgspec.structs import replace

from edgeferry.agent.spool import Spool
from edgeferry.wire.codec import encode
from edgeferry.wire.messages import Availability, Info, ModelState, State, Telemetry
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["Publisher", "Voice"]

MAX_EVENTS_ON_THE_WAY = 16
STATE_INTERVAL_MS = 500  # of a state in which only the progress of a transfer has changed


class Publisher(Protocol):
    """Where messages go; `Connection` is one."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        correlation: bytes = b"",
        expiry_s: int = 0,
    ) -> int | None:
        """Return the number of the message, or None when it was not taken."""


class Voice:
    """Says what has changed, and everything again on a new connection.

    Args:
        publisher: Where messages go.
        topics: Of this fleet.
        device: Our id.
        spool: Events to say until they are acknowledged.
    """

    def __init__(self, publisher: Publisher, topics: Topics, device: str, spool: Spool) -> None:
        self._publisher = publisher
        self._topics = topics
        self._device = device
        self._spool = spool
        self._connected = False
        self._supports_expiry = False
        self._said: State | None = None
        self._on_the_way: deque[tuple[int, int]] = deque()  # (message number, event seq), in order
        self._taken: set[int] = set()
        self._next_event_seq = 0

    @property
    def offline_words(self) -> tuple[str, bytes]:
        """Topic and payload that say that we are gone."""
        return self._topics.device(self._device, TopicKind.AVAILABILITY), Availability.OFFLINE.encode()

    def connected(self, info: Info, state: State, *, supports_expiry: bool) -> None:
        """Say everything: a broker knows nothing of what another one was told."""
        self._connected, self._supports_expiry = True, supports_expiry
        self.say_online()
        self.say_info(info)
        self._said = None
        self.say_state(state)
        self._on_the_way.clear()
        self._taken.clear()
        self._next_event_seq = self._spool.acknowledged_seq + 1
        self.say_events()

    def disconnected(self) -> None:
        """Note that nobody hears us."""
        self._connected = False

    def say_online(self) -> None:
        """Say that we are here."""
        self._say(TopicKind.AVAILABILITY, Availability.ONLINE.encode(), qos=1, retain=True)

    def say_info(self, info: Info) -> None:
        """Say what this device is."""
        self._say(TopicKind.INFO, encode(info), qos=1, retain=True)

    def say_state(self, state: State) -> None:
        """Say ``state`` when it differs from what was said; mere progress at most twice a second."""
        if not self._connected or not _is_news(self._said, state):
            return
        if self._say(TopicKind.STATE, encode(state), qos=1, retain=True):
            self._said = state

    def say_telemetry(self, telemetry: Telemetry) -> None:
        """Say how machine and models are doing; kept by the broker for three intervals where it can forget again."""
        expiry_s = max(1, int(telemetry.interval_s * 3)) if self._supports_expiry else 0
        self._say(TopicKind.TELEMETRY, encode(telemetry), retain=self._supports_expiry, expiry_s=expiry_s)

    def say_events(self) -> None:
        """Say events that nobody has taken yet, a few at a time and in order."""
        room = MAX_EVENTS_ON_THE_WAY - len(self._on_the_way)
        if not self._connected or room <= 0 or self._next_event_seq > self._spool.last_seq:
            return
        for event, _ in zip(self._spool.after(self._next_event_seq - 1), range(room), strict=False):
            topic = self._topics.device(self._device, TopicKind.EVENT)
            message_id = self._publisher.publish(topic, encode(event), qos=1)
            if message_id is None:
                return
            self._on_the_way.append((message_id, event.seq))
            self._next_event_seq = event.seq + 1

    def acknowledged(self, message_id: int) -> None:
        """Note what the broker has taken; an event counts once all before it were taken too."""
        if not any(message_id == number for number, _ in self._on_the_way):
            return
        self._taken.add(message_id)
        newest = 0
        while self._on_the_way and self._on_the_way[0][0] in self._taken:
            number, newest = self._on_the_way.popleft()
            self._taken.discard(number)
        if newest:
            self._spool.acknowledge(newest)
            self.say_events()

    def _say(self, kind: TopicKind, payload: bytes, *, qos: int = 0, retain: bool = False, expiry_s: int = 0) -> bool:
        topic = self._topics.device(self._device, kind)
        taken = self._publisher.publish(topic, payload, qos=qos, retain=retain, expiry_s=expiry_s)
        return self._connected and taken is not None


def _is_news(said: State | None, state: State) -> bool:
    if said is None:
        return True
    now = replace(state, ts=said.ts)
    if _without_progress(now) != _without_progress(said):
        return True
    return now != said and state.ts - said.ts >= STATE_INTERVAL_MS


def _without_progress(state: State) -> State:
    return replace(state, models={name: _model_without_progress(model) for name, model in state.models.items()})


def _model_without_progress(model: ModelState) -> ModelState:
    others = {label: replace(other, transfer=None) for label, other in model.others.items()}
    return replace(model, transfer=None, others=others)
