"""A device on its own: broker, origin and workstation are gone; inference goes on, and no event of the time is lost."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from edgeferry.fleet.asking import ask
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import Login, Operator, Received
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.wire.codec import decode
from edgeferry.wire.messages import Event, EventKind
from edgeferry.wire.topics import TopicKind, Topics
from tests.models import artifact_folder
from tests.system.harness import Agent, System, wait_until

pytestmark = pytest.mark.broker

TOPICS = Topics()
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [0] * 64}]}).encode()


@dataclass
class Client:
    """An application that asks the device's model again and again.

    Attributes:
        answers: How many it got.
        failures: What it got instead.
    """

    agent: Agent
    answers: int = 0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._ask, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)

    def ask(self) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.agent.http_port}/v2/models/digits/infer", BODY)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(json.load(answer)["model_version"] == "1")
        except OSError as err:
            self.failures.append(str(err))
            return False

    def _ask(self, stop: threading.Event) -> None:
        while not stop.wait(0.01):
            self.answers += self.ask()


@dataclass
class Reader:
    """Whoever keeps the events of a device: asks for those after its last one, listens, and drops what it has."""

    fleet: System
    events: list[Event] = field(default_factory=list)

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    def read_until(self, seq: int) -> None:
        """Connect, and return when event ``seq`` is here."""
        login = Login("operator", self.fleet.broker.passwords["operator"])
        with Operator(parse_broker_url(self.fleet.broker.url), login, client_id="reader") as operator:
            operator.subscribe(TOPICS.device("pi", TopicKind.EVENT), qos=1)
            wait_until(lambda: self._has_caught_up(operator), "the device to tell what it has kept")
            wait_until(lambda: self._has_read(operator, seq), f"event {seq}")

    def _has_caught_up(self, operator: Operator) -> bool:
        try:
            answer = ask(operator, TOPICS, "pi", "get", parameters={"events_after": self.last_seq}, timeout_s=2)
        except FleetError:
            return False  # the device has not connected again yet
        for event in json.loads(bytes(answer.ok))["events"]:  # type: ignore[arg-type]  # raw JSON
            self._take(decode(Event, json.dumps(event).encode()))
        return True

    def _has_read(self, operator: Operator, seq: int) -> bool:
        message = operator.receive(0.1)
        if isinstance(message, Received) and message.topic == TOPICS.device("pi", TopicKind.EVENT):
            self._take(decode(Event, message.payload))
        return self.last_seq >= seq

    def _take(self, event: Event) -> None:
        if event.seq > self.last_seq:
            self.events.append(event)


def spooled(agent: Agent) -> list[Event]:
    segments = sorted((agent.state_dir / "spool").glob("*.jsonl"))
    return [decode(Event, line) for segment in segments for line in segment.read_bytes().splitlines()]


def test_inference_goes_on_and_every_event_arrives_in_order_and_once(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=1).parent))
    client, reader = Client(agent), Reader(fleet)
    wait_until(client.ask, "the model to answer over REST")
    client.failures.clear()
    reader.read_until(spooled(agent)[-1].seq)

    with client.asking():
        fleet.broker.stop()  # there is no origin any more, and no workstation without a broker
        agent.wait_for_line("not connected")
        wait_until(lambda: client.answers >= 50, "50 answers without a broker")
    assert client.failures == []

    for time in range(2):  # what makes events: crashes of the serving process, and restarts of the agent
        serving = agent.serving_pid()
        assert serving is not None
        os.kill(serving, signal.SIGKILL)
        agent.wait_for_line("serving process answers", times=2 * time + 2)
        assert agent.stop() == 0
        agent.start()
        wait_until(client.ask, "the model to answer again")
    of_that_time = [event for event in spooled(agent) if event.seq > reader.last_seq]

    fleet.broker.start()
    reader.read_until(of_that_time[0].seq)
    fleet.broker.stop()  # in the middle of it
    fleet.broker.start()
    reader.read_until(spooled(agent)[-1].seq)

    assert {event.kind for event in of_that_time} >= {EventKind.STARTED, EventKind.STOPPED, EventKind.SERVING_CRASHED}
    assert [event.seq for event in reader.events] == list(range(1, reader.last_seq + 1))
    assert reader.events == spooled(agent)
