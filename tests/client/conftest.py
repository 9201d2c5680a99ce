"""A device that is asked over every protocol: a serving process in this process, and its bridge to a real broker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from edgeferry.agent.bridge import Bridge
from edgeferry.agent.clock import now_ms
from edgeferry.agent.config import BrokerUrl
from edgeferry.agent.connection import Connection, ConnectionSettings
from edgeferry.agent.inbox import Received
from edgeferry.agent.serving_client import ServingClient
from edgeferry.wire.topics import TopicKind, Topics
from tests.agent.waiting import wait_until
from tests.brokers import TestBroker, broker, tls_broker
from tests.serving.conftest import Server, serve, serve_module
from tests.serving.test_guard import identity

__all__ = ["Behind", "behind", "broker", "identity", "serve", "serve_module", "tls_broker"]

DEVICE, TOPICS = "pi", Topics()


@dataclass
class Behind:
    """A device behind a broker."""

    server: Server
    broker: TestBroker
    password: str

    @property
    def url(self) -> str:
        return f"{self.broker.url}/{DEVICE}"


def connect(stack: ExitStack, server: Server, broker: TestBroker, device: str, groups: tuple[str, ...] = ()) -> None:
    """Connect ``device``, whose models ``server`` has, as its agent does."""
    settings = ConnectionSettings(
        client_id=device,
        brokers=(BrokerUrl(broker.host, broker.port, tls=False),),
        password=broker.passwords[device],
        ca_file=None,
        will_topic=TOPICS.device(device, TopicKind.AVAILABILITY),
        subscriptions=((f"{TOPICS.root}/d/{device}/infer/#", 0),),
        inference_prefixes=(TOPICS.infer(device, ""), f"{TOPICS.root}/g/"),
    )

    def offer(message: Received) -> None:
        bridge.offer(message)

    connection = Connection(settings, lambda _: None, offer)
    client = ServingClient(server.socket_path, 10.0)
    bridge = Bridge(client, connection, TOPICS, device, now_ms=now_ms, max_packet_bytes=1 << 20)
    bridge.start()
    stack.callback(bridge.stop, 5.0)
    connection.start()
    stack.callback(connection.stop, (TOPICS.device(device, TopicKind.AVAILABILITY), b"offline"))
    wait_until(lambda: connection.is_connected, "the device to connect")
    connection.share(tuple(TOPICS.group_subscription(group) for group in groups))


@pytest.fixture
def behind(serve: Callable[..., Server], broker: TestBroker) -> Iterator[Behind]:
    server = serve()
    broker.add_device(DEVICE)
    app = broker.add_device("app")
    with ExitStack() as stack:
        connect(stack, server, broker, DEVICE)
        yield Behind(server, broker, app)
