"""A device that is asked over every protocol: a serving process in this process, and its bridge to a real broker."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


@pytest.fixture
def behind(serve: Callable[..., Server], broker: TestBroker, tmp_path: Path) -> Iterator[Behind]:
    server = serve()
    password = broker.add_device(DEVICE)
    app = broker.add_device("app")
    settings = ConnectionSettings(
        client_id=DEVICE,
        brokers=(BrokerUrl(broker.host, broker.port, tls=False),),
        password=password,
        ca_file=None,
        will_topic=TOPICS.device(DEVICE, TopicKind.AVAILABILITY),
        subscriptions=((f"{TOPICS.root}/d/{DEVICE}/infer/#", 0),),
        inference_prefixes=(TOPICS.infer(DEVICE, ""),),
    )
    client = ServingClient(server.socket_path, 10.0)

    def offer(message: Received) -> None:
        bridge.offer(message)

    connection = Connection(settings, lambda _: None, offer)
    bridge = Bridge(client, connection, TOPICS, DEVICE, now_ms=now_ms, max_packet_bytes=1 << 20)
    bridge.start()
    connection.start()
    wait_until(lambda: connection.is_connected, "the device to connect")
    yield Behind(server, broker, app)
    connection.stop((TOPICS.device(DEVICE, TopicKind.AVAILABILITY), b"offline"))
    bridge.stop(5.0)
