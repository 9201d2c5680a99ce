"""The operator's connection on real brokers: what it says, hears, and takes up again."""

import json
from collections.abc import Iterator
from pathlib import Path

import iotcore
import pytest
from tests.brokers import TestBroker, free_port

from edgeferry.fleet.asking import ask
from edgeferry.fleet.broker import BrokerAddress, rumqttd_config
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import BrokerError, Connected, Login, Operator, Received, Will
from edgeferry.fleet.settings import BrokerUrl, parse_broker_url
from edgeferry.fleet.watch import FleetWatch
from edgeferry.wire.topics import TopicKind, Topics

TOPICS = Topics()


def connection(broker: TestBroker, client_id: str = "operator-a", will: Will | None = None) -> Operator:
    login = Login("operator", broker.passwords["operator"])
    return Operator(parse_broker_url(broker.url), login, client_id=client_id, will=will)


def watch(broker: TestBroker) -> FleetWatch:
    return FleetWatch(parse_broker_url(broker.url), Login("operator", broker.passwords["operator"]), TOPICS)


def next_message(operator: Operator) -> Received:
    message = operator.receive(10.0)
    assert isinstance(message, Received), f"got {message}"
    return message


def test_nobody_listening_is_told_with_a_way_out() -> None:
    nobody = Operator(BrokerUrl("mqtt", "127.0.0.1", free_port()), Login("operator", "x"), client_id="operator")

    with pytest.raises(BrokerError, match=r"cannot be reached: .*refused.*edgeferry broker run.*EDGEFERRY_BROKER"):
        nobody.connect()


def test_a_name_that_does_not_resolve_is_told() -> None:
    nobody = Operator(BrokerUrl("mqtt", "no-such-host.invalid", 1883), Login("operator", "x"), client_id="operator")

    with pytest.raises(BrokerError, match=r"no-such-host\.invalid:1883 cannot be reached"):
        nobody.connect()


@pytest.fixture
def old_broker(tmp_path: Path) -> Iterator[BrokerUrl]:
    """Yield the embedded broker with a listener that refuses MQTT 5 by closing the connection."""
    port = free_port()
    config = tmp_path / "old.toml"
    config.write_text(rumqttd_config(BrokerAddress("127.0.0.1", port), {"operator": "x"}).replace("v5.1", "v4.1"))
    with iotcore.Broker(config_path=str(config)):
        yield BrokerUrl("mqtt", "127.0.0.1", port)


def test_a_broker_that_refuses_mqtt5_is_spoken_to_in_3_1_1(old_broker: BrokerUrl) -> None:
    with Operator(old_broker, Login("operator", "x"), client_id="operator") as operator:
        operator.subscribe("edgeferry/v1/#")
        operator.publish("edgeferry/v1/tuf/timestamp", b"t", response_topic="r", correlation=b"c", expiry_s=1)

        assert not operator.speaks_mqtt5
        assert next_message(operator).payload == b"t"


def test_a_question_over_3_1_1_carries_its_reply_topic_in_the_body(old_broker: BrokerUrl) -> None:
    login = Login("operator", "x")
    with (
        Operator(old_broker, login, client_id="operator") as operator,
        Operator(old_broker, login, client_id="device") as device,
    ):
        device.subscribe(TOPICS.request("pi", "+"))
        device.publish(TOPICS.request("pi", "marker"), b"subscribed")  # what it hears of itself, it hears of others
        assert next_message(device).payload == b"subscribed"
        with pytest.raises(FleetError, match=r"pi did not answer ping within 0.5 s"):
            ask(operator, TOPICS, "pi", "ping", timeout_s=0.5)

        body = json.loads(next_message(device).payload)

    assert body["reply_to"] == TOPICS.response("pi", "operator")
    assert {"id", "deadline_ms"} <= set(body)


@pytest.mark.broker
def test_correlation_data_comes_back_as_it_was_sent(broker: TestBroker) -> None:
    with connection(broker) as operator:
        operator.subscribe(TOPICS.response("pi", "a"))

        operator.publish(TOPICS.response("pi", "a"), b"x", correlation=b"\x00\xff")

        assert next_message(operator).correlation == b"\x00\xff"


@pytest.mark.broker
def test_subscriptions_are_taken_up_again_after_the_broker_was_away(broker: TestBroker) -> None:
    with connection(broker) as operator:
        operator.subscribe(TOPICS.tuf_timestamp())

        broker.stop()
        broker.start()

        assert isinstance(operator.receive(15.0), Connected)
        operator.publish_acknowledged(TOPICS.tuf_timestamp(), b"again")
        assert next_message(operator).payload == b"again"


@pytest.mark.broker
def test_the_will_is_said_when_the_connection_is_lost_and_not_when_it_is_closed(broker: TestBroker) -> None:
    will = Will(TOPICS.origin("o"), b"offline")
    with connection(broker, "operator-b") as listener:
        listener.subscribe(TOPICS.origin("o"))
        with connection(broker, "operator-closed", will):
            pass
        lost = connection(broker, "operator-lost", will)
        lost.connect()

        lost._client._sock_close()  # the cable is pulled: no DISCONNECT

        assert next_message(listener).payload == b"offline"
        lost.close()


@pytest.mark.broker
def test_a_broker_that_is_gone_is_told_when_an_acknowledgement_is_missing(broker: TestBroker) -> None:
    with connection(broker) as operator:
        broker.stop()

        with pytest.raises(BrokerError, match=r"did not acknowledge .*tuf/timestamp within 1 s"):
            operator.publish_acknowledged(TOPICS.tuf_timestamp(), b"t", timeout_s=1.0)


@pytest.mark.broker
def test_the_doorbell_is_given_back_by_the_broker(broker: TestBroker) -> None:
    with watch(broker) as ringing:
        ringing.ring({1: b"root 1", 2: b"root 2"}, b"timestamp")

    with connection(broker) as late:
        late.subscribe(TOPICS.tuf_root(1), TOPICS.tuf_root(2), TOPICS.tuf_timestamp())
        assert {next_message(late).payload for _ in range(3)} == {b"root 1", b"root 2", b"timestamp"}


@pytest.mark.broker
def test_all_retained_state_is_collected(broker: TestBroker) -> None:
    with connection(broker) as operator:
        for number in range(1500):
            topic = TOPICS.device(f"pi-{number}", TopicKind.AVAILABILITY)
            info = operator.publish(topic, b"online", qos=1, retain=True)
        info.wait_for_publish(20)

    with watch(broker) as collecting:
        view = collecting.collect()

    assert len(view.devices) == 1500


@pytest.mark.broker
def test_a_question_is_answered(broker: TestBroker) -> None:
    with connection(broker) as operator, connection(broker, "operator-as-device") as device:
        device.subscribe(TOPICS.response("pi", "operator-a"), TOPICS.request("pi", "+"))
        device.publish(TOPICS.response("pi", "operator-a"), b'{"id":"of somebody else","ok":1}')

        with pytest.raises(FleetError, match=r"pi did not answer ping within 0.5 s"):
            ask(operator, TOPICS, "pi", "ping", timeout_s=0.5)


@pytest.mark.broker
def test_an_answer_that_is_none_is_told(broker: TestBroker) -> None:
    with connection(broker) as operator:
        operator.publish(TOPICS.response("pi", "operator-a"), b"nonsense", qos=1, retain=True).wait_for_publish(5)

        with pytest.raises(FleetError, match="pi answered with something else"):
            ask(operator, TOPICS, "pi", "ping")
