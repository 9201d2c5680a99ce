"""The loop with its real parts on a real directory; broker, origin, trust and serving process are simulated."""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgeferry.agent.errors import StoreError
from edgeferry.agent.events import Happened
from edgeferry.agent.inbox import Disconnected, Done, Stop
from edgeferry.agent.lanes import LaneCrashedError
from edgeferry.agent.runner import MAX_EVENTS_A_STEP, MODEL_ERRORS_MIN, Runner, Sampled, Settings
from edgeferry.agent.spool import MAX_SEGMENTS, SEGMENT_EVENTS
from edgeferry.agent.state import Phase
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.agent.systemd import Notifier
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.messages import EventKind, ModelTelemetry, Outcome, Reason, State, Telemetry
from edgeferry.wire.topics import TopicKind

from .disk_faults import FaultyDisk
from .simulated import DEVICE, INFO, MODEL, TOPICS, Fleet, SimulatedAgent, problem
from .test_spool import events

Boot = Callable[[], SimulatedAgent]
REPLY_TO = TOPICS.response(DEVICE, "operator")


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def boot(memory_path: Path, fleet: Fleet) -> Boot:
    """Return a function that begins the next life of the device."""
    return lambda: SimulatedAgent(memory_path / "device", fleet, disk=FaultyDisk())


@pytest.fixture
def agent(boot: Boot) -> SimulatedAgent:
    return boot()


@pytest.fixture
def watching(fleet: Fleet, boot: Boot) -> SimulatedAgent:
    """A device that watches version 2; version 1 was active before."""
    fleet.publish(fleet.artifact(1))
    boot().run()
    fleet.publish(fleet.artifact(2))
    agent = boot()
    agent.run()
    assert phase_of(agent) is Phase.WATCHING
    return agent


def phase_of(agent: SimulatedAgent) -> Phase | None:
    deployment = agent.state.models[MODEL].deployment
    return deployment.phase if deployment else None


def figures(*, version: int = 2, errors: int = MODEL_ERRORS_MIN, total: int = MODEL_ERRORS_MIN) -> Sampled:
    model = ModelTelemetry(version=version, rps=1.0, total=total, errors_total=errors)
    return Sampled(Telemetry(v=1, ts=1, boot="cafe", seq=1, interval_s=10.0, models={MODEL: model, "unknown": model}))


def live_on(agent: SimulatedAgent, *items: object) -> None:
    """Let the same agent live on, with these in its inbox, until nothing is left to do."""
    for item in items:
        agent.inbox.put(item)
    agent.runner._running = True
    agent.runner.run()


def crash(*, suspect: str = MODEL, is_proven: bool = True) -> ServingDown:
    return ServingDown(Reason.SERVING_CRASHED, None, 11, suspect, 2, is_proven, "the serving process crashed")


class TestDeployments:
    def test_a_published_model_becomes_active_and_is_reported(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))

        agent.run()

        assert agent.hands.serving == {MODEL: 1}
        assert agent.model().labels == {"stable": 1}
        assert agent.model().phase == "watching"

    def test_no_block_is_fetched_twice(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1, blocks=50))

        agent.run()

        assert fleet.blocks_sent == 50 + 3  # the model; documents, manifest and self-test have one block each

    def test_a_version_that_fails_its_trial_is_reported_and_the_old_one_serves(self, fleet: Fleet, boot: Boot) -> None:
        fleet.publish(fleet.artifact(1))
        boot().run()
        fleet.publish(fleet.artifact(2))
        agent = boot()
        agent.hands.trial = problem()

        agent.run()

        last = agent.model().last
        assert last is not None
        assert (last.version, last.outcome, last.problem) == (2, Outcome.FAILED, problem())
        assert agent.hands.serving == {MODEL: 1}

    def test_going_back_moves_no_model(self, fleet: Fleet, boot: Boot) -> None:
        first = fleet.artifact(1)
        for wish in (first, fleet.artifact(2)):
            fleet.publish(wish)
            boot().run()
        fleet.blocks_sent = 0
        fleet.publish(first)
        agent = boot()

        agent.run()

        assert agent.hands.serving == {MODEL: 1}
        assert fleet.blocks_sent == 1  # the document

    def test_an_origin_that_sends_wrong_bytes_is_an_obstacle_and_nothing_of_it_is_kept(
        self, fleet: Fleet, agent: SimulatedAgent
    ) -> None:
        wish = fleet.artifact(1)
        fleet.publish(wish)
        model = next(data for data in fleet.blobs.values() if len(data) > 4000)
        from hashlib import sha256

        fleet.lies[sha256(model).hexdigest()] = model[::-1]

        agent.run()

        assert agent.runner.standing().waiting is not None
        assert agent.model().phase == "fetching"
        assert agent.hands.serving == {}

    def test_without_an_origin_the_device_waits_and_says_so(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))
        agent.connect = lambda protocol=5: None  # type: ignore[method-assign]
        agent.run()
        agent.hear(TOPICS.tuf_timestamp(), fleet.timestamp)

        SimulatedAgent.connect(agent)
        agent.fleet.blobs.clear()
        live_on(agent)

        assert agent.runner.standing().waiting is None or agent.runner.standing().waiting
