"""The embedded broker: whom it lets in, how it follows the passwords, and what it says when it cannot start."""

import os
import signal
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest
from tests.brokers import TestBroker, free_port

from edgeferry.fleet.broker import BrokerAddress, BrokerFailedError, EmbeddedBroker, keep_running, rumqttd_config
from edgeferry.fleet.operator import BrokerError, Login, Operator
from edgeferry.fleet.settings import BrokerUrl


def test_the_configuration_holds_one_mqtt5_listener_with_its_users() -> None:
    config = tomllib.loads(rumqttd_config(BrokerAddress("127.0.0.1", 1883), {"pi": 'a"b\\c', "operator": "x"}))

    assert config["v5"]["1"]["listen"] == "127.0.0.1:1883"
    assert config["v5"]["1"]["connections"]["auth"] == {"operator": "x", "pi": 'a"b\\c'}


def test_without_users_nobody_is_let_in() -> None:
    config = tomllib.loads(rumqttd_config(BrokerAddress("127.0.0.1", 1883), {}))

    assert config["v5"]["1"]["connections"]["auth"]


def test_the_url_of_a_broker_on_all_addresses_names_this_machine() -> None:
    assert BrokerAddress("0.0.0.0", 1883).url == "mqtt://127.0.0.1:1883"
    assert BrokerAddress("192.0.2.7", 1884).url == "mqtt://192.0.2.7:1884"


def test_a_port_in_use_is_told_with_a_way_out(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = BrokerAddress(*other.getsockname())
        broker = EmbeddedBroker(address, tmp_path / "broker.toml")

        with pytest.raises(BrokerFailedError, match=rf"{address.port}.*Address already in use.*--port.*--broker"):
            broker.start({"operator": "x"})

    assert not broker.is_running


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    broker = EmbeddedBroker(BrokerAddress("nowhere", 1883), tmp_path / "broker.toml")

    with pytest.raises(BrokerFailedError, match="nowhere:1883"):
        broker.start({})


def test_the_configuration_with_its_passwords_is_readable_by_the_owner_alone(tmp_path: Path) -> None:
    broker = EmbeddedBroker(BrokerAddress("127.0.0.1", free_port()), tmp_path / "broker.toml")

    broker.start({"operator": "x"})
    broker.stop()

    assert (tmp_path / "broker.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.broker
def test_a_user_with_its_password_is_let_in(broker: TestBroker) -> None:
    with _operator(broker, broker.passwords["operator"]) as operator:
        assert operator.speaks_mqtt5


@pytest.mark.broker
def test_a_wrong_password_is_told(broker: TestBroker) -> None:
    with pytest.raises(BrokerError, match=r"did not let 'operator' in: .*passwords.json"):
        _operator(broker, "wrong").connect()


@pytest.mark.broker
def test_a_device_that_was_added_is_let_in(broker: TestBroker) -> None:
    password = broker.add_device("pi-kitchen")

    with _operator(broker, password, user="pi-kitchen") as operator:
        assert operator.client_id == "pi-kitchen"


@pytest.mark.broker
def test_a_broker_behind_tls_is_trusted_by_its_certificate(tls_broker: TestBroker) -> None:
    with _operator(tls_broker, tls_broker.passwords["operator"]) as operator:
        assert operator.speaks_mqtt5


@pytest.mark.broker
def test_a_broker_with_a_certificate_of_nobody_is_refused(tls_broker: TestBroker) -> None:
    tls_broker.ca_pem = ""

    with pytest.raises(BrokerError, match=r"TLS: .*ca\.pem"):
        _operator(tls_broker, tls_broker.passwords["operator"]).connect()


class Runner:
    """`keep_running` in a thread."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self.passwords = {"operator": "first"}
        self.starts = 0
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        keep_running(self.broker, lambda: dict(self.passwords), stop=self._stop, on_started=self._count)

    def _count(self) -> None:
        self.starts += 1

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.starts == 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with Runner(EmbeddedBroker(BrokerAddress("127.0.0.1", free_port()), tmp_path / "broker.toml")) as running:
        yield running


def test_a_device_added_while_the_broker_runs_is_let_in(runner: Runner) -> None:
    assert not _lets_in(runner.broker.address, "pi", "second")

    runner.passwords["pi"] = "second"
    wait_until(lambda: runner.starts == 2)

    assert _lets_in(runner.broker.address, "pi", "second")


def test_whoever_was_connected_comes_back_after_a_device_was_added(runner: Runner) -> None:
    with Operator(_url(runner.broker.address), Login("operator", "first"), client_id="operator") as operator:
        operator.subscribe("edgeferry/v1/#")

        runner.passwords["pi"] = "second"
        wait_until(lambda: runner.starts == 2)

        assert operator.receive(10) is not None, "the reconnect is announced in the inbox"
        operator.publish("edgeferry/v1/tuf/timestamp", b"again", qos=1)
        message = operator.receive(10)
        assert message is not None
        assert message.payload == b"again"  # type: ignore[union-attr] - Connected has none, and the test would fail


def test_a_broker_that_was_killed_is_started_again(runner: Runner) -> None:
    assert runner.broker.pid is not None
    os.kill(runner.broker.pid, signal.SIGKILL)

    wait_until(lambda: runner.starts == 2)

    assert runner.broker.is_running


def test_it_keeps_trying_while_its_port_is_taken_and_then_starts(runner: Runner) -> None:
    runner.broker.stop()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((runner.broker.address.host, runner.broker.address.port))
        thief.listen()
        wait_until(lambda: not runner.broker.is_running)

    wait_until(lambda: runner.starts == 2)


def wait_until(is_so: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Return as soon as ``is_so``; fail when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s"
        time.sleep(0.02)


def _url(address: BrokerAddress) -> BrokerUrl:
    return BrokerUrl("mqtt", address.host, address.port)


def _lets_in(address: BrokerAddress, user: str, password: str) -> bool:
    try:
        with Operator(_url(address), Login(user, password), client_id=user):
            return True
    except BrokerError:
        return False


def _operator(broker: TestBroker, password: str, user: str = "operator") -> Operator:
    scheme = broker.url.partition(":")[0]
    return Operator(BrokerUrl(scheme, broker.host, broker.port), Login(user, password, broker.ca_pem), client_id=user)
