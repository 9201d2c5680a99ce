"""The operator's MQTT connection: messages in by one bounded queue, messages out with their acknowledgement.

Decides how a workstation speaks to a broker: MQTT 5 first, 3.1.1 where that is refused; clean sessions only, every
subscription taken up again after a reconnect, and each connect announced in the inbox, so that its owner can say again
what a broker may have forgotten. The network thread of paho does nothing but fill queues: an exception in one of its
callbacks would end it without a word.
"""

import contextlib
import logging
import queue
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import BoundedSemaphore, Event
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.settings import BrokerUrl

__all__ = ["BrokerError", "Connected", "Login", "Operator", "Received", "Will"]

log = logging.getLogger(__name__)

KEEPALIVE_S = 30  # brokers drop us after 1.5 times this (MQTT 3.1.1, 3.1.2.10)
INBOX_MESSAGES = 65_536
OUTGOING_MESSAGES = 256
CONNECT_TIMEOUT_S = 10.0
RESTART_PATIENCE_S = 1.5
ACKNOWLEDGE_TIMEOUT_S = 10.0
_MAX_RECONNECT_DELAY_S = 10


class BrokerError(FleetError):
    """The broker cannot be reached, does not let us in, or did not take a message."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects.

    Attributes:
        user: User name at the broker.
        password: Its password.
        ca_pem: Certificate that signed the broker's; empty for those that the system knows.
    """

    user: str
    password: str
    ca_pem: str = ""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says, retained, when the connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker.

    Attributes:
        correlation: MQTT 5's correlation data; empty where there is none.
        received_at: Of the monotonic clock, in seconds.
    """

    topic: str
    payload: bytes
    retained: bool
    correlation: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands, and every subscription has been asked for again."""


