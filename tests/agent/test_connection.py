"""The agent's MQTT connection, on real brokers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import iotcore
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeferry.agent.config import BrokerUrl
from edgeferry.agent.connection import (
    MAX_OUTSTANDING,
    MAX_RECEIVED_BYTES,
    Connection,
    ConnectionSettings,
    _Attempt,
    _End,
    _Next,
)
from edgeferry.agent.inbox import Acknowledged, Connected, Disconnected, Received
from edgeferry.fleet.broker import BrokerAddress, rumqttd_config
from edgeferry.wire.topics import TopicKind, Topics
from tests.brokers import TestBroker, free_port

from .waiting import wait_until

TOPICS = Topics()
DEVICE = "kitchen"
PASSWORD = "a password"
STATE = TOPICS.device(DEVICE, TopicKind.STATE)
AVAILABILITY = TOPICS.device(DEVICE, TopicKind.AVAILABILITY)
REQUEST = TOPICS.request(DEVICE, "ping")
LAST_WORDS = (AVAILABILITY, b"offline")

T = TypeVar("T")


@dataclass
class Device:
    """A connection and what it has told."""

    connection: Connection
    told: list[object] = field(default_factory=list)
    inferences: list[Received] = field(default_factory=list)

    def all(self, kind: type[T]) -> list[T]:
        return [event for event in list(self.told) if isinstance(event, kind)]

    def wait_for(self, kind: type[T], count: int = 1, *, patience_s: float = 15.0) -> T:
        """Return the event of this kind that comes as number ``count``."""
        wait_until(lambda: len(self.all(kind)) >= count, f"{count} of {kind.__name__}", patience_s=patience_s)
        return self.all(kind)[count - 1]


class Person:
    """Somebody at the same broker who hears what the user may hear; with paho alone."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._parts = urlsplit(url)
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=user, protocol=mqtt.MQTTv5)
        self.client.username_pw_set(user, password)
        self.client.on_message = lambda _client, _userdata, message: self.heard.append(
            (message.topic, bytes(message.payload))
        )

    def connect(self) -> "Person":
        assert self._parts.hostname
        assert self._parts.port
        self.client.connect(self._parts.hostname, self._parts.port)
        self.client.loop_start()
        wait_until(self.client.is_connected, "the person to be connected")
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.subscribe("edgeferry/v1/#", qos=1)
        assert subscribed.wait(10)
        return self

    def disconnect(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def heard_on(self, topic: str) -> list[bytes]:
        return [payload for heard, payload in list(self.heard) if heard == topic]


Maker = Callable[..., Device]


@pytest.fixture
def make_device() -> Iterator[Maker]:
    """Return a function that starts a connection, which is stopped in the end."""
    with ExitStack() as stack:

        def make(*urls: str, password: str, ca_file: Path | None = None) -> Device:
            brokers = tuple(BrokerUrl(p.hostname or "", p.port or 0, p.scheme == "mqtts") for p in map(urlsplit, urls))
            settings = ConnectionSettings(
                client_id=DEVICE,
                brokers=brokers,
                password=password,
                ca_file=ca_file,
                will_topic=AVAILABILITY,
                subscriptions=tuple((topic, 1) for topic in TOPICS.device_subscriptions(DEVICE)),
                inference_prefixes=(TOPICS.infer(DEVICE, ""),),
            )
            told: list[object] = []
            inferences: list[Received] = []
            device = Device(Connection(settings, told.append, inferences.append), told, inferences)
            device.connection.start()
            stack.callback(device.connection.stop, LAST_WORDS)
            return device

        yield make


@pytest.fixture
def make_person() -> Iterator[Callable[[TestBroker], Person]]:
    with ExitStack() as stack:

        def make(broker: TestBroker) -> Person:
            person = Person(broker.url, "operator", broker.passwords["operator"]).connect()
            stack.callback(person.disconnect)
            return person

        yield make


@pytest.fixture
def device(broker: TestBroker, make_device: Maker) -> Device:
    device = make_device(broker.url, password=broker.add_device(DEVICE))
    device.wait_for(Connected)
    return device


@pytest.fixture
def person(device: Device, broker: TestBroker, make_person: Callable[[TestBroker], Person]) -> Person:
    return make_person(broker)


@pytest.mark.broker
class TestConversation:
    def test_it_connects_with_mqtt_5(self, device: Device, broker: TestBroker) -> None:
        connected = device.wait_for(Connected)

        assert (connected.url, connected.protocol) == (broker.url, 5)
        assert device.connection.is_connected
        assert device.connection.is_alive

    def test_what_is_published_arrives_and_is_acknowledged(self, device: Device, person: Person) -> None:
        number = device.connection.publish(STATE, b"state", qos=1, retain=True)

        assert number is not None
        wait_until(lambda: person.heard_on(STATE) == [b"state"], "the state")
        wait_until(lambda: Acknowledged(number) in device.told, "the acknowledgement")

    def test_what_others_say_is_received_with_its_properties(self, device: Device, person: Person) -> None:
        properties = mqtt.Properties(mqtt.PacketTypes.PUBLISH)
        properties.ResponseTopic = "answers"
        properties.CorrelationData = b"\x07"
        properties.MessageExpiryInterval = 60
        person.client.publish(REQUEST, b"{}", qos=1, properties=properties)

        received = device.wait_for(Received)

        assert (received.topic, received.payload, received.reply_to, received.correlation) == (
            REQUEST,
            b"{}",
            "answers",
            b"\x07",
        )
        assert received.deadline_ms > 0
        assert not received.retained

    def test_what_was_kept_for_it_is_received_as_such(
        self, broker: TestBroker, make_device: Maker, make_person: Callable[[TestBroker], Person]
    ) -> None:
        password = broker.add_device(DEVICE)
        make_person(broker).client.publish(TOPICS.tuf_timestamp(), b"doorbell", qos=1, retain=True)

        received = make_device(broker.url, password=password).wait_for(Received)

        assert (received.payload, received.retained, received.deadline_ms) == (b"doorbell", True, 0)

    def test_inference_does_not_go_through_the_main_loop(self, device: Device, person: Person) -> None:
        person.client.publish(TOPICS.infer(DEVICE, "digits"), b"{}")

        wait_until(lambda: device.inferences, "the request")
        assert device.all(Received) == []

    def test_whose_request_it_is_comes_with_it(self, device: Device, person: Person) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("other", "x"), ("routing_key", "user-7")]

        person.client.publish(TOPICS.infer(DEVICE, "digits"), b"{}", properties=properties)

        wait_until(lambda: device.inferences, "the request")
        assert device.inferences[0].routing_key == "user-7"

    def test_correlation_and_expiry_are_sent(self, device: Device, person: Person) -> None:
        heard: list[mqtt.MQTTMessage] = []
        person.client.on_message = lambda _client, _userdata, message: heard.append(message)

        device.connection.publish(STATE, b"x", correlation=b"\x09", expiry_s=30)

        wait_until(lambda: heard, "the message")
        properties = heard[0].properties
        assert properties is not None
        assert properties.CorrelationData == b"\x09"
        assert 0 < properties.MessageExpiryInterval <= 30

    def test_its_last_words_are_heard_when_it_is_stopped(self, device: Device, person: Person) -> None:
        device.connection.stop(LAST_WORDS)

        wait_until(lambda: person.heard_on(AVAILABILITY) == [b"offline"], "the last words")
        assert not device.connection.is_alive
        assert device.all(Disconnected) == []

    def test_nothing_is_taken_after_it_was_stopped(self, device: Device) -> None:
        device.connection.stop(LAST_WORDS)

        assert device.connection.publish(STATE, b"x") is None


