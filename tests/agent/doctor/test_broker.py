"""How far the doctor gets with brokers: real ones, and sockets that are none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeferry.agent.config import BrokerUrl
from edgeferry.agent.doctor.broker import Credentials, examine_broker
from edgeferry.agent.doctor.finding import Finding, Verdict
from edgeferry.wire.topics import Topics
from tests.brokers import TestBroker, broker, free_port, tls_broker

__all__ = ["broker", "tls_broker"]

PATIENCE_S = 10.0


def look(
    broker: TestBroker, *, password: str, ca_file: Path | None = None, user: str = "pi", of: str = "pi"
) -> Finding:
    url = BrokerUrl(broker.host, broker.port, broker.url.startswith("mqtts"))
    filters = Topics().device_subscriptions("pi")
    return examine_broker(url, Credentials("pi", password, ca_file), filters, patience_s=PATIENCE_S)


@pytest.mark.broker
class TestRealBrokers:
    def test_a_device_that_it_knows_is_let_in_and_may_hear_all_it_needs(self, broker: TestBroker) -> None:
        found = look(broker, password=broker.add_device("pi"))

        assert found.verdict is Verdict.FINE, found

    def test_a_wrong_password_is_told(self, broker: TestBroker) -> None:
        broker.add_device("pi")

        found = look(broker, password="wrong")

        assert found.verdict is Verdict.PROBLEM
        assert "edgeferry token" in found.advice
        assert "wrong" not in found.found

    def test_over_tls_it_is_fine_with_the_right_certificate_and_told_without(
        self, tls_broker: TestBroker, tmp_path: Path
    ) -> None:
        password = tls_broker.add_device("pi")
        (tmp_path / "ca.pem").write_text(tls_broker.ca_pem)

        assert look(tls_broker, password=password, ca_file=tmp_path / "ca.pem").verdict is Verdict.FINE
        found = look(tls_broker, password=password)

        assert found.verdict is Verdict.PROBLEM
        assert "its certificate is not believed" in found.found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def visit(url: BrokerUrl, patience_s: float = 0.3) -> Finding:
    return examine_broker(url, Credentials("pi", "secret", None), ["a/b"], patience_s=patience_s)


def test_a_port_where_nobody_listens_is_told() -> None:
    found = visit(BrokerUrl("127.0.0.1", free_port(), tls=False))

    assert found.verdict is Verdict.PROBLEM
    assert "nobody listens on port" in found.advice


def test_a_name_that_nobody_knows_is_told() -> None:
    found = visit(BrokerUrl("broker.invalid", 1883, tls=False))  # RFC 2606: never a name

    assert found.verdict is Verdict.PROBLEM
    assert "getent hosts broker.invalid" in found.advice


@pytest.mark.parametrize("tls", [False, True])
def test_a_port_that_never_answers_is_left_after_a_while(listener: socket.socket, tls: bool) -> None:
    found = visit(BrokerUrl("127.0.0.1", listener.getsockname()[1], tls=tls))

    assert found.verdict is Verdict.PROBLEM


LETS_IN = bytes.fromhex("20 03 00 00 00")  # MQTT 5, 3.2: CONNACK, success, no properties
HEARD = bytes.fromhex("90 04 00 01 00")  # MQTT 5, 3.9: SUBACK of the first subscription, before its reason code


def test_access_rules_that_leave_something_out_are_told(listener: socket.socket) -> None:
    """Mosquitto lets everybody subscribe and passes nothing on; EMQX says so at once."""
    with answering(listener, [LETS_IN, HEARD + b"\x87"]):
        found = visit(BrokerUrl("127.0.0.1", listener.getsockname()[1], tls=False), PATIENCE_S)

    assert (found.subject, found.verdict) == ("credentials", Verdict.PROBLEM)
    assert "'pi' may not hear a/b" in found.found


def test_a_broker_that_does_not_answer_a_subscription_is_told(listener: socket.socket) -> None:
    with answering(listener, [LETS_IN]):
        found = visit(BrokerUrl("127.0.0.1", listener.getsockname()[1], tls=False), 2.0)

    assert (found.subject, found.verdict) == ("broker", Verdict.PROBLEM)
    assert "does not answer a subscription" in found.found


def test_a_broker_of_mqtt_3_1_1_is_spoken_to_in_3_1_1(listener: socket.socket) -> None:
    with answering(listener, [], [bytes.fromhex("20 02 00 00"), bytes.fromhex("90 03 00 01 00")]):
        found = visit(BrokerUrl("127.0.0.1", listener.getsockname()[1], tls=False), PATIENCE_S)

    assert found.verdict is Verdict.FINE, found


@contextmanager
def answering(listener: socket.socket, *visits: list[bytes]) -> Iterator[None]:
    """Answer the packets of each visit one after the other, then close; what comes first only knocks."""

    def answer() -> None:
        listener.accept()[0].close()
        for answers in visits:
            client, _ = listener.accept()
            with client:
                for data in answers:
                    client.recv(4096)
                    client.sendall(data)
                client.recv(4096)  # its goodbye, or what is not understood

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.broker
def test_a_broker_without_tls_is_told_when_tls_is_wanted(broker: TestBroker) -> None:
    found = visit(BrokerUrl(broker.host, broker.port, tls=True), PATIENCE_S)

    assert found.verdict is Verdict.PROBLEM
    assert found.advice
