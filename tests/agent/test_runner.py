"""The loop with its real parts on a real directory; broker, origin, trust and serving process are simulated."""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgeferry.agent.errors import AgentError, StoreError
from edgeferry.agent.events import Happened
from edgeferry.agent.inbox import Disconnected, Done
from edgeferry.agent.lanes import LaneCrashedError
from edgeferry.agent.runner import MAX_EVENTS_A_STEP, MODEL_ERRORS_MIN, Sampled
from edgeferry.agent.spool import MAX_SEGMENTS, SEGMENT_EVENTS
from edgeferry.agent.state import AgentState, Phase
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.agent.systemd import Notifier
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.desired import ModelWish
from edgeferry.wire.messages import (
    EventKind,
    LabelTelemetry,
    ModelTelemetry,
    Outcome,
    Problem,
    Reason,
    State,
    Telemetry,
)
from edgeferry.wire.topics import TopicKind

from .disk_faults import FaultyDisk
from .simulated import DEVICE, INFO, MODEL, ORIGIN, TOPICS, Fleet, SimulatedAgent, problem, ref_of
from .test_spool import events

Boot = Callable[[], SimulatedAgent]


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
def updated(fleet: Fleet, boot: Boot) -> SimulatedAgent:
    """A device at the start of a life in which version 2 comes and is watched; version 1 was active before."""
    fleet.publish(fleet.artifact(1))
    boot().run()
    fleet.publish(fleet.artifact(2))
    return boot()


def phase_of(agent: SimulatedAgent) -> Phase | None:
    deployment = agent.state.models[MODEL].deployment
    return deployment.phase if deployment else None


def last_of(agent: SimulatedAgent) -> tuple[int, Outcome, Reason | None]:
    last = agent.model().last
    assert last is not None
    return last.version, last.outcome, last.problem.reason if last.problem else None


def waiting_in(agent: SimulatedAgent) -> Reason | None:
    waiting = decode(State, agent.post.on(TopicKind.STATE)[-1]).waiting
    return waiting.reason if waiting else None


def figures(*, version: int = 2, errors: int = MODEL_ERRORS_MIN, total: int = MODEL_ERRORS_MIN) -> Done:
    model = ModelTelemetry(version=version, rps=1.0, total=total, errors_total=errors)
    models = {MODEL: model, "unknown": model}
    return Done("telemetry", Sampled(Telemetry(v=1, ts=1, boot="cafe", seq=1, interval_s=10.0, models=models)))


def crash(*, suspect: str = MODEL, is_proven: bool = True) -> ServingDown:
    return ServingDown(Reason.SERVING_CRASHED, None, 11, suspect, 2, is_proven, "the serving process crashed")


class TestDeployments:
    def test_a_published_model_becomes_active_and_is_reported(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))

        agent.run()

        assert agent.hands.serving == {MODEL: 1}
        assert (agent.model().labels, agent.model().phase) == ({"stable": 1}, "watching")

    def test_no_block_is_fetched_twice(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1, blocks=50))

        agent.run()

        assert fleet.blocks_sent == 50 + 3  # the model; document, manifest and self-test have one block each

    def test_a_version_that_fails_its_trial_is_reported_and_the_old_one_serves(self, updated: SimulatedAgent) -> None:
        updated.hands.trial = problem()

        updated.run()

        assert last_of(updated) == (2, Outcome.FAILED, Reason.SELFTEST_MISMATCH)
        assert updated.hands.serving == {MODEL: 1}

    def test_going_back_moves_no_model(self, fleet: Fleet, updated: SimulatedAgent, boot: Boot) -> None:
        updated.run()
        fleet.publish(fleet.artifact(1))
        fleet.blocks_sent = 0
        again = boot()

        again.run()

        assert again.hands.serving == {MODEL: 1}
        assert fleet.blocks_sent == 1  # the document

    def test_a_model_that_is_in_no_document_any_more_is_unloaded_and_removed(
        self, fleet: Fleet, agent: SimulatedAgent
    ) -> None:
        fleet.publish(fleet.artifact(1))

        def forget() -> None:
            fleet.publish()
            agent.ring()

        agent.run(forget)

        assert agent.hands.serving == {}
        assert {path.name for path in (agent.store.directory / "blobs").iterdir()} == agent.follower.documents

    def test_a_restart_without_a_network_serves_what_was_active(self, fleet: Fleet, boot: Boot) -> None:
        fleet.publish(fleet.artifact(1))
        boot().run()
        fleet.timestamp, fleet.is_served = b"", False
        again = boot()

        again.run()

        assert again.hands.serving == {MODEL: 1}
        assert again.model().wanted == 1

    def test_another_wish_takes_the_place_of_one_that_waits_for_an_origin(
        self, fleet: Fleet, updated: SimulatedAgent
    ) -> None:
        """The documents come, the model does not."""
        fleet.lies = {sha256: bytes(len(data)) for sha256, data in fleet.blobs.items() if len(data) > 4000}

        def wish_another() -> None:
            fleet.publish(fleet.artifact(3))
            updated.ring()

        updated.run(wish_another)

        assert updated.hands.serving == {MODEL: 3}
        assert (2, Outcome.SUPERSEDED) in [(event.version, event.outcome) for event in updated.events()]