@pytest.mark.broker
class TestManyThreads:
    """paho calls back while it holds locks of its own: a lock of ours held while publishing ended in a deadlock."""

    def test_several_threads_publish_while_acknowledgements_arrive(self, device: Device) -> None:
        numbers: list[int] = []

        def publish() -> None:
            for _ in range(300):
                number = device.connection.publish(STATE, b"x" * 200, qos=1)
                if number is not None:
                    numbers.append(number)

        threads = [threading.Thread(target=publish, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert not any(thread.is_alive() for thread in threads), "publishing threads wait for each other"
        wait_until(lambda: len(device.all(Acknowledged)) >= len(numbers), f"{len(numbers)} acknowledgements")
        assert len(numbers) > 100

    def test_what_is_acknowledged_makes_room_for_more(self, device: Device) -> None:
        total = MAX_OUTSTANDING + 200
        for done in range(total):
            wait_until(lambda: device.connection.publish(STATE, b"x", qos=1), f"room for message {done}")

        wait_until(lambda: len(device.all(Acknowledged)) == total, "all acknowledgements")


@pytest.mark.broker
class TestRefusals:
    def test_a_wrong_password_is_told_and_tried_again(self, broker: TestBroker, make_device: Maker) -> None:
        broker.add_device(DEVICE)
        device = make_device(broker.url, password="wrong")

        reason = device.wait_for(Disconnected).reason

        assert reason.startswith(broker.url)
        assert device.connection.publish(STATE, b"x") is None
        device.wait_for(Disconnected, 2)
        assert device.all(Connected) == []

    def test_a_device_that_is_let_in_later_is_connected_without_help(
        self, broker: TestBroker, make_device: Maker
    ) -> None:
        device = make_device(broker.url, password="set later")
        device.wait_for(Disconnected)

        broker.add_device(DEVICE)
        broker.stop()
        broker.passwords[DEVICE] = "set later"
        broker.start()

        device.wait_for(Connected, patience_s=40.0)

    def test_a_name_that_does_not_resolve_is_told(self, make_device: Maker) -> None:
        device = make_device("mqtt://no-such-host.invalid:1883", password="x")

        assert device.wait_for(Disconnected).reason.startswith("mqtt://no-such-host.invalid:1883: ")

    def test_the_next_broker_is_tried_when_one_cannot_be_reached(self, broker: TestBroker, make_device: Maker) -> None:
        password = broker.add_device(DEVICE)
        device = make_device(f"mqtt://127.0.0.1:{free_port()}", broker.url, password=password)

        assert device.wait_for(Connected).url == broker.url
        assert "refused" in device.wait_for(Disconnected).reason


@pytest.mark.broker
class TestLosses:
    def test_after_a_restart_of_the_broker_it_is_there_again_and_listens(
        self, device: Device, broker: TestBroker, make_person: Callable[[TestBroker], Person]
    ) -> None:
        broker.stop()
        device.wait_for(Disconnected)
        assert device.connection.publish(STATE, b"x", qos=1) is None

        broker.start()
        device.wait_for(Connected, 2, patience_s=30.0)
        make_person(broker).client.publish(REQUEST, b"{}", qos=1)

        wait_until(lambda: REQUEST in [received.topic for received in device.all(Received)], "the request")

    def test_an_unreachable_broker_is_not_taken_for_one_that_refuses_the_protocol(
        self, device: Device, broker: TestBroker
    ) -> None:
        broker.stop()
        device.wait_for(Disconnected, 3)
        broker.start()

        assert device.wait_for(Connected, 2, patience_s=30.0).protocol == 5

    def test_the_broker_says_offline_for_a_device_that_is_cut_off(self, device: Device, person: Person) -> None:
        """The will is delayed by ten seconds where the broker knows how (MQTT 5, 3.1.3.2.2)."""
        client = device.connection._client
        assert client is not None
        connected = client.socket()
        assert isinstance(connected, socket.socket)

        device.connection._stopping.set()  # so that it does not come back and take the will with it
        connected.shutdown(socket.SHUT_RDWR)

        wait_until(lambda: person.heard_on(AVAILABILITY) == [b"offline"], "the will", patience_s=30.0)

    def test_a_device_that_is_pushed_out_by_another_of_its_name_comes_back(
        self, device: Device, broker: TestBroker
    ) -> None:
        another = Person(broker.url, DEVICE, broker.passwords[DEVICE])
        another.connect()
        device.wait_for(Disconnected)
        another.disconnect()

        device.wait_for(Connected, 2, patience_s=30.0)


@pytest.mark.broker
class TestTls:
    @pytest.fixture
    def ca_file(self, tls_broker: TestBroker, tmp_path: Path) -> Path:
        path = tmp_path / "ca.pem"
        path.write_text(tls_broker.ca_pem)
        return path

    def test_it_connects_to_a_broker_whose_certificate_it_knows(
        self, tls_broker: TestBroker, ca_file: Path, make_device: Maker
    ) -> None:
        device = make_device(tls_broker.url, password=tls_broker.add_device(DEVICE), ca_file=ca_file)

        assert device.wait_for(Connected).url == tls_broker.url

    def test_it_does_not_speak_to_a_broker_whose_certificate_it_does_not_know(
        self, tls_broker: TestBroker, make_device: Maker
    ) -> None:
        device = make_device(tls_broker.url, password=tls_broker.add_device(DEVICE))

        assert "CERTIFICATE_VERIFY_FAILED" in device.wait_for(Disconnected).reason

    def test_a_missing_certificate_file_is_told(self, tls_broker: TestBroker, make_device: Maker) -> None:
        device = make_device(tls_broker.url, password="x", ca_file=Path("/missing/ca.pem"))

        assert "No such file" in device.wait_for(Disconnected).reason


class TestMqtt311:
    """A broker that refuses MQTT 5 by closing the connection without an answer."""

    @pytest.fixture
    def old_broker(self, tmp_path: Path) -> Iterator[str]:
        port = free_port()
        config = tmp_path / "old.toml"
        address = BrokerAddress("127.0.0.1", port)
        config.write_text(rumqttd_config(address, {DEVICE: PASSWORD}).replace("v5.1", "v4.1"))
        with iotcore.Broker(config_path=str(config)):
            yield address.url

    @pytest.fixture
    def device(self, old_broker: str, make_device: Maker) -> Device:
        device = make_device(old_broker, password=PASSWORD)
        device.wait_for(Connected, patience_s=30.0)
        return device

    def test_it_falls_back_to_mqtt_3(self, device: Device) -> None:
        assert device.wait_for(Connected).protocol == 4

    def test_it_publishes_without_the_properties_of_mqtt_5(self, device: Device) -> None:
        number = device.connection.publish(STATE, b"x", qos=1, retain=True, correlation=b"\x01", expiry_s=3)

        assert number is not None
        wait_until(lambda: Acknowledged(number) in device.told, "the acknowledgement")

    def test_it_receives(self, device: Device) -> None:
        device.connection.publish(REQUEST, b"{}", qos=1)

        received = device.wait_for(Received)

        assert (received.payload, received.reply_to, received.correlation, received.deadline_ms) == (b"{}", "", b"", 0)


class TestSilence:
    """A broker that takes connections and messages, and never answers."""

    @pytest.fixture
    def silent_broker(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"mqtt://127.0.0.1:{server.getsockname()[1]}"

    def test_it_can_be_stopped_while_it_waits_for_an_answer(self, silent_broker: str, make_device: Maker) -> None:
        device = make_device(silent_broker, password="x")

        device.connection.stop(LAST_WORDS, timeout_s=0.1)

        assert device.all(Connected) == []

    def test_nothing_is_taken_before_it_is_connected(self, silent_broker: str, make_device: Maker) -> None:
        assert make_device(silent_broker, password="x").connection.publish(STATE, b"x") is None

    def test_a_topic_that_is_no_text_is_dropped(self, silent_broker: str, make_device: Maker) -> None:
        """An exception in a callback would end paho's thread, while the client goes on saying that it is connected."""
        device = make_device(silent_broker, password="x")
        attempt = _Attempt(device.connection, BrokerUrl("127.0.0.1", 1, tls=False), mqtt.MQTTv5)

        attempt._on_message(mqtt.Client(CallbackAPIVersion.VERSION2), None, mqtt.MQTTMessage(topic=b"\xff"))

        assert device.all(Received) == []


class ScriptedBroker:
    """A broker whose words are written down, byte by byte (MQTT 3.1.1 and 5, chapter 3)."""

    ACCEPTED = b"\x20\x03\x00\x00\x00"  # CONNACK of MQTT 5 without properties
    ACCEPTED_3 = b"\x20\x02\x00\x00"  # and of MQTT 3.1.1

    def __init__(self, server: socket.socket) -> None:
        server.settimeout(15.0)
        self.url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        self._server = server
        self._connection: socket.socket | None = None

    def take(self, answer: bytes = b"") -> int:
        """Take the next connection and say ``answer``; return the level of the protocol that it asks for."""
        self.close()
        self._connection, _ = self._server.accept()
        asked = self._connection.recv(4096)
        self.say(answer)
        return asked[asked.index(b"MQTT") + 4]

    def say(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(data)

    def publish(self, topic: str, payload: bytes) -> None:
        name = topic.encode()
        rest = len(name).to_bytes(2, "big") + name + b"\0" + payload
        length = bytes(len(rest) >> shift & 0x7F | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))
        self.say(b"\x30" + length + rest)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = ScriptedBroker(server)
        yield broker
        broker.close()


class TestScripted:
    @pytest.fixture
    def device(self, scripted: ScriptedBroker, make_device: Maker) -> Device:
        device = make_device(scripted.url, password="x")
        assert scripted.take(ScriptedBroker.ACCEPTED) == 5
        device.wait_for(Connected)
        return device

    def test_more_than_it_may_hold_is_not_taken(self, device: Device) -> None:
        taken = [device.connection.publish(STATE, b"x", qos=1) for _ in range(MAX_OUTSTANDING + 10)]

        assert taken.count(None) == 10

    def test_a_message_that_the_broker_refuses_is_not_acknowledged_but_makes_room(
        self, device: Device, scripted: ScriptedBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        refused, taken, *_ = [device.connection.publish(STATE, b"x", qos=1) or 0 for _ in range(MAX_OUTSTANDING)]

        scripted.say(b"\x40\x03" + refused.to_bytes(2, "big") + b"\x87")  # PUBACK, not authorized
        scripted.say(b"\x40\x02" + taken.to_bytes(2, "big"))

        device.wait_for(Acknowledged)
        assert device.all(Acknowledged) == [Acknowledged(taken)]
        assert "the broker refused a message: Not authorized" in caplog.text
        assert [device.connection.publish(STATE, b"x", qos=1) is None for _ in range(3)] == [False, False, True]

    def test_a_subscription_that_the_broker_refuses_is_an_error_in_the_log(
        self, device: Device, scripted: ScriptedBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, *others = TOPICS.device_subscriptions(DEVICE)

        scripted.say(bytes([0x90, 4 + len(others), 0, 1, 0, 0x87, *(1 for _ in others)]))  # SUBACK

        wait_until(lambda: "refused to let us hear" in caplog.text, "the log")
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert f"hear {first} (Not authorized);" in record.getMessage()
        assert device.connection.is_connected

    def test_a_subscription_that_is_granted_is_not_worth_a_line(
        self, device: Device, scripted: ScriptedBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        filters = TOPICS.device_subscriptions(DEVICE)

        scripted.say(bytes([0x90, 3 + len(filters), 0, 1, 0, *(1 for _ in filters)]))
        scripted.publish(REQUEST, b"{}")

        device.wait_for(Received)
        assert caplog.records == []

    @pytest.mark.parametrize("topic", [REQUEST, TOPICS.infer(DEVICE, "digits")])
    def test_a_message_over_the_limit_is_dropped(
        self, device: Device, scripted: ScriptedBroker, topic: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A broker of MQTT 3.1.1 is never told the limit."""
        scripted.publish(topic, b"x" * (MAX_RECEIVED_BYTES + 1))
        scripted.publish(REQUEST, b"x" * MAX_RECEIVED_BYTES)

        assert len(device.wait_for(Received).payload) == MAX_RECEIVED_BYTES
        assert (len(device.all(Received)), device.inferences) == (1, [])
        assert f"dropped a message of {MAX_RECEIVED_BYTES + 1} bytes on {topic}" in caplog.text

    def test_a_hiccup_does_not_leave_it_with_mqtt_3_for_ever(
        self, scripted: ScriptedBroker, make_device: Maker
    ) -> None:
        device = make_device(scripted.url, password="x")
        asked = [scripted.take(), scripted.take(ScriptedBroker.ACCEPTED_3)]
        device.wait_for(Connected)

        asked.append(scripted.take(ScriptedBroker.ACCEPTED))

        assert asked == [5, 4, 5]
        assert device.wait_for(Connected, 2).protocol == 5


@pytest.mark.parametrize(
    ("turn", "what", "following"),
    [
        (0, _Next.SAME_BROKER, 0),
        (1, _Next.SAME_BROKER, 0),
        (3, _Next.SAME_BROKER, 2),
        (0, _Next.PROTOCOL, 1),
        (1, _Next.PROTOCOL, 2),
        (0, _Next.BROKER, 2),
        (1, _Next.BROKER, 2),
    ],
)
def test_every_broker_is_tried_with_mqtt_5_first(turn: int, what: _Next, following: int) -> None:
    assert _End("it ended", what).turn_after(turn) == following
