"""The composition root: a whole agent in this process, on a real broker, until SIGTERM.

What it does with models is told by the tests of the whole system; here the parts meet.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgeferry.agent.assembly import run_agent
from edgeferry.agent.config import AgentConfig, BrokerUrl
from edgeferry.agent.errors import AgentError, AlreadyRunningError
from edgeferry.agent.fsops import Disk
from edgeferry.device_profiles import load_profile
from edgeferry.fleet.repository import Repository
from edgeferry.wire.codec import decode
from edgeferry.wire.messages import Event, EventKind, Info, State, Telemetry
from edgeferry.wire.topics import TopicKind, Topics
from tests.brokers import TestBroker

from .test_connection import Person
from .waiting import wait_until

DEVICE = "kitchen"
TOPICS = Topics()
PROFILE = "generic-x86-64"


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    return Repository.create(tmp_path / "fleet", now=datetime.now(UTC)).roots()[1]


@pytest.fixture
def config(broker: TestBroker, tmp_path: Path, root: bytes) -> AgentConfig:
    return AgentConfig(
        id=DEVICE,
        profile=load_profile(PROFILE),
        groups=("pets",),
        state_dir=tmp_path / "state",
        brokers=(BrokerUrl(broker.host, broker.port, tls=False),),
        password=broker.add_device(DEVICE),
        ca_file=None,
        topic_root=TOPICS.root,
        max_packet_bytes=128 * 1024,
        root=root,
        root_sha256="",
        http="",
        telemetry_interval_s=1,
    )


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give the handlers back that the agent has taken."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def person(broker: TestBroker, config: AgentConfig) -> Iterator[Person]:
    person = Person(broker.url, "operator", broker.passwords["operator"]).connect()
    yield person
    person.disconnect()


def heard(person: Person, kind: TopicKind) -> list[bytes]:
    return person.heard_on(TOPICS.device(DEVICE, kind))


def run_until(config: AgentConfig, is_so: Callable[[], object], what: str) -> None:
    """Run the agent in this thread, where signals are handled, and end it when ``is_so`` answers true."""
    failures: list[AssertionError] = []

    def end() -> None:
        try:
            wait_until(is_so, what, patience_s=40.0)
        except AssertionError as err:
            failures.append(err)
        os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end)
    ending.start()
    run_agent(config)
    ending.join(10)
    assert not failures, failures[0]


@pytest.mark.broker
def test_an_agent_says_everything_of_itself_and_ends_on_sigterm(config: AgentConfig, person: Person) -> None:
    def is_running() -> bool:
        states = heard(person, TopicKind.STATE)
        telemetry = heard(person, TopicKind.TELEMETRY)
        is_serving = bool(states) and decode(State, states[-1]).serving == "running"
        return is_serving and bool(telemetry) and decode(Telemetry, telemetry[-1]).serving_rss_bytes is not None

    run_until(config, is_running, "the agent to run")

    info = decode(Info, heard(person, TopicKind.INFO)[0])
    assert (info.id, info.profile, info.groups) == (DEVICE, PROFILE, ("pets",))
    wait_until(lambda: heard(person, TopicKind.AVAILABILITY)[-1] == b"offline", "the last words")
    kinds = [decode(Event, payload).kind for payload in heard(person, TopicKind.EVENT)]
    assert kinds == [EventKind.STARTED, EventKind.STOPPED]


@pytest.mark.broker
def test_a_state_that_cannot_be_believed_is_set_aside_and_everything_begins_anew(
    config: AgentConfig, person: Person
) -> None:
    Disk().make_directory(config.state_dir)
    (config.state_dir / "state").write_bytes(b"garbage")

    run_until(config, lambda: heard(person, TopicKind.STATE), "the state")

    assert (config.state_dir / "state.damaged").read_bytes() == b"garbage"


@pytest.mark.broker
def test_two_agents_do_not_share_a_directory(config: AgentConfig) -> None:
    disk = Disk()
    disk.make_directory(config.state_dir)
    descriptor = disk.lock(config.state_dir / "lock")

    with pytest.raises(AlreadyRunningError):
        run_agent(config)

    disk.close(descriptor)


@pytest.mark.broker
def test_a_root_that_is_none_ends_the_agent_with_a_message(config: AgentConfig) -> None:
    with pytest.raises(AgentError, match="Failed to deserialize"):
        run_agent(replace(config, root=b"no root"))