class TestObstacles:
    def test_without_an_origin_the_device_waits_and_says_so(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))
        fleet.is_served = False

        agent.run()

        assert waiting_in(agent) is Reason.WAITING_FOR_ORIGIN

    def test_when_an_origin_comes_it_goes_on(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))
        fleet.is_served = False

        def come() -> None:
            fleet.is_served = True
            agent.hear(TOPICS.origin(ORIGIN), b"online")

        agent.run(come)

        assert waiting_in(agent) is None
        assert agent.hands.serving == {MODEL: 1}

    def test_wrong_bytes_are_reported_and_never_stored(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))
        sha256, model = max(fleet.blobs.items(), key=lambda blob: len(blob[1]))
        fleet.lies[sha256] = bytes(len(model))

        agent.run()

        assert waiting_in(agent) is Reason.BLOB_MISMATCH
        assert agent.hands.serving == {}

    def test_metadata_with_wrong_bytes_is_dropped_and_reported(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        fleet.publish(fleet.artifact(1))
        for sha256, blob in fleet.blobs.items():
            fleet.lies[sha256] = bytes(len(blob))

        agent.run()

        assert waiting_in(agent) is Reason.BLOB_MISMATCH
        assert agent.hands.serving == {}

    def test_a_damaged_blob_of_metadata_is_fetched_anew(
        self, fleet: Fleet, updated: SimulatedAgent, boot: Boot
    ) -> None:
        updated.run()
        wish = updated.state.models[MODEL].wish
        assert wish is not None
        (document,) = updated.follower.documents - {wish.manifest.sha256}
        path = updated.store.blob_path(document)
        path.write_bytes(path.read_bytes()[::-1])
        again = boot()

        again.run()

        assert again.hands.serving == {MODEL: 2}
        assert again.follower.standing.generation == fleet.generation

    def test_nothing_is_removed_while_metadata_is_on_its_way(self, fleet: Fleet, agent: SimulatedAgent) -> None:
        wish = fleet.artifact(1)
        fleet.publish(wish)
        manifest = fleet.blobs.pop(wish.manifest.sha256)
        blobs = agent.store.directory / "blobs"

        agent.run(agent.runner.request_collection, lambda: None)

        assert len(list(blobs.iterdir())) == 1, "the document was removed before its manifest had come"
        assert not agent.store.has_blob(ref_of(manifest))


class TestServing:
    def test_the_serving_process_is_reported(self, agent: SimulatedAgent) -> None:
        agent.run(lambda: agent.inbox.put(crash(suspect="")), lambda: agent.inbox.put(ServingUp(2)))

        states = [decode(State, payload).serving for payload in agent.post.on(TopicKind.STATE)]
        assert states == ["running", "starting", "running"]
        assert EventKind.SERVING_CRASHED in [event.kind for event in agent.events()]

    def test_what_is_active_is_loaded_into_a_new_process(self, updated: SimulatedAgent) -> None:
        def crash_and_come_back() -> None:
            updated.hands.serving.clear()
            updated.inbox.put(crash(suspect=""))
            updated.inbox.put(ServingUp(2))

        updated.run(crash_and_come_back)

        assert updated.hands.serving == {MODEL: 2}

    def test_a_watched_version_that_crashes_it_is_rolled_back(self, updated: SimulatedAgent) -> None:
        def crash_and_come_back() -> None:
            updated.hands.serving.clear()
            updated.inbox.put(crash())
            updated.inbox.put(ServingUp(2))

        updated.run(crash_and_come_back)

        assert updated.hands.serving == {MODEL: 1}
        assert last_of(updated) == (2, Outcome.ROLLED_BACK, Reason.SERVING_CRASHED)

    def test_an_activation_goes_on_in_the_next_process(self, updated: SimulatedAgent) -> None:
        updated.hands.is_lost = True

        def come_back() -> None:
            updated.hands.is_lost = False
            updated.inbox.put(ServingUp(2))

        updated.run(lambda: updated.inbox.put(crash(suspect="")), come_back)

        assert updated.hands.serving == {MODEL: 2}


def canary_of(fleet: Fleet) -> ModelWish:
    return msgspec.structs.replace(fleet.artifact(2), label="canary", percent=10)


class TestTheCanary:
    @pytest.fixture
    def beside(self, fleet: Fleet, agent: SimulatedAgent) -> SimulatedAgent:
        """An agent whose stable version becomes 1 and whose canary version 2."""
        fleet.publish(fleet.artifact(1), canary_of(fleet))
        return agent

    def test_it_is_reported_beside_the_stable_version(self, beside: SimulatedAgent) -> None:
        beside.run()

        model = beside.model()
        assert model.labels == {"stable": 1, "canary": 2}
        assert (model.wanted, model.others["canary"].wanted) == (1, 2)
        assert model.others["canary"].percent == 10

    def test_its_figures_are_reported_beside_those_of_the_stable_version(self, beside: SimulatedAgent) -> None:
        beside.run(lambda: beside.inbox.put(labelled(errors=0)))

        model = beside.model()
        assert (model.figures, model.others["canary"].figures) == (
            LabelTelemetry(version=1, rps=9.0, total=90, errors_total=0),
            LabelTelemetry(version=2, rps=1.0, total=10, errors_total=0),
        )

    def test_failing_most_of_its_requests_while_watched_it_is_withdrawn(self, beside: SimulatedAgent) -> None:
        beside.run(lambda: beside.inbox.put(labelled(errors=9)))

        assert beside.hands.serving == {MODEL: 1}
        last = beside.model().others["canary"].last
        assert last is not None
        assert (last.version, last.outcome) == (2, Outcome.ROLLED_BACK)

    def test_people_find_the_stable_version_under_its_name(self, beside: SimulatedAgent, fleet: Fleet) -> None:
        beside.run()

        folder = beside.store.directory / "models"
        assert [path.name for path in folder.iterdir()] == [MODEL]
        stable = beside.state.models[MODEL].active
        assert stable is not None
        assert (folder / MODEL / "active").resolve().name == stable.model.sha256

    def test_promoted_it_fetches_and_loads_nothing(self, beside: SimulatedAgent, fleet: Fleet) -> None:
        before: list[int] = []

        def promote() -> None:
            before.extend([fleet.blocks_sent, len(beside.hands.calls)])
            fleet.publish(fleet.artifact(2))
            beside.ring()

        beside.run(promote)

        assert beside.hands.serving == {MODEL: 2}
        sent, calls = before
        assert beside.hands.calls[calls:] == [f"load {MODEL} 2 stable", f"unload {MODEL} canary"]
        assert fleet.blocks_sent - sent <= 2  # the document


def labelled(*, errors: int) -> Done:
    canary = LabelTelemetry(version=2, rps=1.0, total=10, errors_total=errors)
    model = ModelTelemetry(version=1, rps=9.0, total=90, errors_total=0, labels={"canary": canary})
    models = {MODEL: model}
    return Done("telemetry", Sampled(Telemetry(v=1, ts=1, boot="cafe", seq=1, interval_s=10.0, models=models)))


class TestTheWatch:
    def test_a_version_that_fails_most_of_its_requests_is_rolled_back(self, updated: SimulatedAgent) -> None:
        updated.run(lambda: updated.inbox.put(figures()))

        assert updated.hands.serving == {MODEL: 1}
        assert last_of(updated) == (2, Outcome.ROLLED_BACK, Reason.MODEL_ERRORS)

    @pytest.mark.parametrize(
        "read",
        [
            figures(errors=MODEL_ERRORS_MIN - 1, total=MODEL_ERRORS_MIN - 1),
            figures(errors=MODEL_ERRORS_MIN, total=2 * MODEL_ERRORS_MIN),
            figures(version=1),
        ],
        ids=["too few errors", "half of the requests", "figures of the version before"],
    )
    def test_a_version_is_not_rolled_back_for(self, updated: SimulatedAgent, read: Done) -> None:
        updated.run(lambda: updated.inbox.put(read))

        assert phase_of(updated) is Phase.WATCHING

    def test_a_watch_ends_with_its_time(self, updated: SimulatedAgent, boot: Boot) -> None:
        updated.run()
        deployment = updated.state.models[MODEL].deployment
        assert deployment is not None
        ended = msgspec.structs.replace(deployment, until_ms=1)
        record = msgspec.structs.replace(updated.state.models[MODEL], deployment=ended)
        updated.store.save_state(updated.state.with_model(MODEL, record))
        again = boot()

        again.run(lambda: None)

        assert phase_of(again) is None


class TestConnecting:
    def test_the_requests_of_its_groups_are_shared_from_each_connection_on(self, agent: SimulatedAgent) -> None:
        agent.run(agent.connect)

        assert agent.joined[-1] == INFO.groups
        assert len(agent.joined) >= 2

    def test_everything_is_said_again_on_a_new_connection(self, agent: SimulatedAgent) -> None:
        def reconnect() -> None:
            agent.inbox.put(Disconnected("the broker has ended"))
            agent.connect()

        agent.run(reconnect)

        assert agent.post.on(TopicKind.AVAILABILITY) == [b"online", b"online"]
        assert agent.post.on(TopicKind.INFO) == [encode(INFO), encode(INFO)]

    def test_a_device_that_hears_itself_called_offline_says_online(self, agent: SimulatedAgent) -> None:
        topic = TOPICS.device(DEVICE, TopicKind.AVAILABILITY)

        agent.run(lambda: agent.hear(topic, b"offline"), lambda: agent.hear(topic, b"online"))

        assert agent.post.on(TopicKind.AVAILABILITY) == [b"online", b"online"]

    @pytest.mark.parametrize(("protocol", "is_kept"), [(5, True), (4, False)])
    def test_telemetry_is_kept_only_where_the_broker_can_forget_it(
        self, agent: SimulatedAgent, protocol: int, is_kept: bool
    ) -> None:
        agent.run(lambda: agent.connect(protocol), lambda: agent.inbox.put(figures()))

        said = [s for s in agent.post.said if s.topic == TOPICS.device(DEVICE, TopicKind.TELEMETRY)]
        assert [s.retain for s in said] == [is_kept]

    def test_telemetry_is_read_on_connecting(self, agent: SimulatedAgent) -> None:
        agent.run()

        assert agent.samples >= 1

    def test_a_request_is_answered(self, agent: SimulatedAgent) -> None:
        reply_to = TOPICS.response(DEVICE, "operator")

        agent.run(
            lambda: agent.hear(TOPICS.request(DEVICE, "ping"), b"", reply_to),
            lambda: agent.hear(TOPICS.request_all("get"), b"", reply_to),
        )

        assert [said.topic for said in agent.post.said].count(reply_to) == 2

    @pytest.mark.parametrize("topic", ["elsewhere", TOPICS.device(DEVICE, TopicKind.STATE)])
    def test_messages_that_are_not_for_us_are_dropped(self, agent: SimulatedAgent, topic: str) -> None:
        agent.run(lambda: agent.hear(topic, b"x"))

        assert agent.state.models == {}

    def test_a_root_is_taken(self, agent: SimulatedAgent) -> None:
        agent.run(lambda: agent.hear(TOPICS.tuf_root(2), b"root 2"))

        assert agent.follower._roots == {2: b"root 2"}


class TestEvents:
    def test_start_and_stop_are_told(self, agent: SimulatedAgent) -> None:
        agent.run()

        assert [event.kind for event in agent.events()] == [EventKind.STARTED, EventKind.STOPPED]

    def test_numbers_go_on_after_a_restart(self, boot: Boot) -> None:
        boot().run()
        again = boot()
        again.run()

        assert [event.seq for event in again.spool.after(0)] == [1, 2, 3, 4]

    def test_low_voltage_is_an_event_once(self, agent: SimulatedAgent) -> None:
        low = Telemetry(v=1, ts=1, boot="cafe", seq=1, interval_s=10.0, undervoltage=True)
        read = Done("telemetry", Sampled(low))

        agent.run(lambda: agent.inbox.put(read), lambda: agent.inbox.put(read))

        (told,) = [event for event in agent.events() if event.kind is EventKind.HARDWARE]
        assert told.reason is Reason.UNDERVOLTAGE
        assert "power supply" in told.detail

    def test_what_was_dropped_unheard_is_an_event_of_its_own(self, agent: SimulatedAgent) -> None:
        whole = MAX_SEGMENTS * SEGMENT_EVENTS
        agent.spool.append(events(1, whole))
        agent.runner.state = AgentState(next_seq=whole + 1)

        agent.run()

        dropped = [event for event in agent.spool.after(whole) if event.kind is EventKind.SPOOL_DROPPED]
        assert len(dropped) == 1
        assert f"{SEGMENT_EVENTS} events were removed" in dropped[0].detail

    def test_events_that_the_connection_did_not_take_are_said_later(self, agent: SimulatedAgent) -> None:
        def close() -> None:
            agent.post.is_open = False
            agent.local.append(Happened(EventKind.METADATA_REFUSED, problem(Reason.METADATA_ROLLBACK)))

        def open_again() -> None:
            agent.post.is_open = True

        agent.run(close, open_again, lambda: None)

        kinds = [event.kind for event in agent.events()]
        assert kinds == [EventKind.STARTED, EventKind.METADATA_REFUSED, EventKind.STOPPED]

    def test_a_loop_among_the_parts_does_not_starve_the_inbox(self, agent: SimulatedAgent) -> None:
        happened = Happened(EventKind.METADATA_REFUSED, Problem(code=problem().code, reason=Reason.METADATA_EXPIRED))

        agent.run(lambda: agent.local.extend([happened] * (MAX_EVENTS_A_STEP + 5)))

        assert agent.runner._wait_s() >= 0.0
        assert agent.state.next_seq == MAX_EVENTS_A_STEP + 5 + 3


class TestWorkers:
    @pytest.mark.parametrize("error", [LaneCrashedError("worker trust: KeyError()"), StoreError("cannot write")])
    def test_an_error_of_a_worker_ends_the_agent_with_its_message(
        self, agent: SimulatedAgent, error: LaneCrashedError | StoreError
    ) -> None:
        with pytest.raises(type(error), match=str(error)[:10]):
            agent.run(lambda: agent.inbox.put(Done("trust", error)))


class TestTheServiceManager:
    @pytest.fixture
    def manager(self, memory_path: Path) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(str(memory_path / "notify"))
        manager.settimeout(10)
        return manager

    def told(self, memory_path: Path, manager: socket.socket, *, is_healthy: bool) -> list[str]:
        notifier = Notifier(str(memory_path / "notify"), watchdog_s=1e-6)
        agent = SimulatedAgent(memory_path / "device", Fleet(), disk=FaultyDisk(), notifier=notifier)
        agent.is_healthy = is_healthy
        agent.run(notifier.stopping)
        told = [manager.recv(1000).decode()]
        while told[-1] != "STOPPING=1":
            told.append(manager.recv(1000).decode())
        manager.close()
        return told

    def test_it_is_told_of_the_start_and_that_the_agent_lives(self, memory_path: Path, manager: socket.socket) -> None:
        told = self.told(memory_path, manager, is_healthy=True)

        assert told[0] == f"READY=1\nSTATUS=device {DEVICE}"
        assert "WATCHDOG=1" in told

    def test_the_agent_ends_when_a_thread_has_died(self, memory_path: Path, manager: socket.socket) -> None:
        with pytest.raises(AgentError, match="a thread of the agent has died"):
            self.told(memory_path, manager, is_healthy=False)


def test_the_newest_metadata_is_judged_again_every_hour(fleet: Fleet, agent: SimulatedAgent) -> None:
    fleet.publish(fleet.artifact(1))
    looks = 0
    look = agent.truster.look

    def count(roots: dict[int, bytes], timestamp: bytes, *, final: bool) -> object:
        nonlocal looks
        looks += 1
        return look(roots, timestamp, final=final)

    def let_an_hour_pass() -> None:
        agent.truster.look = count  # type: ignore[method-assign, assignment]
        agent.runner._look_again_s = 0.0

    agent.run(let_an_hour_pass, lambda: None)

    assert looks == 1


def test_info_is_said_again_when_the_root_has_changed(fleet: Fleet, agent: SimulatedAgent) -> None:
    fleet.publish(fleet.artifact(1))

    agent.run()

    assert len(agent.post.on(TopicKind.INFO)) == 2  # on connecting, and when the first metadata was believed
