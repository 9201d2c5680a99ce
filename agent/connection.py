"""The agent's MQTT connection: bytes in, events out.

A thread of its own connects, waits for the end of the connection, and connects again with growing, jittered pauses,
going through the brokers in turn and falling back from MQTT 5 to 3.1.1 where a broker refuses it (also by closing
without an answer). After a connection it begins with MQTT 5 again: a hiccup looks like a refusal, and must not last.
paho's callbacks only put into queues: an exception in one of them would end its thread while the client goes on
saying that it is connected.
"""

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgeferry.agent.config import BrokerUrl
from edgeferry.agent.inbox import Acknowledged, Connected, Disconnected, Received

__all__ = ["Connection", "ConnectionSettings"]

logger = logging.getLogger(__name__)

KEEPALIVE_S = 30  # brokers drop us after 1.5 times this (MQTT 3.1.1, 3.1.2.10)
CONNECT_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
STABLE_S = 30.0  # a connection that lasted this long resets the pause
WILL_DELAY_S = 10
MAX_OUTSTANDING = 512  # messages that paho holds for us; it has no bound of its own
MAX_RECEIVED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Whom to connect to, as whom, and what to say when we vanish.

    Attributes:
        will_topic: Where the broker says ``offline`` for us; empty for nowhere.
        subscriptions: Filters with their QoS, taken up on every connect.
        inference_prefixes: Topics below these go to ``on_inference`` and not through the main loop.
        user: Whose password it is; empty where it is the client's id.
    """

    client_id: str
    brokers: tuple[BrokerUrl, ...]
    password: str = field(repr=False)
    ca_file: Path | None
    will_topic: str
    subscriptions: tuple[tuple[str, int], ...]
    inference_prefixes: tuple[str, ...] = ()
    user: str = ""


class Connection:
    """One connection at a time, for ever, until it is stopped.

    Args:
        settings: Whom, as whom, and what.
        emit: Takes events from any thread; must not block for long.
        on_inference: Takes inference messages from the network thread; must not block.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        emit: Callable[[object], None],
        on_inference: Callable[[Received], None],
    ) -> None:
        self._settings = settings
        self._emit = emit
        self._on_inference = on_inference
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connection", daemon=True)
        self._client: mqtt.Client | None = None
        self._answered = threading.Event()  # of the attempt that is under way
        self._accepted = False
        self._outstanding = 0
        self._lock = threading.Lock()
        self._shared: tuple[str, ...] = ()
        self._can_share = False
        self._asked: dict[int, tuple[str, ...]] = {}  # filters by the number of the request for them

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self, last_words: tuple[str, bytes] | None = None, timeout_s: float = 3.0) -> None:
        """Say ``last_words`` (topic and retained payload), if any, and disconnect within ``timeout_s``."""
        self._stopping.set()
        client = self._client
        if client and self._accepted:
            if last_words:
                info = client.publish(*last_words, qos=1, retain=True)
                _wait_published(info, timeout_s)
            client.disconnect()
        self._ended.set()
        self._answered.set()
        self._thread.join(timeout_s)

    @property
    def is_connected(self) -> bool:
        """Whether a broker has accepted us."""
        return self._accepted

    @property
    def is_alive(self) -> bool:
        """Whether the thread that connects lives."""
        return self._thread.is_alive()

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
        """Hand a message to the network thread; from any thread.

        Returns:
            The number that its `Acknowledged` will name, or None when it was not taken: there is no connection, or
            too much is waiting.
        """
        client = self._client
        if client is None or not self._accepted or self._outstanding >= MAX_OUTSTANDING:
            return None
        properties = _publish_properties(client, correlation, expiry_s)
        self._count(1)  # no lock is held while paho publishes: its callbacks would wait for it, and it for them
        info = client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self._count(-1)
            return None
        return info.mid

    def share(self, filters: tuple[str, ...]) -> None:
        """Hear ``filters``, too, and nothing else that was shared before; from any thread.

        A broker that shares gives each message to one of those who hear it. One that does not, or that speaks
        MQTT 3.1.1, is asked for none.
        """
        added, gone = set(filters) - set(self._shared), set(self._shared) - set(filters)
        self._shared = filters
        client = self._client
        if client and self._accepted and self._can_share:
            if gone:
                client.unsubscribe(sorted(gone))
            self._subscribe(client, [(each, 1) for each in sorted(added)])

    # The connecting thread

    def _run(self) -> None:
        attempts = [(url, protocol) for url in self._settings.brokers for protocol in _PROTOCOLS]
        pause_s, turn = FIRST_PAUSE_S, 0
        while not self._stopping.is_set():
            url, protocol = attempts[turn % len(attempts)]
            began_s = time.monotonic()
            end = self._connect_once(url, protocol)
            if self._stopping.is_set():
                return
            self._emit(Disconnected(end.reason))
            turn = end.turn_after(turn)
            if time.monotonic() - began_s > STABLE_S:
                pause_s = FIRST_PAUSE_S
            self._stopping.wait(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing
            pause_s = min(pause_s * 2, MAX_PAUSE_S)

    def _connect_once(self, url: BrokerUrl, protocol: MQTTProtocolVersion) -> "_End":
        """Live through one connection; return how it ended."""
        attempt = _Attempt(self, url, protocol)
        self._ended.clear()
        self._answered = attempt.answered
        if self._stopping.is_set():  # `stop` may have come just before; its word must not be lost
            return _End("stopped", _Next.SAME_BROKER)
        try:
            client = attempt.make_client()
            self._client = client
            attempt.connect(client)
        except (OSError, ValueError) as err:
            return _End(f"{url}: {err}", _Next.BROKER)
        client.loop_start()
        if not attempt.answered.wait(CONNECT_TIMEOUT_S):
            attempt.reason = f"{url}: no answer within {CONNECT_TIMEOUT_S:.0f} s"
        else:
            self._ended.wait()
        self._accepted = False
        client.disconnect()
        client.loop_stop()
        with self._lock:
            self._outstanding = 0
        return _End(attempt.reason, _Next.SAME_BROKER if attempt.accepted else _Next.PROTOCOL)

    def _count(self, change: int) -> None:
        with self._lock:
            self._outstanding = max(self._outstanding + change, 0)

    # From the network thread

    def _accept(self, event: Connected, client: mqtt.Client, *, can_share: bool) -> None:
        self._can_share = can_share
        self._subscribe(client, list(self._settings.subscriptions))
        if can_share:
            self._subscribe(client, [(each, 1) for each in self._shared])
        elif self._shared:
            logger.warning("%s shares no subscriptions, so requests to a group do not reach this device", event.url)
        self._accepted = True
        self._emit(event)

    def _subscribe(self, client: mqtt.Client, filters: list[tuple[str, int]]) -> None:
        if filters:
            _, number = client.subscribe(filters)
            if number is not None:
                self._asked[number] = tuple(each for each, _ in filters)

    def _end(self) -> None:
        self._accepted = False
        self._ended.set()

    def _published(self, message_id: int, code: ReasonCode) -> None:
        self._count(-1)
        if code.is_failure:
            logger.error("the broker refused a message: %s; are its access rules those of docs/protocol.md?", code)
        else:
            self._emit(Acknowledged(message_id))

    def _subscribed(self, number: int, codes: list[ReasonCode]) -> None:
        asked = zip(self._asked.pop(number, ("its groups",)), codes, strict=False)
        refused = ", ".join(f"{pattern} ({code})" for pattern, code in asked if code.is_failure)
        if refused:
            logger.error(
                "the broker refused to let us hear %s; are its access rules those of docs/protocol.md?", refused
            )

    def _received(self, message: Received) -> None:
        if message.topic.startswith(self._settings.inference_prefixes):
            self._on_inference(message)
        else:
            self._emit(message)


_PROTOCOLS = (mqtt.MQTTv5, mqtt.MQTTv311)  # in this order for each broker


class _Next(Enum):
    """What to try after a connection."""

    SAME_BROKER = auto()
    PROTOCOL = auto()
    BROKER = auto()  # one that cannot be reached says nothing of the protocol that it speaks


@dataclass(frozen=True, slots=True)
class _End:
    """How a connection ended, and what to try after it."""

    reason: str
    next: _Next

    def turn_after(self, turn: int) -> int:
        """Return the place after ``turn`` in the list of brokers and protocols; a broker begins with MQTT 5."""
        if self.next is _Next.PROTOCOL:
            return turn + 1
        first = turn - turn % len(_PROTOCOLS)
        return first if self.next is _Next.SAME_BROKER else first + len(_PROTOCOLS)


class _Attempt:
    """One try with one broker and one protocol, and the callbacks that belong to it."""

    def __init__(self, owner: Connection, url: BrokerUrl, protocol: MQTTProtocolVersion) -> None:
        self.answered = threading.Event()
        self.accepted = False
        self.reason = f"{url}: the connection was closed"
        self._owner = owner
        self._url = url
        self._protocol = protocol

    def make_client(self) -> mqtt.Client:
        settings = self._owner._settings  # noqa: SLF001 - the other half of Connection
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        client.username_pw_set(settings.user or settings.client_id, settings.password)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(20)
        if self._url.tls:
            client.tls_set_context(ssl.create_default_context(cafile=settings.ca_file))
        if settings.will_topic:
            client.will_set(settings.will_topic, b"offline", qos=1, retain=True, properties=self._will_properties())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = _send_at_once
        return client

    def connect(self, client: mqtt.Client) -> None:
        properties = None
        if self._protocol == mqtt.MQTTv5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = WILL_DELAY_S + 5  # a will is not delayed beyond its session
            properties.MaximumPacketSize = MAX_RECEIVED_BYTES
        client.connect(self._url.host, self._url.port, KEEPALIVE_S, properties=properties, **self._clean_start())

    def _clean_start(self) -> dict[str, Any]:
        return {"clean_start": True} if self._protocol == mqtt.MQTTv5 else {}

    def _will_properties(self) -> Properties | None:
        if self._protocol != mqtt.MQTTv5:
            return None
        properties = _properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = WILL_DELAY_S
        return properties

    def _on_connect(
        self, client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self.reason = f"{self._url}: {code}"
        else:
            self.accepted = True
            limit = int(getattr(properties, "MaximumPacketSize", 0) or 0)
            shares = self._protocol == mqtt.MQTTv5 and getattr(properties, "SharedSubscriptionAvailable", 1) != 0
            event = Connected(str(self._url), int(self._protocol), limit)
            self._owner._accept(event, client, can_share=shares)  # noqa: SLF001
        self.answered.set()

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        if self.accepted:
            self.reason = f"{self._url}: {code}"
        self._owner._end()  # noqa: SLF001
        self.answered.set()

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # an exception would end paho's thread
            logger.warning("dropped a message whose topic is not UTF-8")
            return
        if len(message.payload) > MAX_RECEIVED_BYTES:  # MQTT 3.1.1 has no way to tell the broker
            logger.warning("dropped a message of %d bytes on %s", len(message.payload), topic[:200])
            return
        properties = message.properties
        expiry_s = getattr(properties, "MessageExpiryInterval", None)
        self._owner._received(  # noqa: SLF001
            Received(
                topic=topic,
                payload=bytes(message.payload),
                reply_to=getattr(properties, "ResponseTopic", ""),
                correlation=getattr(properties, "CorrelationData", b""),
                deadline_ms=int((time.time() + expiry_s) * 1000) if expiry_s else 0,
                retained=message.retain,
                routing_key=_user_property(properties, "routing_key"),
            )
        )

    def _on_publish(
        self, _client: mqtt.Client, _userdata: object, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        self._owner._published(mid, code)  # noqa: SLF001

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: object, mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        self._owner._subscribed(mid, codes)  # noqa: SLF001


def _user_property(properties: Properties | None, name: str) -> str:
    return next((value for key, value in getattr(properties, "UserProperty", ()) if key == name), "")


def _send_at_once(_client: mqtt.Client, _userdata: object, opened: object) -> None:
    """Switch Nagle's algorithm off: with it an inference over MQTT took 44 ms instead of 0.5."""
    if isinstance(opened, socket.socket):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _publish_properties(client: mqtt.Client, correlation: bytes, expiry_s: int) -> Properties | None:
    if client.protocol != mqtt.MQTTv5 or not (correlation or expiry_s):
        return None
    properties = _properties(PacketTypes.PUBLISH)
    if correlation:
        properties.CorrelationData = correlation
    if expiry_s:
        properties.MessageExpiryInterval = expiry_s
    return properties


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this one untyped


def _wait_published(info: mqtt.MQTTMessageInfo, timeout_s: float) -> None:
    try:
        info.wait_for_publish(timeout_s)
    except (RuntimeError, ValueError) as err:
        logger.warning("could not say goodbye: %s", err)