class Operator:
    """A connection to the broker, owned by one thread.

    Args:
        url: The broker.
        login: Who connects.
        client_id: Unique at the broker.
        will: What the broker says when this connection is lost.
    """

    def __init__(self, url: BrokerUrl, login: Login, *, client_id: str, will: Will | None = None) -> None:
        self.client_id = client_id
        self.dropped_messages = 0
        self._url = url
        self._login = login
        self._will = will
        self._subscriptions: dict[str, int] = {}
        self._inbox: queue.Queue[Received | Connected] = queue.Queue(INBOX_MESSAGES)
        self._outgoing = BoundedSemaphore(OUTGOING_MESSAGES)
        self._answered = Event()
        self._refusal = ""
        self._client = self._new_client(MQTTProtocolVersion.MQTTv5)

    @property
    def speaks_mqtt5(self) -> bool:
        """Return whether the broker took MQTT 5."""
        return bool(self._client.protocol == MQTTProtocolVersion.MQTTv5)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect and return when the broker has let us in; afterwards the connection keeps itself up.

        Raises:
            BrokerError: Nobody listens, the certificate is not to be trusted, or user or password are wrong.
        """
        refusal = self._try_to_connect(timeout_s)
        if refusal and not _is_about_login(refusal):
            self._client = self._new_client(MQTTProtocolVersion.MQTTv311)
            refusal = self._try_to_connect(timeout_s)
        if refusal:
            raise BrokerError(
                f"broker {self._url} did not let {self._login.user!r} in: {refusal}; its password stands in "
                "secrets/passwords.json of the fleet folder and has to be the one that the broker knows"
            )
        self._client.on_connect = self._on_reconnect

    def close(self) -> None:
        """Say what is left to say and disconnect; the will is not said."""
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, *filters: str, qos: int = 0) -> None:
        """Subscribe now and after every reconnect.

        Retained state is asked for at QoS 0: at QoS 1 a broker replays only the first thousand (mosquitto's
        ``max_queued_messages``).
        """
        for topic_filter in filters:
            self._subscriptions[topic_filter] = qos
            self._client.subscribe(topic_filter, qos)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        response_topic: str = "",
        correlation: bytes = b"",
        expiry_s: int = 0,
    ) -> mqtt.MQTTMessageInfo:
        """Send a message; wait while `OUTGOING_MESSAGES` are still on their way out.

        The last three are MQTT 5's and are left out where the broker speaks 3.1.1.

        Raises:
            BrokerError: No message has left for `ACKNOWLEDGE_TIMEOUT_S`: the connection is lost or stalls.
        """
        self._take_slot()
        properties = self._properties(response_topic, correlation, expiry_s)
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            self._outgoing.release()
            raise BrokerError(f"broker {self._url}: {topic} cannot be sent: {mqtt.error_string(info.rc)}")
        if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and qos == 0:
            self._outgoing.release()  # paho forgets it, so on_publish will not tell
        elif info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS  # paho keeps it, and sends it when it has connected again
        return info

    def publish_acknowledged(
        self, topic: str, payload: bytes, *, retain: bool = False, timeout_s: float = ACKNOWLEDGE_TIMEOUT_S
    ) -> None:
        """Send a message at QoS 1 and return when the broker has it.

        Raises:
            BrokerError: It did not acknowledge in time.
        """
        info = self.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(timeout_s)
        if not info.is_published():
            raise BrokerError(f"broker {self._url} did not acknowledge {topic} within {timeout_s:.0f} s")

    def receive(self, timeout_s: float) -> Received | Connected | None:
        """Return the next message, or None when none came in time."""
        try:
            return self._inbox.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None

    def received_within(self, timeout_s: float) -> Iterator[Received | Connected]:
        """Yield messages as they come until ``timeout_s`` have passed."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self.receive(left_s)
            if message is not None:
                yield message

    def _take_slot(self) -> None:
        deadline = time.monotonic() + ACKNOWLEDGE_TIMEOUT_S
        # in short waits, because a reconnect puts a new semaphore in the place of this one
        while not self._outgoing.acquire(timeout=0.1):
            if time.monotonic() > deadline:
                raise BrokerError(f"broker {self._url} has taken no message for {ACKNOWLEDGE_TIMEOUT_S:.0f} s")

    def _try_to_connect(self, timeout_s: float) -> str:
        """Return why the broker refused, or an empty text; the network thread runs when it did not."""
        self._answered.clear()
        self._refusal = ""
        try:
            self._open_socket()
        except ssl.SSLError as err:
            raise BrokerError(f"broker {self._url}: TLS: {err}; is secrets/ca.pem the certificate of its CA?") from err
        except OSError as err:
            raise BrokerError(
                f"broker {self._url} cannot be reached: {err}; start one with `edgeferry broker run`, or name another "
                "with --broker URL or EDGEFERRY_BROKER"
            ) from err
        self._client.loop_start()
        answered = self._answered.wait(timeout_s)
        if answered and not self._refusal:
            return ""
        self._client.disconnect()
        self._client.loop_stop()
        return self._refusal or f"no answer within {timeout_s:.0f} s"

    def _open_socket(self) -> None:
        """Connect; a broker that is being restarted, as the embedded one for a new device, is given a moment."""
        ends_s = time.monotonic() + RESTART_PATIENCE_S
        while True:
            try:
                self._client.connect(self._url.host, self._url.port, keepalive=KEEPALIVE_S)
            except ConnectionRefusedError:
                if time.monotonic() >= ends_s:
                    raise
                time.sleep(0.1)
            else:
                return

    def _new_client(self, protocol: MQTTProtocolVersion) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=protocol,
            clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else True,
        )
        client.username_pw_set(self._login.user, self._login.password)
        client.reconnect_delay_set(1, _MAX_RECONNECT_DELAY_S)
        client.max_queued_messages_set(OUTGOING_MESSAGES)
        if self._url.tls:
            client.tls_set_context(ssl.create_default_context(cadata=self._login.ca_pem or None))
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_first_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _properties(self, response_topic: str, correlation: bytes, expiry_s: int) -> Properties | None:
        if not self.speaks_mqtt5 or not (response_topic or correlation or expiry_s):
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no type for it
        if response_topic:
            properties.ResponseTopic = response_topic
        if correlation:
            properties.CorrelationData = correlation
        if expiry_s:
            properties.MessageExpiryInterval = expiry_s
        return properties

    # The callbacks run in paho's thread.

    def _on_first_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        self._answered.set()

    def _on_reconnect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            log.warning("broker %s refuses us: %s", self._url, reason)
            return
        # paho has forgotten what it had not sent at QoS 0 and will never tell, so all slots are free again
        self._outgoing = BoundedSemaphore(OUTGOING_MESSAGES)
        for topic_filter, qos in list(self._subscriptions.items()):
            client.subscribe(topic_filter, qos)
        self._put(Connected())

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._answered.is_set():
            self._refusal = "it closed the connection without an answer"
            self._answered.set()
        elif reason.is_failure:
            log.info("connection to %s lost: %s; connecting again", self._url, reason)

    def _on_publish(self, *_: Any) -> None:
        with contextlib.suppress(ValueError):  # a slot taken before a reconnect, which has freed it already
            self._outgoing.release()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # not one of ours
        correlation = getattr(message.properties, "CorrelationData", b"") if message.properties else b""
        self._put(Received(topic, bytes(message.payload), message.retain, correlation, time.monotonic()))

    def _put(self, item: Received | Connected) -> None:
        try:
            self._inbox.put_nowait(item)
        except queue.Full:
            self.dropped_messages += 1


def _send_at_once(_client: Any, _data: Any, sock: Any) -> None:
    # without this, Nagle's algorithm holds small messages back for 40 ms while an acknowledgement is delayed
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_about_login(refusal: str) -> bool:
    return "password" in refusal.lower() or "authorized" in refusal.lower()
